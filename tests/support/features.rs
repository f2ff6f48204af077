//! Queues with arguments: declared, refused, and watched without being used.

use std::time::{Duration, Instant};

use leveret_protocol::method::*;
use leveret_protocol::{FieldTable, FieldValue, Method, Properties};

use super::actions::Delivery;
use super::broker::unique;
use super::client::{Client, PATIENCE};
use super::matched;

/// The channel on which a watched queue is tried, apart from the one of `look_up`.
const WATCH_CHANNEL: u16 = 998;

/// A queue's arguments.
pub type Arguments<'a> = &'a [(&'static str, FieldValue)];

/// Where messages go that this queue gives up: straight to that queue.
pub fn dead_letters_to(queue: &str) -> [(&'static str, FieldValue); 2] {
    [
        ("x-dead-letter-exchange", "".into()),
        ("x-dead-letter-routing-key", queue.into()),
    ]
}

/// Arguments as a table.
pub fn table(arguments: Arguments<'_>) -> FieldTable {
    arguments.iter().cloned().collect()
}

/// A message that is to live that long, in milliseconds.
pub fn expiring(expiration: &str) -> Properties {
    Properties {
        expiration: Some(expiration.to_owned()),
        ..Properties::default()
    }
}

/// A message of that priority.
pub fn urgent(priority: u8) -> Properties {
    Properties {
        priority: Some(priority),
        ..Properties::default()
    }
}

/// A message with these headers.
pub fn with_headers(headers: Arguments<'_>) -> Properties {
    Properties {
        headers: Some(table(headers)),
        ..Properties::default()
    }
}

/// Lets time go by, because it is time itself that a test is about.
pub fn pass(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

impl Client {
    /// A fresh queue of this connection with these arguments.
    #[track_caller]
    pub fn queue_with(&mut self, channel: u16, arguments: Arguments<'_>) -> &'static str {
        let queue = unique("feature");
        self.declare(
            channel,
            &QueueDeclare {
                queue,
                exclusive: true,
                arguments: table(arguments),
                ..QueueDeclare::default()
            },
        );
        queue
    }

    /// Declares a fresh queue that must be refused for one of its arguments,
    /// with `why` behind the queue's name, and shows that it is not there.
    #[track_caller]
    pub fn argument_refused(&mut self, arguments: Arguments<'_>, name: &str, why: &str) {
        let queue = unique("refused");
        let declare = QueueDeclare {
            queue,
            exclusive: true,
            arguments: table(arguments),
            ..QueueDeclare::default()
        };
        let text = format!(
            "PRECONDITION_FAILED - invalid arg '{name}' for queue '{queue}' in vhost '/': {why}"
        );
        self.refused(1, &declare, 406, &text);
        assert_eq!(self.look_up(queue), None, "{name}");
    }

    /// Declares that queue again with other arguments, which must be refused.
    #[track_caller]
    pub fn argument_differs(
        &mut self,
        queue: &str,
        arguments: Arguments<'_>,
        name: &str,
        received: &str,
        current: &str,
    ) {
        let declare = QueueDeclare {
            queue,
            exclusive: true,
            arguments: table(arguments),
            ..QueueDeclare::default()
        };
        let text = format!(
            "PRECONDITION_FAILED - inequivalent arg '{name}' for queue '{queue}' in vhost '/': \
             received {received} but current is {current}"
        );
        self.refused(1, &declare, 406, &text);
    }

    /// Publishes one message to a queue and waits until the broker has dealt
    /// with it.
    #[track_caller]
    pub fn put(&mut self, queue: &str, properties: &Properties, body: &str) {
        self.open_channel(WATCH_CHANNEL);
        self.ok(WATCH_CHANNEL, &ConfirmSelect::default());
        self.publish_properties(WATCH_CHANNEL, "", queue, properties, body);
        self.expect_ack(WATCH_CHANNEL);
        self.close_channel(WATCH_CHANNEL);
    }

    /// Takes the next message off a queue, which is to have one soon.
    #[track_caller]
    pub fn await_message(&mut self, channel: u16, queue: &str) -> Delivery {
        self.await_get(channel, queue, true)
    }

    /// The same, to be settled.
    #[track_caller]
    pub fn await_unsettled(&mut self, channel: u16, queue: &str) -> Delivery {
        self.await_get(channel, queue, false)
    }

    #[track_caller]
    fn await_get(&mut self, channel: u16, queue: &str, no_ack: bool) -> Delivery {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(delivery) = self.get(channel, queue, no_ack) {
                return delivery;
            }
            assert!(Instant::now() < deadline, "no message comes to {queue}");
            std::thread::yield_now();
        }
    }

    /// Whether there is such a queue, found out without using it as a declare
    /// would: a message to a queue that is gone comes back.
    #[track_caller]
    pub fn exists(&mut self, queue: &str) -> bool {
        self.open_channel(WATCH_CHANNEL);
        self.ok(WATCH_CHANNEL, &ConfirmSelect::default());
        let publish = BasicPublish {
            routing_key: queue,
            mandatory: true,
            ..BasicPublish::default()
        };
        self.publish_with(WATCH_CHANNEL, &publish, &Properties::default(), b"anybody?");
        let exists = match self.next_method(WATCH_CHANNEL) {
            Method::BasicReturn(_) => {
                self.expect_ack(WATCH_CHANNEL);
                false
            }
            other => matched!(other, Method::BasicAck(_) => true),
        };
        self.close_channel(WATCH_CHANNEL);
        exists
    }

    /// Repeats [`Self::exists`] until the queue is gone.
    #[track_caller]
    pub fn await_expiry(&mut self, queue: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.exists(queue) {
            assert!(Instant::now() < deadline, "{queue} stays");
            std::thread::yield_now();
        }
    }
}
