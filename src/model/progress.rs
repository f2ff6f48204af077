//! How far the store has come with what was appended to it.

use std::sync::Arc;

use super::Ticket;

/// One look at the store: an answer for every [`Ticket`].
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// All up to here is decided: it is durable, unless it is among `failed`.
    pub durable: Ticket,
    /// What could not be written, in order; nearly always nothing.
    pub failed: Arc<[TicketRange]>,
    /// The store is dead: what is not decided has failed.
    pub stopped: bool,
}

/// Tickets from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TicketRange {
    /// The first of them.
    pub first: Ticket,
    /// The last of them.
    pub last: Ticket,
}

/// What became of something that was given to the store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Not written yet.
    Pending,
    /// Durable, or there was nothing to store.
    Stored,
    /// It could not be written and never will be.
    Failed,
}

impl Progress {
    /// What became of what was appended under this ticket.
    #[must_use]
    pub fn verdict(&self, ticket: Ticket) -> Verdict {
        if ticket == Ticket(0) {
            Verdict::Stored
        } else if ticket > self.durable {
            if self.stopped {
                Verdict::Failed
            } else {
                Verdict::Pending
            }
        } else if self.has_failed(ticket) {
            Verdict::Failed
        } else {
            Verdict::Stored
        }
    }

    fn has_failed(&self, ticket: Ticket) -> bool {
        let behind = self.failed.partition_point(|range| range.last < ticket);
        self.failed
            .get(behind)
            .is_some_and(|range| range.first <= ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_has_one_verdict() {
        let range = |first, last| TicketRange {
            first: Ticket(first),
            last: Ticket(last),
        };
        let running = Progress {
            durable: Ticket(10),
            failed: [range(3, 5), range(8, 8)].into(),
            stopped: false,
        };
        let stopped = Progress {
            stopped: true,
            ..running.clone()
        };
        for (ticket, while_running, once_stopped) in [
            (0, Verdict::Stored, Verdict::Stored),
            (2, Verdict::Stored, Verdict::Stored),
            (3, Verdict::Failed, Verdict::Failed),
            (5, Verdict::Failed, Verdict::Failed),
            (6, Verdict::Stored, Verdict::Stored),
            (8, Verdict::Failed, Verdict::Failed),
            (10, Verdict::Stored, Verdict::Stored),
            (11, Verdict::Pending, Verdict::Failed),
        ] {
            assert_eq!(running.verdict(Ticket(ticket)), while_running, "{ticket}");
            assert_eq!(stopped.verdict(Ticket(ticket)), once_stopped, "{ticket}");
        }
    }
}
