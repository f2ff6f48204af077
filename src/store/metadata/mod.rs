//! Definitions that survive a restart: virtual hosts, durable exchanges and
//! queues, and the bindings between them, in an embedded database (redb).
//!
//! Owns the database and the one thread that writes to it. Whoever changes a
//! catalog submits what it did and goes on with a [`Ticket`]; the thread takes
//! all that waits and commits it in one transaction, so a thousand declares
//! cost a few syncs. What was submitted at once is there as a whole or not at
//! all, and what was submitted earlier is never missing beside what came later.
//!
//! ```text
//!             ┌─ disk full ──▶ Stalled ─┐
//! Sound ◀─────┴──── committed again ◀───┘   (tries again until there is room)
//!   │ any other failure, a failed sync above all
//!   ▼
//! Failed: nothing later is ever reported durable
//! ```
//! [`Metadata::close`] leads to Closed, which takes nothing either.
//!
//! `docs/storage.md` describes every row. What waits is bounded only by those
//! who submit: a client that waits for its answer has one change here, and
//! [`Metadata::waiting`] tells when to stop reading those that do not.

mod backend;
mod change;
mod rows;
mod tables;
mod writer;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use parking_lot::Mutex;
use redb::StorageBackend;

use crate::model::Ticket;

pub use change::{Change, Definitions, VhostDefinitions};

use backend::Reopenable;
use writer::{Shared, Writer};

/// The definitions' database. Tickets count its submits and have nothing to do
/// with those of the message log.
pub struct Metadata {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// What has become of a submit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Not on disk yet.
    Pending,
    /// On disk.
    Durable,
    /// It will never be known to be on disk.
    Failed,
}

/// How the database does; the text is the cause.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Health {
    /// It takes what comes.
    Sound,
    /// The disk is full: what was submitted waits until there is room.
    Stalled(String),
    /// It takes nothing any more.
    Failed(String),
    /// It was closed.
    Closed,
}

/// Why definitions cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// The file cannot be had.
    #[error("cannot open the definitions: {0}")]
    Io(#[from] io::Error),
    /// The database refuses.
    #[error("cannot open the definitions: {0}")]
    Database(#[from] Box<redb::Error>),
    /// A newer version wrote them.
    #[error(
        "the definitions have format {found}, this version of Leveret knows formats up to {known}: \
         a newer version wrote them"
    )]
    Newer {
        /// What is there.
        found: u64,
        /// The newest that is known here.
        known: u64,
    },
    /// A row cannot be what was written.
    #[error("the definitions are damaged: table '{table}', key '{key}': {why}")]
    Damaged {
        /// Which table.
        table: &'static str,
        /// The key, with escapes for what is no plain text.
        key: String,
        /// What is wrong.
        why: String,
    },
}

impl Metadata {
    /// Opens the definitions in `backend`; an empty one gets a new database.
    /// After a full disk, the backend is used again after it was closed.
    ///
    /// # Errors
    /// If it cannot be read, is damaged or was written by a newer version.
    pub fn open(backend: impl StorageBackend) -> Result<(Self, Definitions), MetadataError> {
        let backend = Reopenable::new(backend);
        let database = tables::open(&backend)?;
        let (definitions, next_binding) = tables::load(&database)?;
        let shared = Arc::new(Shared::default());
        let writer = Writer::new(Arc::clone(&shared), backend, database, next_binding);
        let thread = thread::Builder::new()
            .name("metadata".to_owned())
            .spawn(move || writer.run())?;
        let metadata = Self {
            shared,
            writer: Mutex::new(Some(thread)),
        };
        Ok((metadata, definitions))
    }

    /// Hands changes over to be written, behind all that were submitted
    /// before, and waits for nothing. All of them are written or none.
    pub fn submit(&self, changes: Vec<Change>) -> Ticket {
        self.shared.submit(changes)
    }

    /// The ticket of the last submit; 0 if there was none.
    #[must_use]
    pub fn submitted(&self) -> Ticket {
        self.shared.state.lock().submitted
    }

    /// Everything up to this ticket is on disk.
    #[must_use]
    pub fn durable(&self) -> Ticket {
        self.shared.state.lock().durable
    }

    /// What has become of a submit.
    #[must_use]
    pub fn verdict(&self, ticket: Ticket) -> Verdict {
        self.shared.state.lock().verdict(ticket)
    }

    /// Blocks until a submit is durable or has failed.
    pub fn wait(&self, ticket: Ticket) -> Verdict {
        self.shared.wait(ticket)
    }

    /// Has `observer` called, on the writer's thread and with no lock held,
    /// whenever a verdict or the health may have changed. It should be quick.
    pub fn subscribe(&self, observer: impl Fn() + Send + Sync + 'static) {
        self.shared.observers.lock().push(Arc::new(observer));
    }

    /// How it does.
    #[must_use]
    pub fn health(&self) -> Health {
        self.shared.state.lock().health.clone()
    }

    /// Why it takes nothing any more, if that is so.
    #[must_use]
    pub fn failed(&self) -> Option<String> {
        match &self.shared.state.lock().health {
            Health::Failed(cause) => Some(cause.clone()),
            Health::Sound | Health::Stalled(_) | Health::Closed => None,
        }
    }

    /// Changes that nobody has begun to write.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shared.state.lock().waiting.len()
    }

    /// Writes what waits and closes the database. Later submits fail.
    pub fn close(&self) {
        self.shared.state.lock().closing = true;
        self.shared.work.notify_all();
        let Some(writer) = self.writer.lock().take() else {
            return;
        };
        // An observer may have held the last reference: that thread cannot
        // wait for itself, and ends on its own.
        if writer.thread().id() != thread::current().id() {
            // A panic has been noted as a failure where it happened.
            let _ = writer.join();
        }
    }
}

impl Drop for Metadata {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.state.lock();
        f.debug_struct("Metadata")
            .field("submitted", &state.submitted)
            .field("durable", &state.durable)
            .field("health", &state.health)
            .finish_non_exhaustive()
    }
}
