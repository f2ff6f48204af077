//! Where a broker keeps its data, and how it is taken from it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::disk::Disk;
use super::process::Broker;

/// A place for a data directory.
pub enum Site {
    /// What the page cache has survives.
    Directory(TempDir),
    /// Only what was synced survives.
    Disk(Disk),
}

/// A way to end a broker without asking it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Crash {
    /// SIGKILL; on a disk the power goes, too.
    Kill,
    /// The disk fails under a running broker, which is killed that much later.
    DiskFirst(Duration),
}

impl Site {
    pub fn directory() -> Self {
        Self::Directory(tempfile::tempdir().expect("a directory"))
    }

    pub fn data_dir(&self) -> PathBuf {
        match self {
            Self::Directory(directory) => directory.path().join("data"),
            Self::Disk(disk) => disk.path().join("data"),
        }
    }

    /// An empty directory on the same disk.
    pub fn clear(&mut self) {
        let data_dir = self.data_dir();
        if data_dir.exists() {
            std::fs::remove_dir_all(&data_dir).expect("nobody uses it");
        }
        if let Self::Disk(disk) = self {
            // The removal is no part of what a cut may undo.
            let mount_point = File::open(disk.path()).expect("the mount point");
            mount_point.sync_all().expect("the disk works");
        }
    }

    /// With `LEVERET_CRASH_KEEP=directory`: copies the data directory there, as
    /// the next broker finds it, in place of the copy before.
    pub fn keep_copy(&self) {
        let Some(directory) = std::env::var_os("LEVERET_CRASH_KEEP") else {
            return;
        };
        let copy = Path::new(&directory).join("data");
        if copy.exists() {
            std::fs::remove_dir_all(&copy).expect("the copy can be replaced");
        }
        std::fs::create_dir_all(&directory).expect("a directory for the copy");
        if self.data_dir().exists() {
            let copied = Command::new("cp")
                .arg("-a")
                .args([&self.data_dir(), &copy])
                .status();
            assert!(copied.is_ok_and(|status| status.success()), "cp failed");
        }
    }

    /// Ends a broker, as of that moment. What it says after the disk has failed
    /// must still be true.
    pub fn crash(&mut self, broker: Broker, crash: Crash) -> Instant {
        let log = broker.log().clone();
        let kill = |broker: Broker| {
            let (at, ended) = broker.kill();
            let log = log.tail();
            assert!(ended.is_none(), "it ended by itself: {ended:?}\n{log}");
            at
        };
        let Self::Disk(disk) = self else {
            return kill(broker);
        };
        let at = match crash {
            Crash::Kill => {
                let at = kill(broker);
                disk.cut();
                at
            }
            Crash::DiskFirst(later) => {
                let at = Instant::now();
                disk.cut();
                std::thread::sleep(later);
                let (_, ended) = broker.kill();
                assert!(
                    ended.is_none_or(|status| status.code() != Some(0)),
                    "it ended with success though its disk had failed:\n{}",
                    log.tail()
                );
                at
            }
        };
        disk.power_up();
        at
    }
}
