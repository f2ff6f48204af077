//! Names that the broker makes up.

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
