//! A backend that outlives the database on it.
//!
//! redb takes nothing more after any I/O error and wants to be opened anew.
//! For a full disk that is worth doing; after a failed sync it is not, because
//! what the system dropped then would seem to be there until a crash.

use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::{BackendError, StorageBackend};

/// One backend for several databases, one after the other.
#[derive(Clone, Debug)]
pub(super) struct Reopenable(Arc<Watched>);

#[derive(Debug)]
struct Watched {
    backend: Box<dyn StorageBackend>,
    /// A write has found no room since the last look.
    full: AtomicBool,
    /// Something has failed that room does not cure.
    broken: AtomicBool,
}

impl Reopenable {
    pub fn new(backend: impl StorageBackend) -> Self {
        Self(Arc::new(Watched {
            backend: Box::new(backend),
            full: AtomicBool::new(false),
            broken: AtomicBool::new(false),
        }))
    }

    /// Whether all that has failed since the last look was a full disk.
    pub fn was_only_full(&self) -> bool {
        let full = self.0.full.swap(false, Ordering::Relaxed);
        full && !self.0.broken.load(Ordering::Relaxed)
    }

    fn watch<T>(&self, result: io::Result<T>, may_be_full: bool) -> io::Result<T> {
        if let Err(error) = &result {
            use io::ErrorKind::{QuotaExceeded, StorageFull};
            let is_full = may_be_full && matches!(error.kind(), StorageFull | QuotaExceeded);
            let what = if is_full {
                &self.0.full
            } else {
                &self.0.broken
            };
            what.store(true, Ordering::Relaxed);
        }
        result
    }
}

impl StorageBackend for Reopenable {
    fn len(&self) -> io::Result<u64> {
        self.watch(self.0.backend.len(), false)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.watch(self.0.backend.read(offset, out), false)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.watch(self.0.backend.set_len(len), true)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.watch(self.0.backend.sync_data(), false)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.watch(self.0.backend.write(offset, data), true)
    }

    fn close(&self) -> io::Result<()> {
        self.0.backend.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.backend.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.0.backend.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.backend.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.backend.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.backend.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.backend.query_lock_range(start, end)
    }
}
