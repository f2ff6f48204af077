//! What a message shows to the router.

use crate::model::FieldTable;

/// A message as the router sees it.
#[derive(Clone, Copy, Debug)]
pub struct Publish<'a> {
    /// The routing key, then those of CC and BCC.
    pub keys: &'a [&'a str],
    /// Its headers.
    pub headers: &'a FieldTable,
    /// What tells it apart; looked at where [`super::Needs::IDENTIFIERS`] says so.
    pub identifiers: Identifiers<'a>,
    /// A number drawn for this message, any of them as likely as any other;
    /// looked at where [`super::Needs::RANDOM`] says so.
    pub random: u64,
}

/// Properties that a message can be told apart by.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Identifiers<'a> {
    /// The property `message-id`.
    pub message_id: Option<&'a str>,
    /// The property `correlation-id`.
    pub correlation_id: Option<&'a str>,
    /// The property `timestamp`, in seconds since 1970.
    pub timestamp: Option<u64>,
}

impl<'a> Publish<'a> {
    /// A message that shows keys and headers and nothing else.
    #[must_use]
    pub fn new(keys: &'a [&'a str], headers: &'a FieldTable) -> Self {
        Self {
            keys,
            headers,
            identifiers: Identifiers::default(),
            random: 0,
        }
    }
}
