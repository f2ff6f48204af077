//! What a consumer sees of a message that its publisher did not write, and what
//! it does not see. Most messages are delivered as they came.

use std::sync::Arc;

use leveret_protocol::header::PROPERTIES_OFFSET;
use leveret_protocol::{Limits, Properties};

use crate::model::{BlockBuilder, Body, FieldValue, Message};
use crate::policy::is_quorum;

use super::super::properties::without_blind_copies;
use super::QueueHost;

impl QueueHost {
    /// Puts the header `x-delivery-count` into a message that is delivered
    /// again, where the queue counts deliveries, as RabbitMQ's quorum queues do;
    /// takes the header `BCC` out.
    #[inline]
    pub(super) fn dress(&self, message: &mut Message, deliveries: u32, counts: bool) {
        if message.traits().has_blind_copies() {
            hide_blind_copies(message);
        }
        if deliveries > 0 && (counts || is_quorum(&self.settings)) {
            show_count(message, deliveries);
        }
    }
}

#[cold]
fn hide_blind_copies(message: &mut Message) {
    if let Ok(header) = without_blind_copies(message.header()) {
        *message = with_header(message, &header);
    }
}

#[cold]
fn show_count(message: &mut Message, deliveries: u32) {
    let header = message.header();
    let Some((fixed, properties)) = header.split_at_checked(PROPERTIES_OFFSET) else {
        return;
    };
    let Ok(mut properties) = Properties::decode(properties, &Limits::default()) else {
        return;
    };
    let headers = properties.headers.get_or_insert_default();
    headers.insert("x-delivery-count", FieldValue::I64(deliveries.into()));
    let mut header = fixed.to_vec();
    properties.encode(&mut header);
    *message = with_header(message, &header);
}

fn with_header(message: &Message, header: &[u8]) -> Message {
    let mut builder = BlockBuilder::default();
    builder.arrived(message.arrived());
    let (envelope, traits) = (message.envelope(), message.traits());
    match message.body() {
        // It stays where it was read into.
        Body::Chunks(chunks) => builder.push_large(envelope, header, chunks.to_vec(), traits),
        body => {
            builder.push(envelope, header, body, traits);
        }
    }
    Message::new(Arc::new(builder.finish()), 0)
}
