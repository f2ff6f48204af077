//! The real file system.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, FlockOperation};

use super::{Files, StoreFile};

/// A data directory, held by this process alone.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
    directory: File,
    /// Locked for as long as it is open.
    _lock: File,
}

impl Disk {
    /// Opens a data directory, created readable by its owner alone if it is
    /// missing, and locks it.
    ///
    /// # Errors
    /// If it cannot be created or opened; `WouldBlock` if another process has
    /// it, with that process's id where it is known.
    pub fn open(path: &Path) -> io::Result<Self> {
        create_durably(path)?;
        let lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join(LOCK_NAME))?;
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut holder = [0; 20];
            let count = lock.read_at(&mut holder, 0).unwrap_or(0);
            let holder = String::from_utf8_lossy(holder.get(..count).unwrap_or_default());
            let text = match holder.trim() {
                "" => "another process has it open".to_owned(),
                id => format!("another broker has it open (process {id})"),
            };
            return Err(io::Error::new(io::ErrorKind::WouldBlock, text));
        }
        // Over the last one's, without giving its block back: a full disk must
        // not keep a broker from starting. The id is only for people.
        let id = format!("{:<LOCK_BYTES$}\n", std::process::id());
        if let Err(error) = lock.write_all_at(id.as_bytes(), 0) {
            tracing::warn!(%error, "cannot write the process's id into the lock file");
        }
        Ok(Self {
            directory: File::open(path)?,
            path: path.to_owned(),
            _lock: lock,
        })
    }
}

impl Files for Disk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn StoreFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.path.join(name))?;
        Ok(Arc::new(DiskFile(file)))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn StoreFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(self.path.join(name))?;
        Ok(Arc::new(DiskFile(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn names(&self) -> io::Result<Vec<String>> {
        names_in(&self.path)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.directory.sync_all()
    }

    fn capacity_bytes(&self) -> io::Result<u64> {
        let file_system = rustix::fs::fstatvfs(&self.directory)?;
        Ok(file_system.f_blocks.saturating_mul(file_system.f_frsize))
    }
}

/// Creates a directory and those above it that are missing, each of them known
/// to its parent for good: a power cut must not take the directory away.
fn create_durably(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path
        .ancestors()
        .take_while(|ancestor| !ancestor.as_os_str().is_empty() && !ancestor.exists())
        .collect();
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)?;
    for created in missing {
        let parent = match created.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

/// The names of a directory's files, in order.
pub(in crate::store) fn names_in(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        // Ours are all ASCII: anything else is not ours.
        if let Ok(name) = entry?.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

#[derive(Debug)]
struct DiskFile(File);

impl StoreFile for DiskFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.0.read_at(rest, offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, octets: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(octets, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.0, FallocateFlags::empty(), 0, bytes) {
            // Not every file system can: then writing takes the room.
            Err(rustix::io::Errno::OPNOTSUPP) => self.0.set_len(bytes),
            other => Ok(other?),
        }
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

/// The file that keeps a second broker out.
const LOCK_NAME: &str = "lock";
/// Letters of its line, more than any process id has.
const LOCK_BYTES: usize = 15;
