//! Whether a connection is read. One that publishes is not while an alarm
//! holds, which it is told (`connection.blocked`), nor while the store is behind
//! and has not written what came from it last, which takes a moment only.

use crate::broker::{AlarmSet, Durability};
use crate::model::{Progress, Ticket, Verdict};

use super::connection::Connection;

/// What a connection has published, and why it is not read.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    /// Whether it has ever published.
    publishes: bool,
    /// The alarms for which it is blocked.
    alarms: AlarmSet,
    /// Under which the last of its messages that are stored were appended.
    last_ticket: Ticket,
    /// Whether the store was behind when that was appended, and has not
    /// written it yet.
    stalled: bool,
}

impl Throttle {
    pub(super) fn publishes(&self) -> bool {
        self.publishes
    }

    pub(super) fn reads(&self) -> bool {
        self.alarms.is_empty() && !self.stalled
    }

    /// Messages were given to the store.
    pub(super) fn stored(&mut self, ticket: Ticket, durability: &dyn Durability) {
        self.last_ticket = ticket;
        self.stalled = durability.is_behind();
    }

    pub(super) fn waits_for_store(&self) -> bool {
        self.stalled
    }

    /// The store may have come further.
    pub(super) fn look(&mut self, progress: &Progress) {
        self.stalled = self.stalled && progress.verdict(self.last_ticket) == Verdict::Pending;
    }
}

impl Connection {
    /// From its first publish on, alarms concern this connection.
    #[cold]
    pub(super) fn begin_to_publish(&mut self) {
        self.throttle.publishes = true;
        self.node.alarms().add_publisher(&self.outbox);
    }

    /// Blocks a publisher while an alarm holds. As with RabbitMQ, a client is
    /// told why at the beginning, and not again if another alarm joins.
    pub(super) fn look_at_alarms(&mut self) {
        if !self.throttle.publishes {
            return;
        }
        let alarms = self.node.alarms().raised();
        match (self.throttle.alarms.is_empty(), alarms.reason()) {
            (true, Some(reason)) => self.session.blocked(reason),
            (false, None) => self.session.unblocked(),
            (true, None) | (false, Some(_)) => {}
        }
        self.throttle.alarms = alarms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Waiters;

    /// A store that has written up to `durable` and is behind or not.
    #[derive(Debug, Default)]
    struct Store {
        durable: u64,
        is_behind: bool,
        waiters: Waiters,
    }

    impl Durability for Store {
        fn progress(&self) -> Progress {
            Progress {
                durable: Ticket(self.durable),
                ..Progress::default()
            }
        }

        fn definitions_ticket(&self) -> Ticket {
            Ticket(0)
        }

        fn definitions_verdict(&self, _ticket: Ticket) -> Verdict {
            Verdict::Stored
        }

        fn is_behind(&self) -> bool {
            self.is_behind
        }

        fn waiters(&self) -> &Waiters {
            &self.waiters
        }
    }

    #[test]
    fn who_adds_to_a_store_that_is_behind_is_not_read_until_that_is_written() {
        let mut store = Store::default();
        let mut throttle = Throttle::default();
        throttle.stored(Ticket(1), &store);
        assert!(throttle.reads());
        store.is_behind = true;
        throttle.look(&store.progress());
        assert!(throttle.reads(), "it has not added to what is behind");
        throttle.stored(Ticket(2), &store);
        assert!(!throttle.reads() && throttle.waits_for_store());
        store.durable = 1;
        throttle.look(&store.progress());
        assert!(!throttle.reads());
        store.durable = 2;
        throttle.look(&store.progress());
        assert!(throttle.reads() && !throttle.waits_for_store());
    }
}
