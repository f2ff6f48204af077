//! What a node tells about itself, as messages of its own: a copy of every
//! message that is published into a virtual host or delivered from it (the
//! firehose), and events such as a queue that was created.
//!
//! ```text
//! Publisher, connections ─▶ traces ─┐
//! catalogs, connections ──▶ events ─┴─ Announcer ─▶ queues that are bound to
//!                                        amq.rabbitmq.trace, amq.rabbitmq.event
//! ```
//!
//! Exchanges, keys and headers are RabbitMQ's: those of `rabbit_trace` and of
//! the plugin `rabbitmq_event_exchange`. There is no command to switch anything
//! on: a virtual host is traced, and events are made, while something is bound
//! to the exchange. As long as nothing is, a flag is all that it costs.
//!
//! Notices are posted under whatever lock their cause is found under, so that
//! they keep its order. Nobody waits for them: a mailbox that is full drops what
//! comes, and the log says so.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use crate::model::UserName;

use super::Clock;

use mailbox::Mailbox;
use traces::Trace;

mod announcer;
mod events;
mod listeners;
mod mailbox;
mod properties;
mod terms;
mod traces;

pub use announcer::announce;
pub(super) use events::Event;
pub use events::{ConnectionFacts, ConsumerFacts};

/// What a node has to tell.
#[derive(Debug)]
pub struct Notices {
    clock: Clock,
    node_name: OnceLock<String>,
    /// Whether something is bound to the exchange of events.
    events_wanted: AtomicBool,
    events: Mailbox<(u64, Event)>,
    traces: Mailbox<Trace>,
    posted: Notify,
}

impl Notices {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock,
            node_name: OnceLock::new(),
            events_wanted: AtomicBool::new(false),
            events: Mailbox::default(),
            traces: Mailbox::default(),
            posted: Notify::new(),
        }
    }

    /// What the node calls itself from now on; to be said once.
    pub fn set_node_name(&self, name: &str) {
        // A second name would only confuse whoever reads what was told before.
        let _ = self.node_name.set(name.to_owned());
    }

    fn node_name(&self) -> &str {
        self.node_name.get().map_or("leveret", String::as_str)
    }

    /// Tells of an event if anybody wants to know; it is made from the node's
    /// name.
    #[inline]
    pub(super) fn tell(&self, event: impl FnOnce(&str) -> Event) {
        if self.events_wanted() {
            let event = event(self.node_name());
            let bytes = event.bytes();
            self.events.post((self.clock.now().millis(), event), bytes);
            self.posted.notify_one();
        }
    }

    fn events_wanted(&self) -> bool {
        self.events_wanted.load(Ordering::Acquire)
    }

    /// Takes out the events that wait, as their keys.
    #[cfg(test)]
    pub(super) fn take_event_keys(&self) -> Vec<&'static str> {
        let mut events = Vec::new();
        self.events.take(&mut events);
        let keys = events.into_iter().map(|(_, event)| event.into_parts().0);
        keys.collect()
    }

    fn trace(&self, trace: Trace) {
        let bytes = trace.message.stored_bytes();
        self.traces.post(trace, bytes);
        self.posted.notify_one();
    }
}

/// Who does what nobody asked for, as RabbitMQ calls it.
pub(super) fn broker_user() -> UserName {
    UserName::from("rmq-internal")
}

#[cfg(test)]
mod tests;
