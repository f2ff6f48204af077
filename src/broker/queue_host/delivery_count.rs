//! How often a message was delivered before, told to its consumer.

use leveret_protocol::Properties;
use leveret_protocol::header::PROPERTIES_OFFSET;

use crate::model::{BlockBuilder, FieldValue, Message};

use super::QueueHost;

impl QueueHost {
    /// Puts the header `x-delivery-count` into a message that is delivered
    /// again, where the queue counts deliveries, as RabbitMQ's quorum queues do.
    pub(super) fn show_deliveries(&self, message: &mut Message, deliveries: u32) {
        if deliveries > 0
            && self.settings.rules.counts_deliveries()
            && let Some(counted) = with_count(message, deliveries)
        {
            *message = counted;
        }
    }
}

fn with_count(message: &Message, deliveries: u32) -> Option<Message> {
    let (fixed, properties) = message.header().split_at_checked(PROPERTIES_OFFSET)?;
    let mut properties =
        Properties::decode(properties, &leveret_protocol::Limits::default()).ok()?;
    let headers = properties.headers.get_or_insert_default();
    headers.insert("x-delivery-count", FieldValue::I64(deliveries.into()));
    let mut header = fixed.to_vec();
    properties.encode(&mut header);
    let mut builder = BlockBuilder::default();
    builder.arrived(message.arrived());
    builder.push(
        message.envelope(),
        &header,
        message.body(),
        message.traits(),
    );
    Some(Message::new(std::sync::Arc::new(builder.finish()), 0))
}
