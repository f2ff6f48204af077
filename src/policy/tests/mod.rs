//! What arguments are taken for, as tables of values and answers.

mod policies;
mod queue_arguments;
mod rules;
mod settings;

use super::*;
use crate::model::{FieldTable, FieldValue, QueueSettings};

fn declare_queue(arguments: FieldTable) -> Result<QueueSettings, String> {
    queue_settings(&"q".into(), &"/".into(), true, false, None, arguments)
        .map_err(|error| error.reply_text().to_string())
}

fn one(name: &str, value: impl Into<FieldValue>) -> FieldTable {
    FieldTable::from_iter([(name, value)])
}
