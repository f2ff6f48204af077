//! Direct reply-to (RabbitMQ): a client consumes from the pseudo-queue
//! [`REPLY_TO`] and names it in its requests; whoever answers publishes to the
//! default exchange with a key that leads straight to that client's outbox.
//! There is no queue.

use std::sync::Arc;

use foldhash::HashMap;
use parking_lot::RwLock;

use super::Outbox;
use super::random::token;

/// The pseudo-queue's name, and how the keys of its answers begin.
pub const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// Who waits for answers, by the key that reaches him.
#[derive(Debug, Default)]
pub struct ReplyTargets(RwLock<HashMap<String, (Arc<Outbox>, u32)>>);

impl ReplyTargets {
    /// A new key that leads to a consumer.
    pub fn add(&self, outbox: &Arc<Outbox>, serial: u32) -> String {
        let key = format!("{REPLY_TO}.{}", token());
        self.0
            .write()
            .insert(key.clone(), (Arc::clone(outbox), serial));
        key
    }

    /// The consumer has gone.
    pub fn remove(&self, key: &str) {
        self.0.write().remove(key);
    }

    /// Where an answer goes.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<(Arc<Outbox>, u32)> {
        self.0.read().get(key).cloned()
    }
}

/// Whether an envelope is that of an answer: default exchange, a reply key.
pub(super) fn is_reply(envelope: &[u8]) -> bool {
    match envelope {
        [0, _, key @ ..] => {
            key.starts_with(REPLY_TO.as_bytes()) && key.get(REPLY_TO.len()) == Some(&b'.')
        }
        _ => false,
    }
}
