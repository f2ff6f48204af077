//! What a connection awaits from the store: confirms, and answers that promise
//! something durable.
//!
//! Such an answer lies in the output and is held there, with all that follows
//! it, until the store has what it promises. The connection goes on reading and
//! working meanwhile, so that a row of declares costs one commit.

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;
use leveret_protocol::Method;

use crate::broker::Durability;
use crate::model::{BrokerError, Progress, Ticket, Verdict};

use super::connection::Connection;

/// What held output waits for, all of it; nothing is held while it is empty.
#[derive(Debug, Default)]
pub(super) struct Barrier {
    definitions: VecDeque<Ticket>,
    log: VecDeque<Ticket>,
    /// The last method whose answer is held, for a failure.
    method: (u16, u16),
}

/// A call that may change durable definitions, before it is made.
#[derive(Debug)]
pub(super) struct DefinitionCall {
    method: (u16, u16),
    /// Where its answer will lie in the output.
    place: usize,
    /// The last change before it.
    last: Ticket,
}

impl DefinitionCall {
    /// `None` if the method defines nothing.
    pub(super) fn new(method: &Method<'_>, connection: &mut Connection) -> Option<Self> {
        // A passive declare as well: what it says is there must stay there.
        let defines = matches!(
            method,
            Method::ExchangeDeclare(_)
                | Method::ExchangeDelete(_)
                | Method::ExchangeBind(_)
                | Method::ExchangeUnbind(_)
                | Method::QueueDeclare(_)
                | Method::QueueBind(_)
                | Method::QueueUnbind(_)
                | Method::QueueDelete(_)
        );
        defines.then(|| Self {
            method: method.ids(),
            place: connection.session.output().pending_bytes(),
            last: connection.node.durability().definitions_ticket(),
        })
    }
}

impl Connection {
    /// Holds the answer of a call that went well until the definitions are
    /// durable: its own change, or another connection's that it rests on.
    pub(super) fn hold_for_definitions(&mut self, call: &DefinitionCall) {
        let durability = self.node.durability();
        let ticket = durability.definitions_ticket();
        match durability.definitions_verdict(ticket) {
            Verdict::Stored => return,
            // Long over, and none of this call's business: it changed nothing.
            Verdict::Failed if ticket == call.last => return,
            Verdict::Failed | Verdict::Pending => {}
        }
        self.session.output().hold_behind(call.place);
        self.barrier.method = call.method;
        append(&mut self.barrier.definitions, ticket);
    }

    /// Holds the answer of a commit, at that place, until its messages are stored.
    pub(super) fn hold_for_log(&mut self, place: usize, ticket: Ticket) {
        if ticket == Ticket(0) {
            return;
        }
        self.session.output().hold_behind(place);
        self.barrier.method = COMMIT_IDS;
        append(&mut self.barrier.log, ticket);
    }

    /// Passes on what the store has decided since the last look. Costs nothing
    /// while nothing is awaited.
    ///
    /// # Errors
    /// If what was promised cannot be stored and the client cannot be told any
    /// more.
    pub(super) fn look_at_store(&mut self) -> io::Result<()> {
        let holds = !self.barrier.is_empty();
        if !holds && !self.session.waits_for_store() && !self.throttle.waits_for_store() {
            return Ok(());
        }
        let durability = self.node.durability();
        durability.waiters().add(&self.outbox);
        let progress = durability.progress();
        self.session.settle_confirms(&progress);
        self.throttle.look(&progress);
        if !holds {
            return Ok(());
        }
        match self.barrier.look(durability, &progress) {
            Verdict::Pending => {}
            Verdict::Stored => self.session.output().release(),
            Verdict::Failed => {
                let Barrier { method, .. } = std::mem::take(&mut self.barrier);
                self.session.output().discard_held();
                if !self.session.is_running() {
                    return Err(io::Error::other(NOT_STORED));
                }
                let error = BrokerError::Internal(NOT_STORED.to_owned());
                self.session.refuse(0, method, &error);
                // Nothing is read for this, so nothing can be awaited.
                self.process(&Bytes::new(), &mut 0);
            }
        }
        Ok(())
    }
}

impl Barrier {
    fn is_empty(&self) -> bool {
        self.definitions.is_empty() && self.log.is_empty()
    }

    /// Forgets what is stored; what is to be said of the rest, or of it all.
    fn look(&mut self, durability: &dyn Durability, progress: &Progress) -> Verdict {
        let definitions = drop_stored(&mut self.definitions, |ticket| {
            durability.definitions_verdict(ticket)
        });
        let log = drop_stored(&mut self.log, |ticket| progress.verdict(ticket));
        match (definitions, log) {
            (Verdict::Failed, _) | (_, Verdict::Failed) => Verdict::Failed,
            (Verdict::Pending, _) | (_, Verdict::Pending) => Verdict::Pending,
            (Verdict::Stored, Verdict::Stored) => Verdict::Stored,
        }
    }
}

fn append(tickets: &mut VecDeque<Ticket>, ticket: Ticket) {
    if tickets.back() != Some(&ticket) {
        tickets.push_back(ticket);
    }
}

/// The verdict of the first that is not stored, if any is not.
fn drop_stored(tickets: &mut VecDeque<Ticket>, verdict: impl Fn(Ticket) -> Verdict) -> Verdict {
    while let Some(first) = tickets.front() {
        match verdict(*first) {
            Verdict::Stored => tickets.pop_front(),
            other => return other,
        };
    }
    Verdict::Stored
}

/// What the client and the log read.
const NOT_STORED: &str = "what was asked for could not be stored";
/// Class and method of `tx.commit`.
pub(super) const COMMIT_IDS: (u16, u16) = (90, 20);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::InMemory;
    use crate::model::TicketRange;

    #[test]
    fn held_output_waits_for_every_ticket_and_one_failure_is_enough() {
        let progress = |durable, failed: &[u64]| Progress {
            durable: Ticket(durable),
            failed: failed
                .iter()
                .map(|ticket| TicketRange {
                    first: Ticket(*ticket),
                    last: Ticket(*ticket),
                })
                .collect(),
            stopped: false,
        };
        for (shows, progress, verdict) in [
            ("one is missing", progress(6, &[]), Verdict::Pending),
            ("all are there", progress(7, &[]), Verdict::Stored),
            ("others failed", progress(7, &[4, 6]), Verdict::Stored),
            ("the first failed", progress(5, &[5]), Verdict::Failed),
            ("the last failed", progress(8, &[7]), Verdict::Failed),
        ] {
            let mut barrier = Barrier::default();
            for ticket in [5, 5, 7] {
                append(&mut barrier.log, Ticket(ticket));
            }
            let looked = barrier.look(&InMemory::default(), &progress);
            assert_eq!(looked, verdict, "{shows}");
            assert_eq!(barrier.is_empty(), verdict == Verdict::Stored, "{shows}");
        }
    }
}
