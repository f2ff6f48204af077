//! Prepared files that the log goes on in. Every block of them was written and
//! synced before the log uses it, so a group commit changes no metadata of the
//! file system. That is what makes its sync fast, and what makes it true: of a
//! block that was only allocated, the file system must also note that it is
//! written, and ext4 on a disk that fails may lose that and say nothing.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::store::files::{self, Files, StoreFile};

/// Files that wait to be used.
#[derive(Debug)]
pub(in crate::store) struct SpareFiles {
    ready: Mutex<Vec<Spare>>,
    file_bytes: u64,
    next: AtomicU64,
    /// The last attempt to prepare one found no room.
    full: AtomicBool,
}

/// A file that the log can go on in.
#[derive(Debug)]
pub(in crate::store) struct Spare {
    pub(in crate::store) name: String,
    pub(in crate::store) handle: Arc<dyn StoreFile>,
    pub(in crate::store) capacity: u64,
}

/// What a file is wanted for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::store) enum Urgency {
    /// New messages, which can be refused.
    Messages,
    /// Settlements: without them no room would ever come of what is consumed.
    Settlements,
}

impl SpareFiles {
    pub(in crate::store) fn new(file_bytes: u64) -> Self {
        Self {
            ready: Mutex::default(),
            file_bytes,
            next: AtomicU64::new(0),
            full: AtomicBool::new(false),
        }
    }

    /// Takes one that has room for `bytes`. The last ones are there for
    /// `Urgency::Settlements` alone.
    pub(in crate::store) fn take(&self, bytes: u64, urgency: Urgency) -> Option<Spare> {
        let mut ready = self.ready.lock();
        if urgency == Urgency::Messages && ready.len() <= SPARES_KEPT_BACK {
            return None;
        }
        let fits = ready.iter().position(|spare| spare.capacity >= bytes)?;
        Some(ready.swap_remove(fits))
    }

    /// Keeps a file that the log does not need any more; `Some` if there are
    /// enough.
    pub(in crate::store) fn keep(&self, spare: Spare) -> Option<Spare> {
        let mut ready = self.ready.lock();
        if ready.len() >= SPARES_MAX || spare.capacity != self.file_bytes {
            return Some(spare);
        }
        ready.push(spare);
        None
    }

    /// Octets of a file of the usual size.
    pub(in crate::store) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    pub(in crate::store) fn count(&self) -> usize {
        self.ready.lock().len()
    }

    /// Whether there is none to be had.
    pub(in crate::store) fn is_empty(&self, urgency: Urgency) -> bool {
        let kept_back = match urgency {
            Urgency::Messages => SPARES_KEPT_BACK,
            Urgency::Settlements => 0,
        };
        self.ready.lock().len() <= kept_back
    }

    /// Takes it that there is no room for another one until one was prepared.
    pub(in crate::store) fn assume_full(&self) {
        self.full.store(true, Ordering::Release);
    }

    /// Whether there was no room for another one.
    pub(in crate::store) fn is_full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    /// A name that no other spare file has.
    pub(in crate::store) fn name(&self) -> String {
        spare_name(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Takes up a file that was left by a former life; `Some` if there are
    /// enough or it is of another size.
    pub(in crate::store) fn adopt(
        &self,
        name: String,
        handle: Arc<dyn StoreFile>,
        capacity: u64,
    ) -> Option<Spare> {
        if let Some(number) = spare_number(&name) {
            self.next.fetch_max(number + 1, Ordering::Relaxed);
        }
        let spare = Spare {
            name,
            handle,
            capacity,
        };
        self.keep(spare)
    }

    /// A new file of the usual size that has room for `bytes`; the first one of
    /// a life is small, because somebody waits for it.
    pub(in crate::store) fn create(
        &self,
        files: &dyn Files,
        bytes: u64,
        is_first: bool,
    ) -> io::Result<Spare> {
        let usual = if is_first {
            self.file_bytes.min(FIRST_BYTES)
        } else {
            self.file_bytes
        };
        let capacity = usual.max(bytes);
        let name = self.name();
        // It is a spare file only when it is whole.
        let unfinished = format!("{UNFINISHED_PREFIX}{name}");
        let handle = files.create(&unfinished)?;
        if let Err(error) = files::lay_out(&*handle, 0, capacity) {
            self.full.store(files::is_full(&error), Ordering::Release);
            drop(handle);
            files.remove(&unfinished)?;
            return Err(error);
        }
        // Whatever its cause, a failed sync is not one to go on after.
        handle.sync().map_err(files::never_full)?;
        if let Err(error) = files.rename(&unfinished, &name) {
            self.full.store(files::is_full(&error), Ordering::Release);
            files.remove(&unfinished)?;
            return Err(error);
        }
        self.full.store(false, Ordering::Release);
        Ok(Spare {
            name,
            handle,
            capacity,
        })
    }
}

/// Removes files that were being prepared when the process ended.
pub(in crate::store) fn remove_unfinished(files: &dyn Files, name: &str) -> io::Result<()> {
    if name.starts_with(UNFINISHED_PREFIX) {
        files.remove(name)?;
    }
    Ok(())
}

/// Prepares files until there is one for messages.
///
/// # Errors
/// If the disk fails; that it is full is no failure.
pub(in crate::store) fn prepare_spares(files: &dyn Files, spares: &SpareFiles) -> io::Result<()> {
    while spares.is_empty(Urgency::Messages) {
        match prepare_spare(files, spares) {
            Err(error) if files::is_full(&error) => {
                tracing::warn!(%error, "no room to prepare a log file");
                return Ok(());
            }
            other => other?,
        }
    }
    Ok(())
}

fn prepare_spare(files: &dyn Files, spares: &SpareFiles) -> io::Result<()> {
    let spare = spares.create(files, 0, false)?;
    match spares.keep(spare) {
        Some(spare) => files.remove(&spare.name),
        None => Ok(()),
    }
}

fn spare_name(number: u64) -> String {
    format!("spare-{number:016x}.log")
}

fn spare_number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("spare-")?.strip_suffix(".log")?;
    u64::from_str_radix(digits, 16).ok()
}

/// Whether a file of that name is a spare one.
pub(in crate::store) fn is_spare(name: &str) -> bool {
    spare_number(name).is_some()
}

/// Spare files that messages do not get; see `LogFiles::reserve`.
pub(super) const SPARES_KEPT_BACK: usize = 2;
/// Spare files that are kept; more are removed.
const SPARES_MAX: usize = 4;
/// Octets of the first file of a life, where none was prepared.
const FIRST_BYTES: u64 = 1024 * 1024;
const UNFINISHED_PREFIX: &str = "unfinished-";
