//! What the broker draws by lot: names, and a number for a message.

use crate::model::{ConsumerTag, QueueName};

/// A queue name as RabbitMQ makes them: `amq.gen-` and 22 URL-safe characters.
#[must_use]
pub fn queue_name() -> QueueName {
    QueueName::from(format!("amq.gen-{}", token()))
}

/// A consumer tag as RabbitMQ makes them.
#[must_use]
pub fn consumer_tag() -> ConsumerTag {
    ConsumerTag::from(format!("amq.ctag-{}", token()))
}

/// Numbers drawn for messages: cheap, even, and no secret (splitmix64's sequence).
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    /// Begins at a number that the system draws.
    pub(super) fn new() -> Self {
        let mut octets = [0; 8];
        getrandom::fill(&mut octets).expect("the system gives out random octets");
        Self(u64::from_ne_bytes(octets))
    }

    /// The next number. The router mixes it before it looks at single bits.
    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0
    }
}

/// 22 URL-safe characters that nobody guesses: 132 bits.
pub(super) fn token() -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut octets = [0; 22];
    getrandom::fill(&mut octets).expect("the system gives out random octets");
    octets
        .iter()
        .map(|octet| char::from(ALPHABET[usize::from(octet & 63)]))
        .collect()
}
