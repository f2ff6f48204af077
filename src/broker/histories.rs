//! What recent-history exchanges keep for those who bind later.
//!
//! It lives in memory only, also for durable exchanges, and is bounded by the
//! exchange's length and by [`BYTES_MAX`]. A message is a copy of its own: in
//! the block that it came in it would keep its neighbours alive.
//!
//! A message is either in the history when a binding is made, or the binding is
//! there when the message is routed; never both, never neither. To that end
//! who binds holds the histories' lock from before the table changes until the
//! new destination has its messages, and a publisher that routed by an older
//! table routes again before it adds to them. The lock comes after the
//! catalog's and before a queue's.

use std::collections::VecDeque;
use std::sync::Arc;

use foldhash::HashMap;

use crate::model::{Destination, ExchangeName, Message, Now};
use crate::routing::{Binding, Publish, Routed, RoutingTable};

use super::properties::Shown;
use super::publish::deliver;
use super::random::Dice;
use super::{QueueHost, Vhost, Wakes};

/// The histories of one virtual host, by exchange.
#[derive(Debug, Default)]
pub(super) struct Histories(HashMap<ExchangeName, History>);

/// What one exchange keeps, oldest first.
#[derive(Debug, Default)]
struct History {
    messages: VecDeque<Message>,
    bytes: usize,
}

impl Histories {
    /// Adds a message, and lets go of what is then too much.
    pub fn push(&mut self, exchange: &ExchangeName, length: usize, message: Message) {
        let history = self.0.entry(exchange.clone()).or_default();
        history.bytes += message.memory_bytes();
        history.messages.push_back(message);
        while history.messages.len() > length || history.bytes > BYTES_MAX {
            let Some(oldest) = history.messages.pop_front() else {
                return;
            };
            history.bytes -= oldest.memory_bytes();
        }
    }

    /// Forgets exchanges that are gone.
    pub fn prune(&mut self, routing: &RoutingTable) {
        self.0
            .retain(|exchange, _| routing.exchange(exchange.as_str()).is_some());
    }

    fn messages(&self, exchange: &ExchangeName) -> impl Iterator<Item = &Message> {
        let history = self.0.get(exchange).into_iter();
        history.flat_map(|history| &history.messages)
    }
}

impl Vhost {
    /// Gives a new binding's destination what its source has kept, oldest
    /// first. A destination that is an exchange passes it on as if it were
    /// published now.
    pub(super) fn replay(
        &self,
        histories: &Histories,
        routing: &RoutingTable,
        binding: &Binding,
        now: Now,
        wakes: &mut Wakes,
    ) {
        let mut messages: Vec<_> = histories.messages(&binding.source).cloned().collect();
        if messages.is_empty() {
            return;
        }
        let storage = self.ledger.storage();
        match &binding.destination {
            Destination::Queue(queue) => {
                if let Some(host) = self.find_queue(queue.as_str()) {
                    deliver(storage, &host, &mut messages, now, wakes);
                }
            }
            Destination::Exchange(exchange) => {
                for (host, mut messages) in self.route_again(routing, exchange, &messages) {
                    deliver(storage, &host, &mut messages, now, wakes);
                }
            }
        }
    }

    /// The queues that kept messages reach from an exchange, in the order in
    /// which they were reached, each with its messages.
    fn route_again(
        &self,
        routing: &RoutingTable,
        exchange: &ExchangeName,
        messages: &[Message],
    ) -> Vec<(Arc<QueueHost>, Vec<Message>)> {
        let mut reached: Vec<(Arc<QueueHost>, Vec<Message>)> = Vec::new();
        let mut dice = Dice::new();
        let mut routed = Routed::default();
        for message in messages {
            // It was routed once, so it can be read.
            let Ok(shown) = Shown::of(message) else {
                continue;
            };
            let publish = Publish {
                keys: &shown.keys(),
                headers: &shown.headers,
                identifiers: shown.identifiers,
                random: dice.roll(),
            };
            routing.route(exchange.as_str(), &publish, &mut routed);
            for name in &routed.queues {
                let Some(host) = self.find_queue(name.as_str()) else {
                    continue;
                };
                match reached.iter_mut().find(|(one, _)| one.id() == host.id()) {
                    Some((_, messages)) => messages.push(message.clone()),
                    None => reached.push((host, vec![message.clone()])),
                }
            }
        }
        reached
    }
}

/// Octets that one exchange keeps at most, what holds the messages included.
const BYTES_MAX: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(histories: &Histories, exchange: &str) -> Vec<String> {
        let exchange = exchange.into();
        histories
            .messages(&exchange)
            .map(|message| message.routing_key().to_owned())
            .collect()
    }

    #[test]
    fn the_last_messages_are_kept_up_to_a_number_and_a_size() {
        let mut histories = Histories::default();
        for key in ["a", "b", "c", "d"] {
            histories.push(&"x".into(), 3, Message::single("x", key, &[], b"small"));
        }
        histories.push(&"y".into(), 3, Message::single("y", "other", &[], b""));
        assert_eq!(kept(&histories, "x"), ["b", "c", "d"]);
        assert_eq!(kept(&histories, "y"), ["other"]);
        histories.push(&"x".into(), 2, Message::single("x", "e", &[], b""));
        assert_eq!(kept(&histories, "x"), ["d", "e"], "redeclared shorter");

        let large = vec![0; BYTES_MAX / 3];
        for key in ["f", "g", "h"] {
            histories.push(&"x".into(), 100, Message::single("x", key, &[], &large));
        }
        assert_eq!(kept(&histories, "x"), ["g", "h"]);
        let huge = vec![0; BYTES_MAX];
        histories.push(&"x".into(), 100, Message::single("x", "i", &[], &huge));
        assert!(kept(&histories, "x").is_empty(), "it is too large itself");
        assert_eq!(histories.0["x"].bytes, 0);
    }

    #[test]
    fn what_an_exchange_kept_goes_with_it() {
        let mut histories = Histories::default();
        for exchange in ["gone", "amq.topic"] {
            let message = Message::single(exchange, "key", &[], b"");
            histories.push(&exchange.into(), 3, message);
        }
        histories.prune(&RoutingTable::new());
        assert!(kept(&histories, "gone").is_empty());
        assert_eq!(kept(&histories, "amq.topic"), ["key"]);
    }
}
