//! What connections ask of the store, and how it wakes those that wait for it.
//!
//! A connection that awaits something joins the [`Waiters`] and then looks. The
//! store first shows its new progress and then wakes them: so either the look
//! sees the progress, or the wake-up is still to come.

use std::fmt::Debug;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::model::{Progress, Ticket, Verdict};

use super::Outbox;

/// The store as connections see it. One that never lets anybody wait need not
/// say so.
pub trait Durability: Debug + Send + Sync {
    /// How far the log has come.
    fn progress(&self) -> Progress;

    /// What was published so far is to be written now; to be called after every
    /// read. With `wait`, by the caller himself, if that is quicker: whether he
    /// did, and it is decided.
    fn commit(&self, wait: bool) -> bool {
        let _ = wait;
        false
    }

    /// The last change of durable definitions that was given to the store, by
    /// whomever; 0 if there was none.
    fn definitions_ticket(&self) -> Ticket;

    /// What became of a change of durable definitions. They are decided in the
    /// order of their tickets.
    fn definitions_verdict(&self, ticket: Ticket) -> Verdict;

    /// Whether more waits to be written than is good: who has added to it is
    /// not read until his part is written.
    fn is_behind(&self) -> bool {
        false
    }

    /// Whether waiting messages take so much memory that those who add to them
    /// should let consumers catch up.
    fn memory_is_short(&self) -> bool {
        false
    }

    /// How many messages consumers were ever handed.
    fn handed_out(&self) -> u64 {
        0
    }

    /// Whom to wake, with [`Waiters::wake`], after log or definitions have
    /// come further.
    fn waiters(&self) -> &Waiters;
}

/// Connections that wait for the store.
#[derive(Debug, Default)]
pub struct Waiters(Mutex<Vec<Arc<Outbox>>>);

/// No store: nothing is kept, so nothing has to be waited for.
#[derive(Debug, Default)]
pub struct InMemory(Waiters);

impl Waiters {
    /// Wakes this connection once; it comes back if it still waits. To be
    /// called before it looks at the progress.
    pub fn add(&self, outbox: &Arc<Outbox>) {
        if outbox.start_waiting() {
            self.0.lock().push(Arc::clone(outbox));
        }
    }

    /// Wakes all that wait. To be called after the progress is shown.
    pub fn wake(&self) {
        let waiting = std::mem::take(&mut *self.0.lock());
        for outbox in waiting {
            outbox.waited();
        }
    }
}

impl Durability for InMemory {
    fn progress(&self) -> Progress {
        Progress::default()
    }

    fn definitions_ticket(&self) -> Ticket {
        Ticket(0)
    }

    fn definitions_verdict(&self, _ticket: Ticket) -> Verdict {
        Verdict::Stored
    }

    fn waiters(&self) -> &Waiters {
        &self.0
    }
}
