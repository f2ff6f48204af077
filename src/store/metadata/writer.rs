//! The thread that writes, and what it shares with those who submit.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use redb::Database;

use crate::model::Ticket;

use super::backend::Reopenable;
use super::change::Change;
use super::{Health, Verdict, tables};

/// Called when something has become of submits.
type Observer = Arc<dyn Fn() + Send + Sync>;

/// What submitters and the writer share. No lock is held while anything is
/// written or an observer runs.
#[derive(Default)]
pub(super) struct Shared {
    pub state: Mutex<State>,
    /// There is something to write, or to close.
    pub work: Condvar,
    /// There is a new verdict.
    progress: Condvar,
    pub observers: Mutex<Vec<Observer>>,
}

pub(super) struct State {
    pub waiting: Vec<Change>,
    pub submitted: Ticket,
    /// Never past a submit that is not on disk.
    pub durable: Ticket,
    pub health: Health,
    pub closing: bool,
}

/// The one that writes.
pub(super) struct Writer {
    shared: Arc<Shared>,
    backend: Reopenable,
    /// `None` between a full disk and the next try.
    database: Option<Database>,
    next_binding: u64,
}

/// What one transaction takes.
struct Batch {
    changes: Vec<Change>,
    last: Ticket,
}

/// Why a batch is not written.
enum Refused {
    /// Until there is room.
    Full(String),
    ForEver(String),
}

impl Shared {
    pub fn submit(&self, mut changes: Vec<Change>) -> Ticket {
        let mut state = self.state.lock();
        if changes.is_empty() {
            return state.submitted;
        }
        state.submitted.0 += 1;
        let ticket = state.submitted;
        // While it is closing, the writer may still take them; a ticket below
        // the batch's last must never have been left out of it.
        if !state.has_ended() {
            state.waiting.append(&mut changes);
        }
        drop(state);
        self.work.notify_one();
        ticket
    }

    pub fn wait(&self, ticket: Ticket) -> Verdict {
        let mut state = self.state.lock();
        loop {
            match state.verdict(ticket) {
                Verdict::Pending => self.progress.wait(&mut state),
                verdict => return verdict,
            }
        }
    }

    /// All that waits, once there is something; `None` at the end.
    fn next_batch(&self) -> Option<Batch> {
        let mut state = self.state.lock();
        while state.waiting.is_empty() {
            if state.closing {
                return None;
            }
            self.work.wait(&mut state);
        }
        Some(Batch {
            changes: std::mem::take(&mut state.waiting),
            last: state.submitted,
        })
    }

    /// Lets some time pass; false once it is time to end.
    fn pause(&self) -> bool {
        let until = Instant::now() + PAUSE;
        let mut state = self.state.lock();
        // Submits wake it as well.
        while !state.closing {
            if self.work.wait_until(&mut state, until).timed_out() {
                return true;
            }
        }
        false
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock());
        self.progress.notify_all();
        // Called without the lock: an observer may look at verdicts.
        let observers = self.observers.lock().clone();
        for observer in observers {
            observer();
        }
    }
}

impl State {
    pub fn verdict(&self, ticket: Ticket) -> Verdict {
        if ticket <= self.durable {
            return Verdict::Durable;
        }
        match self.has_ended() {
            true => Verdict::Failed,
            false => Verdict::Pending,
        }
    }

    /// Nobody writes any more.
    fn has_ended(&self) -> bool {
        matches!(self.health, Health::Failed(_) | Health::Closed)
    }
}

impl Default for State {
    fn default() -> Self {
        Self {
            waiting: Vec::new(),
            submitted: Ticket(0),
            durable: Ticket(0),
            health: Health::Sound,
            closing: false,
        }
    }
}

impl Writer {
    pub fn new(
        shared: Arc<Shared>,
        backend: Reopenable,
        database: Database,
        next_binding: u64,
    ) -> Self {
        Self {
            shared,
            backend,
            database: Some(database),
            next_binding,
        }
    }

    /// Writes until all is closed or nothing can be written any more.
    pub fn run(mut self) {
        let end = End(Arc::clone(&self.shared));
        while let Some(batch) = self.shared.next_batch() {
            if let Err(cause) = self.write_at_last(&batch) {
                return end.with(Health::Failed(cause));
            }
            self.shared.change(|state| {
                state.durable = batch.last;
                state.health = Health::Sound;
            });
        }
        // What was committed is on disk: a close that fails only costs the
        // next start some time.
        drop(self.database.take());
        end.with(Health::Closed);
    }

    /// Writes a batch, however long the disk is full.
    fn write_at_last(&mut self, batch: &Batch) -> Result<(), String> {
        loop {
            let cause = match self.write(batch) {
                Ok(()) => return Ok(()),
                Err(Refused::Full(cause)) => cause,
                Err(Refused::ForEver(cause)) => return Err(cause),
            };
            let stalled = Health::Stalled(cause.clone());
            if self.shared.state.lock().health != stalled {
                self.shared.change(|state| state.health = stalled);
            }
            if !self.shared.pause() {
                return self.write(batch).map_err(|_| cause);
            }
        }
    }

    /// Tries once. What failed may be on disk all the same, or some day be,
    /// which is no harm: to write it again changes nothing.
    fn write(&mut self, batch: &Batch) -> Result<(), Refused> {
        let result = match self.database.take() {
            Some(database) => Ok(database),
            None => tables::create(&self.backend),
        };
        let result = result.and_then(|database| {
            let written = tables::write(&database, &batch.changes, &mut self.next_binding);
            self.database = written.is_ok().then_some(database);
            written
        });
        result.map_err(|error| match self.backend.was_only_full() {
            true => Refused::Full(error.to_string()),
            false => Refused::ForEver(error.to_string()),
        })
    }
}

/// Notes how the writer ended, a panic included: nobody must wait for a thread
/// that is no more.
struct End(Arc<Shared>);

impl End {
    fn with(&self, health: Health) {
        self.0.change(|state| {
            state.health = health;
            state.waiting = Vec::new();
        });
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if thread::panicking() {
            let cause = "the thread that writes them has panicked";
            self.with(Health::Failed(cause.to_owned()));
        }
    }
}

/// Between two looks at a full disk.
const PAUSE: Duration = Duration::from_millis(250);
