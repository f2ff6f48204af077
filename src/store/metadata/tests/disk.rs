//! A disk in memory that can be slow, full or broken.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::{Condvar, Mutex};
use redb::StorageBackend;

/// Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<Platter>);

#[derive(Debug, Default)]
struct Platter {
    octets: Mutex<Vec<u8>>,
    syncs: AtomicUsize,
    syncs_fail: AtomicBool,
    syncs_panic: AtomicBool,
    full: AtomicBool,
    gate: Mutex<Gate>,
    gate_changed: Condvar,
}

#[derive(Debug, Default)]
struct Gate {
    held: bool,
    waiting: usize,
}

/// Syncs go on when this is dropped.
pub struct Held<'a>(&'a Platter);

impl Disk {
    /// How many there were.
    pub fn syncs(&self) -> usize {
        self.0.syncs.load(Ordering::SeqCst)
    }

    pub fn hold_syncs(&self) -> Held<'_> {
        self.0.gate.lock().held = true;
        Held(&self.0)
    }

    pub fn fail_syncs(&self, fail: bool) {
        self.0.syncs_fail.store(fail, Ordering::SeqCst);
    }

    /// As a mistake in the database would.
    pub fn panic_at_syncs(&self) {
        self.0.syncs_panic.store(true, Ordering::SeqCst);
    }

    /// Nothing can be written any more.
    pub fn fill(&self, full: bool) {
        self.0.full.store(full, Ordering::SeqCst);
    }

    pub fn octets(&self) -> Vec<u8> {
        self.0.octets.lock().clone()
    }

    pub fn set_octets(&self, octets: Vec<u8>) {
        *self.0.octets.lock() = octets;
    }

    fn has_room(&self) -> io::Result<()> {
        match self.0.full.load(Ordering::SeqCst) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}

impl Held<'_> {
    pub fn wait_until_one_is_held(&self) {
        let mut gate = self.0.gate.lock();
        while gate.waiting == 0 {
            self.0.gate_changed.wait(&mut gate);
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.gate.lock().held = false;
        self.0.gate_changed.notify_all();
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.octets.lock().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let octets = self.0.octets.lock();
        let start = offset as usize;
        let found = octets.get(start..start + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.has_room()?;
        self.0.octets.lock().resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        assert!(!self.0.syncs_panic.load(Ordering::SeqCst), "on purpose");
        let mut gate = self.0.gate.lock();
        gate.waiting += 1;
        self.0.gate_changed.notify_all();
        while gate.held {
            self.0.gate_changed.wait(&mut gate);
        }
        gate.waiting -= 1;
        self.0.syncs.fetch_add(1, Ordering::SeqCst);
        match self.0.syncs_fail.load(Ordering::SeqCst) {
            true => Err(io::Error::other("the sync failed")),
            false => Ok(()),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.has_room()?;
        let mut octets = self.0.octets.lock();
        let start = offset as usize;
        let place = octets.get_mut(start..start + data.len());
        place
            .ok_or(io::ErrorKind::UnexpectedEof)?
            .copy_from_slice(data);
        Ok(())
    }
}
