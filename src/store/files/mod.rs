//! All that the store asks of a file system, so that tests can tear writes,
//! fail a sync and fill the disk. [`Disk`] is the real one.
//!
//! The data directory is flat: a file is known by its name alone.

mod disk;
#[cfg(test)]
pub(super) mod simulated;

use std::fmt;
use std::io;
use std::sync::Arc;

pub use disk::Disk;
pub(super) use disk::names_in;

/// The files of one data directory.
pub trait Files: fmt::Debug + Send + Sync {
    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// If it is not there or cannot be opened.
    fn open(&self, name: &str) -> io::Result<Arc<dyn StoreFile>>;

    /// Creates an empty file, in place of one of the same name. It is there for
    /// good only after [`Files::sync_names`].
    ///
    /// # Errors
    /// If it cannot be created.
    fn create(&self, name: &str) -> io::Result<Arc<dyn StoreFile>>;

    /// Gives a file another name, in place of what has it.
    ///
    /// # Errors
    /// If it cannot be renamed.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file; one that is not there is fine.
    ///
    /// # Errors
    /// If it cannot be removed.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// The names of all files, in order.
    ///
    /// # Errors
    /// If the directory cannot be read.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Makes durable which files there are and how they are called.
    ///
    /// # Errors
    /// If that fails.
    fn sync_names(&self) -> io::Result<()>;

    /// Octets of the file system in all.
    ///
    /// # Errors
    /// If it does not say.
    fn capacity_bytes(&self) -> io::Result<u64>;
}

/// An open file.
#[allow(clippy::len_without_is_empty, reason = "a file is no collection")]
pub trait StoreFile: fmt::Debug + Send + Sync {
    /// Fills the buffer from `offset` on as far as the file goes; how much.
    ///
    /// # Errors
    /// If it cannot be read.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all octets at `offset`.
    ///
    /// # Errors
    /// If any of them was not written.
    fn write_at(&self, octets: &[u8], offset: u64) -> io::Result<()>;

    /// Makes what was written durable, and as much of the file's size as reading
    /// it back needs. After an error nothing is known of what was written
    /// before: it must not be tried again as if it could help.
    ///
    /// # Errors
    /// If anything may be missing.
    fn sync(&self) -> io::Result<()>;

    /// Makes sure that the first `bytes` octets can be written without more
    /// room on the disk; the file is that long afterwards.
    ///
    /// # Errors
    /// If there is no room.
    fn allocate(&self, bytes: u64) -> io::Result<()>;

    /// Cuts the file, or makes it longer with zeros.
    ///
    /// # Errors
    /// If that fails.
    fn set_len(&self, bytes: u64) -> io::Result<()>;

    /// Octets in the file.
    ///
    /// # Errors
    /// If the system does not say.
    fn len(&self) -> io::Result<u64>;
}

/// Whether a failure says that the disk is full: nothing was damaged, and it
/// may go again when there is room.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// A failure that is not to be taken for want of room, whatever its cause: that
/// of a sync, or one behind which there is no way back.
pub(super) fn never_full(error: io::Error) -> io::Error {
    io::Error::other(error.to_string())
}

/// Reads a whole file.
pub(super) fn read_all(file: &dyn StoreFile) -> io::Result<Vec<u8>> {
    let length = usize::try_from(file.len()?).map_err(io::Error::other)?;
    let mut octets = vec![0; length];
    let read = file.read_at(&mut octets, 0)?;
    octets.truncate(read);
    Ok(octets)
}

/// Makes a file longer, with zeros. What was only allocated is not quite there:
/// its first use needs an entry in the file system's journal, and one that is
/// failing may lose that while a sync says nothing (seen on ext4). What is written
/// here, and then synced by the caller, can be overwritten without.
pub(super) fn lay_out(file: &dyn StoreFile, from: u64, to: u64) -> io::Result<()> {
    file.allocate(to)?;
    let zeros = vec![0; ZERO_BYTES];
    let mut at = from;
    while at < to {
        let count = (to - at).min(ZERO_BYTES as u64);
        let zeros = zeros.get(..count as usize).unwrap_or(&zeros);
        file.write_at(zeros, at)?;
        at += count;
    }
    Ok(())
}

const ZERO_BYTES: usize = 1024 * 1024;
