//! Whether a connection is read. One that publishes is not while an alarm
//! holds, which it is told (`connection.blocked`), nor while the store is behind
//! and has not written what came from it last, which takes a moment only.

use std::time::{Duration, Instant};

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
    pause: Pause,
}

/// Waiting for consumers (RabbitMQ: flow control). While waiting messages take
/// more memory than they should, a publisher is not read for a few milliseconds
/// after each batch, or until consumers were handed as many. If they were not
/// by then they are slow, and the messages are written out: it is not tried
/// again for a while, because making room for a burst is what queues are for.
///
/// ```text
/// Off ──memory is short──▶ Waiting ──as many were taken──▶ Off
///  ▲                          │ nothing happens
///  └──────a while passes── Useless
/// ```
#[derive(Clone, Copy, Debug, Default)]
enum Pause {
    #[default]
    Off,
    Waiting {
        /// Messages that consumers are to have been handed.
        handed_out: u64,
        until: Instant,
    },
    Useless {
        until: Instant,
    },
}

impl Throttle {
    pub(super) fn publishes(&self) -> bool {
        self.publishes
    }

    pub(super) fn reads(&self) -> bool {
        self.alarms.is_empty() && !self.stalled && !self.pauses()
    }

    /// Whether it waits for consumers: to be looked at again after
    /// [`PAUSE_TICK`].
    pub(super) fn pauses(&self) -> bool {
        matches!(self.pause, Pause::Waiting { .. })
    }

    /// Messages were given to queues.
    pub(super) fn published(&mut self, messages: u32, durability: &dyn Durability) {
        if messages > 0 && durability.memory_is_short() {
            self.consider_pause(Instant::now(), messages, durability);
        }
    }

    fn consider_pause(&mut self, now: Instant, messages: u32, durability: &dyn Durability) {
        if let Pause::Useless { until } = self.pause
            && now < until
        {
            return;
        }
        self.pause = Pause::Waiting {
            handed_out: durability.handed_out() + u64::from(messages),
            until: now + PAUSE_MAX,
        };
    }

    /// A part of a pause is over.
    pub(super) fn look_at_pause(&mut self, now: Instant, durability: &dyn Durability) {
        if let Pause::Waiting { handed_out, until } = self.pause {
            if durability.handed_out() >= handed_out || !durability.memory_is_short() {
                self.pause = Pause::Off;
            } else if now >= until {
                self.pause = Pause::Useless {
                    until: now + PAUSE_AGAIN,
                };
            }
        }
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

/// Completes when a pause is to be looked at, if there is one.
pub(super) async fn pause_tick(pauses: bool) {
    if pauses {
        tokio::time::sleep(PAUSE_TICK).await;
    } else {
        std::future::pending().await
    }
}

/// How often it is looked at whether memory was freed.
const PAUSE_TICK: Duration = Duration::from_millis(1);
/// How long a publisher waits for that.
const PAUSE_MAX: Duration = Duration::from_millis(6);
/// How long it does not wait again after a vain attempt.
const PAUSE_AGAIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Waiters;

    /// A store that has written up to `durable` and is behind or not.
    #[derive(Debug, Default)]
    struct Store {
        durable: u64,
        is_behind: bool,
        memory_is_short: bool,
        handed_out: u64,
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

        fn memory_is_short(&self) -> bool {
            self.memory_is_short
        }

        fn handed_out(&self) -> u64 {
            self.handed_out
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

    #[test]
    fn a_publisher_waits_for_consumers_that_keep_up_and_not_for_others() {
        let mut store = Store::default();
        let mut throttle = Throttle::default();
        let now = Instant::now();
        throttle.published(5, &store);
        assert!(throttle.reads(), "there is memory");
        store.memory_is_short = true;
        throttle.consider_pause(now, 5, &store);
        throttle.look_at_pause(now, &store);
        assert!(!throttle.reads());
        store.handed_out += 5;
        throttle.look_at_pause(now, &store);
        assert!(throttle.reads(), "as many were taken as came");
        throttle.consider_pause(now, 5, &store);
        store.handed_out += 4;
        let later = now + PAUSE_MAX;
        throttle.look_at_pause(later, &store);
        assert!(throttle.reads(), "consumers are slow");
        throttle.consider_pause(later, 5, &store);
        assert!(throttle.reads(), "it has just been tried");
        throttle.consider_pause(later + PAUSE_AGAIN, 5, &store);
        assert!(!throttle.reads());
        store.memory_is_short = false;
        throttle.look_at_pause(later + PAUSE_AGAIN, &store);
        assert!(throttle.reads(), "there is memory again");
    }
}
