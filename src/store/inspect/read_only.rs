//! A data directory that nothing is changed in, so that recovery itself can
//! tell what it would find.
//!
//! What the disk cannot read counts as zeros, a block at a time: recovery
//! takes that for damage like any other and finds what lies behind.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::store::files::{Files, StoreFile, names_in, read_all};

/// A data directory, only to be read. What is written is lost.
#[derive(Debug)]
pub(super) struct ReadOnly {
    path: PathBuf,
    /// Keeps a broker from being started meanwhile.
    lock: Option<File>,
    unreadable: Arc<Unreadable>,
}

/// Blocks that the disk cannot read: their files and offsets.
type Unreadable = Mutex<BTreeSet<(String, u64)>>;

impl ReadOnly {
    /// # Errors
    /// If it is no directory, or a broker has it open.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        fs::read_dir(path)?;
        let lock = match File::open(path.join("lock")) {
            Ok(lock) => Some(lock),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if let Some(lock) = &lock
            && rustix::fs::flock(lock, FlockOperation::NonBlockingLockShared).is_err()
        {
            let holder = fs::read_to_string(path.join("lock")).unwrap_or_default();
            let text = match holder.trim() {
                "" => "another process has it open".to_owned(),
                id => format!("a broker has it open (process {id})"),
            };
            return Err(io::Error::new(io::ErrorKind::WouldBlock, text));
        }
        Ok(Self {
            path: path.to_owned(),
            lock,
            unreadable: Arc::default(),
        })
    }

    /// Whether a broker is kept out: there was a file to lock.
    pub(super) fn is_locked(&self) -> bool {
        self.lock.is_some()
    }

    pub(super) fn bytes(&self, name: &str) -> io::Result<u64> {
        Ok(fs::metadata(self.path.join(name))?.len())
    }

    pub(super) fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        read_all(&self.file(name)?)
    }

    /// Blocks that could not be read so far: their files and offsets.
    pub(super) fn unreadable(&self) -> Vec<(String, u64)> {
        self.unreadable.lock().iter().cloned().collect()
    }

    fn file(&self, name: &str) -> io::Result<OpenFile> {
        Ok(OpenFile {
            file: File::open(self.path.join(name))?,
            name: name.to_owned(),
            unreadable: Arc::clone(&self.unreadable),
        })
    }
}

impl Files for ReadOnly {
    fn open(&self, name: &str) -> io::Result<Arc<dyn StoreFile>> {
        Ok(Arc::new(self.file(name)?))
    }

    fn create(&self, _name: &str) -> io::Result<Arc<dyn StoreFile>> {
        Ok(Arc::new(Nowhere))
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, _name: &str) -> io::Result<()> {
        Ok(())
    }

    fn names(&self) -> io::Result<Vec<String>> {
        names_in(&self.path)
    }

    fn sync_names(&self) -> io::Result<()> {
        Ok(())
    }

    fn capacity_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    name: String,
    unreadable: Arc<Unreadable>,
}

impl StoreFile for OpenFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let read = |buffer: &mut [u8], offset| self.file.read_at(buffer, offset);
        read_around(read, buffer, offset, |block| {
            self.unreadable.lock().insert((self.name.clone(), block));
        })
    }

    fn write_at(&self, _octets: &[u8], _offset: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn allocate(&self, _bytes: u64) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, _bytes: u64) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

/// Fills the buffer as far as the file goes; blocks that fail become zeros and
/// are told.
fn read_around(
    read: impl Fn(&mut [u8], u64) -> io::Result<usize>,
    buffer: &mut [u8],
    offset: u64,
    mut unreadable: impl FnMut(u64),
) -> io::Result<usize> {
    let mut filled = 0;
    // Once something has failed, each block is tried alone.
    let mut by_blocks = false;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let at = offset + filled as u64;
        let within_block = (BLOCK_BYTES - at % BLOCK_BYTES) as usize;
        let part = match by_blocks {
            true => rest.len().min(within_block),
            false => rest.len(),
        };
        let part = rest.get_mut(..part).unwrap_or_default();
        match read(part, at) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.raw_os_error() != Some(Errno::IO.raw_os_error()) => {
                return Err(error);
            }
            Err(_) if !by_blocks => by_blocks = true,
            Err(_) => {
                part.fill(0);
                filled += part.len();
                unreadable(at - at % BLOCK_BYTES);
            }
        }
    }
    Ok(filled)
}

/// A file that keeps nothing.
#[derive(Debug)]
struct Nowhere;

impl StoreFile for Nowhere {
    fn read_at(&self, _buffer: &mut [u8], _offset: u64) -> io::Result<usize> {
        Ok(0)
    }

    fn write_at(&self, _octets: &[u8], _offset: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn allocate(&self, _bytes: u64) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, _bytes: u64) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(0)
    }
}

/// What a disk that fails is asked for at once.
const BLOCK_BYTES: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_that_cannot_be_read_are_zeros_and_what_lies_behind_is_read() {
        let file = vec![7; 5 * BLOCK_BYTES as usize + 100];
        let bad = 2 * BLOCK_BYTES..3 * BLOCK_BYTES;
        let read = |buffer: &mut [u8], offset: u64| {
            if offset < bad.end && offset + buffer.len() as u64 > bad.start {
                return Err(Errno::IO.into());
            }
            let rest = file.get(offset as usize..).unwrap_or_default();
            let count = rest.len().min(buffer.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            Ok(count)
        };
        for (offset, asked) in [
            (0, 30_000),
            (100, 20_000),
            (bad.start + 5, 10),
            (bad.start, 9_000),
        ] {
            let mut told = Vec::new();
            let mut buffer = vec![1; asked];
            let count = read_around(read, &mut buffer, offset, |block| told.push(block));
            assert_eq!(
                count.expect("only some blocks fail"),
                asked.min(file.len() - offset as usize)
            );
            assert_eq!(told, [bad.start], "from {offset}");
            for (index, octet) in buffer[..asked.min(file.len() - offset as usize)]
                .iter()
                .enumerate()
            {
                let is_bad = bad.contains(&(offset + index as u64));
                assert_eq!(
                    *octet,
                    if is_bad { 0 } else { 7 },
                    "from {offset}, octet {index}"
                );
            }
        }
        let broken = |_: &mut [u8], _| Err(Errno::ACCESS.into());
        assert!(read_around(broken, &mut [0; 10], 0, |_| ()).is_err());
    }
}
