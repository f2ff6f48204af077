//! A disk whose power can be cut: ext4 on a file behind a loop device.
//!
//! The cut is `EXT4_IOC_SHUTDOWN` without a flush of the journal: from then on
//! every write fails, and after unmounting and mounting only what had reached
//! the disk is there. SIGKILL alone proves nothing about fsync, because the
//! page cache survives it. Needs root, `mkfs.ext4` and `mount`.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::ioctl::{Setter, opcode};
use tempfile::TempDir;

/// Size of the file system; the file behind it is sparse. Larger than what a
/// broker may want to keep free.
const DISK_BYTES: u64 = 6 << 30;

/// `_IOR('X', 125, __u32)`, see linux/fs/ext4/ext4.h.
const EXT4_IOC_SHUTDOWN: rustix::ioctl::Opcode = opcode::read::<u32>(b'X', 125);

/// `EXT4_GOING_FLAGS_NOLOGFLUSH`: flush neither the log nor the data.
const NO_LOG_FLUSH: u32 = 2;

/// How long unmounting is tried.
const UNMOUNT_LIMIT: Duration = Duration::from_secs(10);

/// A mounted file system, unmounted when dropped.
pub struct Disk {
    /// Holds the image and the mount point.
    directory: TempDir,
    mounted: bool,
}

impl Disk {
    /// A fresh one, or why there is none: a machine without root.
    ///
    /// With `CI` in the environment and root, what does not work is a failure.
    #[track_caller]
    pub fn new() -> Option<Self> {
        Self::of_size(DISK_BYTES)
    }

    /// A fresh one of that many octets.
    #[track_caller]
    pub fn of_size(bytes: u64) -> Option<Self> {
        if fs::metadata("/proc/self").map_or(u32::MAX, |metadata| metadata.uid()) != 0 {
            eprintln!("skipped: cutting the power takes root, to mount a disk");
            return None;
        }
        match Self::create(bytes) {
            Ok(disk) => Some(disk),
            Err(reason) if std::env::var_os("CI").is_some() => {
                panic!("the power cannot be cut: {reason}")
            }
            Err(reason) => {
                eprintln!("skipped: the power cannot be cut: {reason}");
                None
            }
        }
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("mounted")
    }

    /// Octets that are free.
    #[track_caller]
    pub fn free_bytes(&self) -> u64 {
        let space = rustix::fs::statvfs(self.path()).expect("it is mounted");
        space.f_bavail * space.f_frsize
    }

    /// Nothing can be written any more until it is mounted again.
    #[track_caller]
    pub fn make_read_only(&self) {
        run(Command::new("mount")
            .args(["-o", "remount,ro"])
            .arg(self.path()))
        .expect("nobody writes to the disk");
    }

    /// Cuts the power: nothing reaches the disk any more. What runs on it goes
    /// on until it notices.
    #[track_caller]
    pub fn cut(&self) {
        let mount_point = File::open(self.path()).expect("the mount point");
        shut_down(&mount_point).expect("ext4 can be shut down");
    }

    /// Unmounts after a cut and mounts what had reached the disk.
    #[track_caller]
    pub fn power_up(&mut self) {
        self.unmount().expect("nothing uses the disk any more");
        self.mount().expect("the disk can be mounted again");
    }

    fn create(bytes: u64) -> Result<Self, String> {
        let directory = tempfile::Builder::new()
            .prefix("leveret-disk-")
            .tempdir()
            .map_err(|error| error.to_string())?;
        let mut disk = Self {
            directory,
            mounted: false,
        };
        fs::create_dir(disk.path())
            .and_then(|()| File::create(disk.image())?.set_len(bytes))
            .map_err(|error| error.to_string())?;
        let journal = if bytes < DISK_BYTES {
            "size=4"
        } else {
            "size=64"
        };
        run(Command::new("mkfs.ext4")
            .args(["-q", "-F", "-m", "0"])
            .args(["-E", "lazy_itable_init=1,lazy_journal_init=1"])
            .args(["-J", journal])
            .arg(disk.image()))?;
        disk.mount()?;
        Ok(disk)
    }

    fn image(&self) -> PathBuf {
        self.directory.path().join("image")
    }

    fn mount(&mut self) -> Result<(), String> {
        run(Command::new("mount")
            .args(["-o", "loop,noinit_itable"])
            .arg(self.image())
            .arg(self.path()))?;
        self.mounted = true;
        Ok(())
    }

    /// Whoever had files open may take a moment to be gone.
    fn unmount(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + UNMOUNT_LIMIT;
        while self.mounted {
            match run(Command::new("umount").arg(self.path())) {
                Ok(()) => self.mounted = false,
                Err(reason) if Instant::now() > deadline => return Err(reason),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(reason) = self.unmount() {
            // At least it goes away with its last user.
            let _ = run(Command::new("umount").arg("-l").arg(self.path()));
            eprintln!("{reason}");
        }
    }
}

#[expect(unsafe_code, reason = "no safe wrapper knows this call")]
fn shut_down(mount_point: &File) -> rustix::io::Result<()> {
    // SAFETY: the kernel reads one `__u32` behind the pointer and writes nothing.
    unsafe {
        rustix::ioctl::ioctl(
            mount_point,
            Setter::<EXT4_IOC_SHUTDOWN, u32>::new(NO_LOG_FLUSH),
        )
    }
}

/// Runs a command; its words if it fails.
fn run(command: &mut Command) -> Result<(), String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {}: {}", output.status, said.trim()))
}

/// The instrument itself: without fsync it is gone, with fsync it is there.
#[test]
fn a_cut_loses_what_was_not_synced_and_nothing_else() {
    let Some(mut disk) = Disk::new() else {
        return;
    };
    let directory = disk.path();
    let write = |name: &str, text: &str| {
        let path = directory.join(name);
        fs::write(&path, text).expect("the disk takes a file");
        File::open(path).expect("it was just written")
    };
    let sync_directory = || {
        let directory = File::open(&directory).expect("the mount point");
        directory.sync_all().expect("the disk works");
    };
    let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap_or_default();

    write("synced", "synced")
        .sync_all()
        .expect("the disk works");
    write("appended", "first")
        .sync_all()
        .expect("the disk works");
    sync_directory();
    append(&directory.join("appended"), "second");
    write("unsynced", "unsynced");
    assert_eq!(read("unsynced"), "unsynced", "the page cache has it");
    disk.cut();
    let refused = File::open(directory.join("synced")).and_then(|file| file.sync_all());
    assert!(refused.is_err(), "a disk without power took a sync");
    disk.power_up();
    assert_eq!(read("synced"), "synced");
    assert_eq!(read("appended"), "first");
    assert_eq!(read("unsynced"), "", "what was never synced survived");

    // Once more: a disk that was cut can be cut again.
    append(&directory.join("appended"), "second");
    sync_file(&directory.join("appended"));
    append(&directory.join("appended"), "third");
    disk.cut();
    disk.power_up();
    assert_eq!(read("appended"), "firstsecond");
}

#[cfg(test)]
fn append(path: &Path, text: &str) {
    use std::io::Write;
    let mut file = File::options().append(true).open(path).expect("a file");
    file.write_all(text.as_bytes()).expect("the disk works");
}

#[cfg(test)]
fn sync_file(path: &Path) {
    let file = File::open(path).expect("a file");
    file.sync_all().expect("the disk works");
}
