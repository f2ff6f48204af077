//! Making pages durable, on threads of their own: more are written meanwhile.
//!
//! A round has all files that were written to since the one before. Many files
//! are synced several at once, so that the file system can commit them together.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use crate::model::{QueueId, SequenceRange};
use crate::store::files::{Files, StoreFile};
use crate::store::shared::Shared;

use super::pager::SegmentEvent;

/// A file with pages that are not durable yet.
pub(super) struct Dirty {
    pub(super) file: u64,
    pub(super) queue: QueueId,
    pub(super) handle: Arc<dyn StoreFile>,
    pub(super) used_bytes: u64,
    pub(super) places: Vec<SequenceRange>,
}

/// What is to become durable together.
pub(super) struct Round {
    pub(super) files: Vec<Dirty>,
    /// Whether some of them are new.
    pub(super) names: bool,
}

/// Hands rounds over, one at a time.
pub(in crate::store) struct Syncer {
    rounds: Sender<Round>,
    ends: Receiver<bool>,
    is_busy: bool,
}

/// The other end of a [`Syncer`].
pub(in crate::store) struct SyncThread {
    files: Arc<dyn Files>,
    shared: Arc<Shared>,
    rounds: Receiver<Round>,
    ends: Sender<bool>,
}

/// Both ends.
pub(in crate::store) fn syncing(
    files: Arc<dyn Files>,
    shared: Arc<Shared>,
) -> (Syncer, SyncThread) {
    let (rounds, to_sync) = mpsc::channel();
    let (ends, ended) = mpsc::channel();
    let syncer = Syncer {
        rounds,
        ends: ended,
        is_busy: false,
    };
    let thread = SyncThread {
        files,
        shared,
        rounds: to_sync,
        ends,
    };
    (syncer, thread)
}

impl Syncer {
    /// Whether no round is running.
    pub(super) fn is_idle(&mut self) -> bool {
        self.is_busy &= self.ends.try_recv().is_err();
        !self.is_busy
    }

    /// Begins a round; none may be running.
    pub(super) fn begin(&mut self, round: Round) {
        self.is_busy = self.rounds.send(round).is_ok();
    }

    /// Waits for the round that is running; `false` if it failed, and the store
    /// with it.
    pub(super) fn wait(&mut self) -> bool {
        !std::mem::take(&mut self.is_busy) || self.ends.recv().unwrap_or(false)
    }
}

impl SyncThread {
    /// Works for as long as its other end is there.
    pub(in crate::store) fn run(self) {
        while let Ok(round) = self.rounds.recv() {
            let result = self.sync(&round);
            let is_durable = result.is_ok();
            match result {
                Ok(()) => self.tell(round),
                // What is in the segments is nobody's guess now, and the log may
                // not be shortened any more.
                Err(error) => self.shared.fail(&format!("cannot sync a segment: {error}")),
            }
            if self.ends.send(is_durable).is_err() {
                return;
            }
        }
    }

    fn sync(&self, round: &Round) -> io::Result<()> {
        let share = round.files.len().div_ceil(AT_ONCE).max(1);
        thread::scope(|scope| {
            let mut shares = round.files.chunks(share);
            let own = shares.next().unwrap_or_default();
            let others: Vec<_> = shares
                .map(|files| {
                    let name = "leveret-sync".to_owned();
                    let builder = thread::Builder::new().name(name);
                    builder.spawn_scoped(scope, || sync_all(files))
                })
                .collect();
            let mut result = sync_all(own);
            for other in others {
                let panicked = |_| Err(io::Error::other("a thread has panicked"));
                result = result.and(other.and_then(|other| other.join().unwrap_or_else(panicked)));
            }
            result
        })?;
        match round.names {
            true => self.files.sync_names(),
            false => Ok(()),
        }
    }

    fn tell(&self, round: Round) {
        for dirty in round.files {
            self.shared.segment_event(SegmentEvent::Synced {
                queue: dirty.queue,
                file: dirty.file,
                durable_bytes: dirty.used_bytes,
                places: dirty.places,
            });
        }
    }
}

fn sync_all(files: &[Dirty]) -> io::Result<()> {
    files.iter().try_for_each(|dirty| dirty.handle.sync())
}

/// Files that are synced at the same time.
const AT_ONCE: usize = 4;
