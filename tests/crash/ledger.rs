//! The truth about messages: what was published, confirmed, delivered and acked,
//! as the clients saw it over all crashes, and what follows from it.
//!
//! ```text
//!            deliver              ack                 read for sure
//! Waiting ────────────▶ Waiting ───────▶ AckSent ─────────────────────▶ AckRead(t)
//!    ▲                                      │ crash                       │ crash
//!    │           delivered again            ▼            no               ▼
//!    └────────────────────────────────  Forgettable ◀──────────────── written?
//!                                           │ not in a complete drain     ▼
//!                                           └────────────────────────▶  Gone
//! ```
//! A `Waiting` message that was confirmed must be there; a `Gone` one must never
//! be seen again; the others may be there or not.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use super::body::MessageId;
use super::written::Written;

/// The durable queues of the load, by [`QueueIndex`].
pub const QUEUES: [&str; 10] = [
    "plain-0", "plain-1", "direct-2", "direct-3", "fan-4", "fan-5", "fan-6", "tx-in", "tx-a",
    "tx-b",
];

/// A queue of [`QUEUES`].
pub type QueueIndex = usize;

pub const TX_IN: QueueIndex = 7;
pub const TX_A: QueueIndex = 8;
pub const TX_B: QueueIndex = 9;

/// An exchange and a key, and the queues that they lead to.
pub struct Target {
    pub exchange: &'static str,
    pub routing_key: &'static str,
    pub queues: &'static [QueueIndex],
}

/// Where producers publish. One way to each queue, so that all of a producer's
/// messages in a queue have one order.
#[rustfmt::skip]
pub const TARGETS: [Target; 6] = [
    Target { exchange: "", routing_key: "plain-0", queues: &[0] },
    Target { exchange: "", routing_key: "plain-1", queues: &[1] },
    Target { exchange: "load.direct", routing_key: "two", queues: &[2] },
    Target { exchange: "load.direct", routing_key: "three", queues: &[3] },
    Target { exchange: "load.fanout", routing_key: "", queues: &[4, 5, 6] },
    Target { exchange: "", routing_key: "tx-in", queues: &[TX_IN] },
];

/// What is known of all messages, and what was found wrong.
#[derive(Default)]
pub struct Ledger {
    queues: [HashMap<MessageId, Entry>; QUEUES.len()],
    /// Transactions whose fate the next complete drain tells.
    transactions: Vec<Transaction>,
    pub findings: Vec<String>,
    /// What the cycles have covered, for the summary.
    pub counts: Counts,
}

/// How much was tried.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub crashes: u64,
    pub published: u64,
    pub confirmed: u64,
    pub delivered: u64,
    pub acks_read: u64,
    pub acks_forgotten: u64,
    pub committed: u64,
    pub drained: u64,
}

/// A message in a queue.
#[derive(Clone, Copy)]
struct Entry {
    bytes: u32,
    confirmed: bool,
    /// A client of ours has read it.
    delivered: bool,
    fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Waiting,
    AckSent,
    AckRead(Instant),
    Forgettable,
    /// And the crashes since: kept for two, to name what comes back.
    Gone(u8),
}

/// A message to [`TX_A`] and [`TX_B`] and the ack of one from [`TX_IN`].
struct Transaction {
    id: MessageId,
    input: MessageId,
    input_returned: bool,
}

impl Ledger {
    /// A message is about to be sent to these queues.
    pub fn publish(&mut self, id: MessageId, bytes: usize, queues: &[QueueIndex]) {
        self.counts.published += 1;
        for queue in queues {
            let entry = Entry {
                bytes: bytes as u32,
                confirmed: false,
                delivered: false,
                fate: Fate::Waiting,
            };
            let earlier = self.queues[*queue].insert(id, entry);
            assert!(earlier.is_none(), "the test published {id:?} twice");
        }
    }

    /// Its confirm has come.
    pub fn confirm(&mut self, id: MessageId, queues: &[QueueIndex]) {
        self.counts.confirmed += 1;
        for queue in queues {
            if let Some(entry) = self.queues[*queue].get_mut(&id) {
                entry.confirmed = true;
            }
        }
    }

    /// A delivery has come; whose it is, unless it cannot be told.
    pub fn deliver(
        &mut self,
        queue: QueueIndex,
        body: &[u8],
        redelivered: bool,
    ) -> Option<MessageId> {
        self.counts.delivered += 1;
        let name = QUEUES[queue];
        let Some(id) = MessageId::of(body) else {
            let start = &body[..body.len().min(24)];
            let bytes = body.len();
            self.find(format!("damaged: {bytes} octets in {name}: {start:?}…"));
            return None;
        };
        let Some(entry) = self.queues[queue].get_mut(&id) else {
            self.find(format!(
                "invented: {id:?} in {name} was never published there, or was gone for two crashes"
            ));
            return Some(id);
        };
        let before = *entry;
        entry.delivered = true;
        entry.fate = Fate::Waiting;
        if before.bytes as usize != body.len() {
            let (sent, came) = (before.bytes, body.len());
            self.find(format!(
                "damaged: {id:?} in {name}: {sent} octets, now {came}"
            ));
        }
        if before.delivered && !redelivered {
            self.find(format!(
                "not flagged: {id:?} in {name} was delivered before"
            ));
        }
        match before.fate {
            Fate::Waiting => {}
            Fate::Forgettable => {
                self.counts.acks_forgotten += u64::from(before.delivered);
                if queue == TX_IN {
                    for one in &mut self.transactions {
                        one.input_returned |= one.input == id;
                    }
                }
            }
            Fate::AckSent | Fate::AckRead(_) => {
                self.find(format!("came back without a crash: {id:?} in {name}"));
            }
            Fate::Gone(crashes) => self.find(format!(
                "came back: {id:?} in {name}, settled or lost {crashes} crash(es) ago"
            )),
        }
        Some(id)
    }

    /// An ack is about to be sent.
    pub fn ack(&mut self, queue: QueueIndex, id: MessageId) {
        self.set_fate(queue, id, Fate::AckSent);
    }

    /// The broker has answered something that was sent after these acks.
    pub fn ack_read(&mut self, queue: QueueIndex, ids: impl IntoIterator<Item = MessageId>) {
        let now = Instant::now();
        for id in ids {
            self.counts.acks_read += 1;
            self.set_fate(queue, id, Fate::AckRead(now));
        }
    }

    /// A transaction is about to be committed.
    pub fn commit(&mut self, id: MessageId, bytes: usize, input: MessageId) {
        self.publish(id, bytes, &[TX_A, TX_B]);
        self.ack(TX_IN, input);
        self.transactions.push(Transaction {
            id,
            input,
            input_returned: false,
        });
    }

    /// Its commit-ok has come.
    pub fn committed(&mut self, id: MessageId, input: MessageId) {
        self.counts.committed += 1;
        self.confirm(id, &[TX_A, TX_B]);
        self.ack_read(TX_IN, [input]);
    }

    /// The broker died at that time; or it was stopped, which forgets no ack
    /// that it had read.
    pub fn ended(&mut self, at: Instant, crashed: bool, written: Written) {
        self.counts.crashes += u64::from(crashed);
        for entries in &mut self.queues {
            entries.retain(|_, entry| {
                entry.fate = match entry.fate {
                    Fate::AckRead(read) => {
                        if !crashed || written.has(read, at) {
                            Fate::Gone(1)
                        } else {
                            Fate::Forgettable
                        }
                    }
                    Fate::AckSent => Fate::Forgettable,
                    Fate::Gone(crashes) => Fate::Gone(crashes + 1),
                    other => other,
                };
                !matches!(entry.fate, Fate::Gone(3..))
            });
        }
    }

    /// How many messages a queue holds: at least and at most. To be asked before
    /// anybody consumes.
    pub fn ready_bounds(&self, queue: QueueIndex) -> (usize, usize) {
        let (mut least, mut most) = (0, 0);
        for entry in self.queues[queue].values() {
            least += usize::from(entry.confirmed && entry.fate == Fate::Waiting);
            most += usize::from(!matches!(entry.fate, Fate::Gone(_)));
        }
        (least, most)
    }

    /// All that a queue held was delivered to one client: these.
    pub fn drained(&mut self, queue: QueueIndex, seen: &HashSet<MessageId>) {
        self.counts.drained += seen.len() as u64;
        let mut lost = Vec::new();
        for (id, entry) in &mut self.queues[queue] {
            if seen.contains(id) || matches!(entry.fate, Fate::Gone(_)) {
                continue;
            }
            if entry.confirmed && entry.fate == Fate::Waiting {
                lost.push(*id);
            }
            entry.fate = Fate::Gone(0);
        }
        if !lost.is_empty() {
            lost.sort();
            let (count, first, last) = (lost.len(), lost[0], lost[lost.len() - 1]);
            let name = QUEUES[queue];
            self.find(format!(
                "lost: {count} confirmed in {name}, from {first:?} to {last:?}"
            ));
        }
    }

    /// All queues were drained: transactions happened as a whole or not at all.
    pub fn judge_transactions(&mut self, seen: &[HashSet<MessageId>; QUEUES.len()]) {
        for Transaction {
            id,
            input,
            input_returned,
        } in std::mem::take(&mut self.transactions)
        {
            let (in_a, in_b) = (seen[TX_A].contains(&id), seen[TX_B].contains(&id));
            let what = format!("{id:?} for {input:?}");
            // One that was not confirmed may have been lost itself, as if it had
            // never been there to be acked.
            let input_was_stored = self.queues[TX_IN]
                .get(&input)
                .is_some_and(|entry| entry.confirmed);
            if in_a != in_b {
                self.find(format!("half a transaction: {what}: {in_a} and {in_b}"));
            } else if in_a && input_returned {
                self.find(format!("half a transaction: {what}: its ack is missing"));
            } else if !in_a && !input_returned && input_was_stored {
                self.find(format!("half a transaction: {what}: only its ack is there"));
            }
        }
    }

    /// Something is wrong.
    pub fn find(&mut self, finding: String) {
        self.findings.push(finding);
    }

    /// Whether no client of ours has read that message.
    pub fn undelivered(&self, queue: QueueIndex, id: MessageId) -> bool {
        let entry = self.queues[queue].get(&id);
        entry.is_some_and(|entry| !entry.delivered)
    }

    fn set_fate(&mut self, queue: QueueIndex, id: MessageId, fate: Fate) {
        if let Some(entry) = self.queues[queue].get_mut(&id) {
            entry.fate = fate;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const QUEUE: QueueIndex = 0;
    const ID: MessageId = MessageId {
        producer: 1,
        sequence: 1,
    };
    const TRANSACTION: MessageId = MessageId {
        producer: 8,
        sequence: 1,
    };
    const OLD: Duration = Duration::from_secs(2);

    /// What the ledger finds after these events, one message being published.
    fn found(events: impl FnOnce(&mut Ledger)) -> String {
        let mut ledger = Ledger::default();
        ledger.publish(ID, 20, &[QUEUE]);
        events(&mut ledger);
        ledger.findings.join("; ")
    }

    fn deliver(ledger: &mut Ledger, redelivered: bool) {
        ledger.deliver(QUEUE, &ID.body(20), redelivered);
    }

    /// Crashes that long after everything before.
    fn crash(ledger: &mut Ledger, later: Duration) {
        ledger.ended(Instant::now() + later, true, Written::default());
    }

    fn drained(ledger: &mut Ledger, seen: &[MessageId]) {
        ledger.drained(QUEUE, &seen.iter().copied().collect());
    }

    #[test]
    fn confirmed_messages_must_be_there() {
        let lost = found(|ledger| {
            ledger.confirm(ID, &[QUEUE]);
            crash(ledger, OLD);
            drained(ledger, &[]);
        });
        assert!(lost.starts_with("lost: 1 confirmed in plain-0"), "{lost}");
        let unconfirmed = found(|ledger| {
            crash(ledger, OLD);
            drained(ledger, &[]);
        });
        assert_eq!(unconfirmed, "");
        let once_lost = found(|ledger| {
            crash(ledger, OLD);
            drained(ledger, &[]);
            crash(ledger, OLD);
            deliver(ledger, true);
        });
        assert!(once_lost.starts_with("came back"), "{once_lost}");
    }

    #[test]
    fn acks_may_be_forgotten_only_when_young() {
        let acked = |later| {
            found(|ledger| {
                ledger.confirm(ID, &[QUEUE]);
                deliver(ledger, false);
                ledger.ack(QUEUE, ID);
                ledger.ack_read(QUEUE, [ID]);
                crash(ledger, later);
                deliver(ledger, true);
                drained(ledger, &[ID]);
            })
        };
        assert!(acked(OLD).starts_with("came back"), "{}", acked(OLD));
        assert_eq!(acked(Duration::ZERO), "");
        let gone = found(|ledger| {
            ledger.confirm(ID, &[QUEUE]);
            deliver(ledger, false);
            ledger.ack(QUEUE, ID);
            crash(ledger, OLD);
            drained(ledger, &[]);
        });
        assert_eq!(gone, "");
        let in_one_life = found(|ledger| {
            deliver(ledger, false);
            ledger.ack(QUEUE, ID);
            deliver(ledger, true);
        });
        assert!(
            in_one_life.starts_with("came back without"),
            "{in_one_life}"
        );
    }

    #[test]
    fn deliveries_are_checked() {
        let unflagged = found(|ledger| {
            deliver(ledger, false);
            crash(ledger, OLD);
            deliver(ledger, false);
        });
        assert!(unflagged.starts_with("not flagged"), "{unflagged}");
        let elsewhere = found(|ledger| {
            ledger.deliver(1, &ID.body(20), false);
        });
        assert!(elsewhere.starts_with("invented"), "{elsewhere}");
        let shorter = found(|ledger| {
            ledger.deliver(QUEUE, &ID.body(19), false);
        });
        assert!(shorter.starts_with("damaged"), "{shorter}");
        let changed = found(|ledger| {
            let mut body = ID.body(20);
            body[19] ^= 1;
            ledger.deliver(QUEUE, &body, false);
        });
        assert!(changed.starts_with("damaged"), "{changed}");
    }

    #[test]
    fn transactions_are_whole() {
        for (in_a, in_b, input_returned, input_confirmed, whole) in [
            (true, true, false, true, true),
            (false, false, true, true, true),
            (true, false, false, true, false),
            (false, true, true, true, false),
            (true, true, true, true, false),
            (true, true, true, false, false),
            (false, false, false, true, false),
            (false, false, false, false, true),
        ] {
            let found = found(|ledger| {
                ledger.publish(ID, 20, &[TX_IN]);
                if input_confirmed {
                    ledger.confirm(ID, &[TX_IN]);
                }
                ledger.deliver(TX_IN, &ID.body(20), false);
                ledger.commit(TRANSACTION, 20, ID);
                crash(ledger, OLD);
                if input_returned {
                    ledger.deliver(TX_IN, &ID.body(20), true);
                }
                let mut seen: [HashSet<MessageId>; QUEUES.len()] = Default::default();
                for (queue, there) in [(TX_A, in_a), (TX_B, in_b)] {
                    seen[queue].extend(there.then_some(TRANSACTION));
                }
                ledger.judge_transactions(&seen);
            });
            assert_eq!(
                found.is_empty(),
                whole,
                "{in_a} {in_b} {input_returned}: {found}"
            );
        }
    }
}
