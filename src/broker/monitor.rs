//! Watches free disk and the process's memory, and raises or clears the alarms.
//!
//! A look that fails changes nothing: an alarm is raised by figures only.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::config::MemoryMax;

use super::{Alarm, Node};

/// What is watched.
#[derive(Clone, Debug)]
pub struct MonitorSettings {
    /// A directory on the file system whose free space counts.
    pub data_dir: PathBuf,
    /// Free octets below which the disk alarm is raised; `None` depends on the
    /// size of the file system.
    pub disk_free_min: Option<u64>,
    /// The process's memory above which the memory alarm is raised.
    pub memory_max: MemoryMax,
}

/// Watches until it is dropped.
pub async fn monitor(node: Arc<Node>, settings: MonitorSettings) {
    let mut disk = DiskWatch::new(settings.data_dir, settings.disk_free_min);
    let mut memory = MemoryWatch::new(settings.memory_max);
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // Both looks are a few microseconds of system calls on local state.
        for looks_at_memory in [true, false] {
            ticks.tick().await;
            disk.look(&node);
            if looks_at_memory && let Some(memory) = &mut memory {
                memory.look(&node);
            }
        }
    }
}

/// Free space of one file system.
struct DiskWatch {
    data_dir: PathBuf,
    free_min: Option<u64>,
    low: bool,
    /// The failure that was logged last.
    failed: Option<io::ErrorKind>,
}

/// The memory of this process.
struct MemoryWatch {
    bytes_max: u64,
    high: bool,
    failed: bool,
}

#[derive(Clone, Copy, Debug)]
struct DiskSpace {
    free: u64,
    total: u64,
}

impl DiskWatch {
    fn new(data_dir: PathBuf, free_min: Option<u64>) -> Self {
        Self {
            data_dir,
            free_min,
            low: false,
            failed: None,
        }
    }

    fn look(&mut self, node: &Node) {
        let space = match disk_space(&self.data_dir) {
            Ok(space) => space,
            Err(error) => {
                if self.failed.replace(error.kind()) != Some(error.kind()) {
                    log_blind(&self.data_dir, &error);
                }
                return;
            }
        };
        self.failed = None;
        let min = self.free_min.unwrap_or_else(|| auto_free_min(space.total));
        let low = is_low(self.low, space.free, min);
        if low == self.low {
            return;
        }
        self.low = low;
        let (free, min) = (mib(space.free), mib(min));
        if low {
            node.alarms().raise(Alarm::Disk);
            tracing::warn!(%free, %min, "low on disk: clients that publish are blocked");
        } else {
            node.alarms().clear(Alarm::Disk);
            tracing::info!(%free, %min, "enough free disk again: clients may publish");
        }
    }
}

impl MemoryWatch {
    /// `None` if there is no maximum, or it cannot be known.
    fn new(max: MemoryMax) -> Option<Self> {
        let bytes_max = match max {
            MemoryMax::Unlimited => return None,
            MemoryMax::Bytes(bytes) => bytes,
            MemoryMax::Percent(percent) => {
                let Some(total) = machine_memory() else {
                    tracing::warn!("memory_max has no effect: how much memory there is is unknown");
                    return None;
                };
                total / 100 * u64::from(percent)
            }
        };
        Some(Self {
            bytes_max,
            high: false,
            failed: false,
        })
    }

    fn look(&mut self, node: &Node) {
        let Some(used) = process_memory() else {
            if !std::mem::replace(&mut self.failed, true) {
                tracing::warn!("memory_max has no effect: how much memory is used is unknown");
            }
            return;
        };
        let high = is_high(self.high, used, self.bytes_max);
        if high == self.high {
            return;
        }
        self.high = high;
        let (used, max) = (mib(used), mib(self.bytes_max));
        if high {
            node.alarms().raise(Alarm::Memory);
            tracing::warn!(%used, %max, "low on memory: clients that publish are blocked");
        } else {
            node.alarms().clear(Alarm::Memory);
            tracing::info!(%used, %max, "enough memory again: clients may publish");
        }
    }
}

/// Below the minimum it is low, and stays so until there is a quarter more.
fn is_low(was_low: bool, free: u64, min: u64) -> bool {
    let enough = if was_low {
        min.saturating_add(min / 4)
    } else {
        min
    };
    free < enough
}

/// Above the maximum it is high, and stays so until it is below nine tenths.
fn is_high(was_high: bool, used: u64, max: u64) -> bool {
    if was_high {
        used >= max / 10 * 9
    } else {
        used > max
    }
}

/// 2 GiB, or 5 % of the file system if that is more.
fn auto_free_min(total: u64) -> u64 {
    (total / 20).max(2 << 30)
}

fn disk_space(directory: &Path) -> io::Result<DiskSpace> {
    let found = rustix::fs::statvfs(directory)?;
    Ok(DiskSpace {
        free: found.f_bavail.saturating_mul(found.f_frsize),
        total: found.f_blocks.saturating_mul(found.f_frsize),
    })
}

/// Resident memory in octets.
fn process_memory() -> Option<u64> {
    // Not statm, which counts in pages: their size would be one more thing to ask.
    kib_line(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

/// What the machine has, or less if a control group allows less.
fn machine_memory() -> Option<u64> {
    let total = kib_line(&fs::read_to_string("/proc/meminfo").ok()?, "MemTotal:")?;
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = limit_files(&groups)
        .into_iter()
        .filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok());
    Some(limits.fold(total, u64::min))
}

/// The files that may limit this process's memory: those of its control group
/// and of the groups around it, for both versions. In a container the path may
/// be the host's while the mount shows the group itself, so the root counts too.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else {
            continue;
        };
        let (mount, file) = if controllers.is_empty() {
            ("/sys/fs/cgroup", "memory.max")
        } else if controllers.split(',').any(|name| name == "memory") {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        } else {
            continue;
        };
        let group = Path::new(group.trim_start_matches('/'));
        files.extend(
            group
                .ancestors()
                .map(|group| Path::new(mount).join(group).join(file)),
        );
    }
    files
}

/// The octets of a line such as `VmRSS:   1234 kB`.
fn kib_line(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kib.checked_mul(1024)
}

/// For the log, where a figure need not be exact.
fn mib(bytes: u64) -> String {
    format!("{}MiB", bytes >> 20)
}

fn log_blind(data_dir: &Path, error: &io::Error) {
    let data_dir = data_dir.display();
    if error.kind() == io::ErrorKind::NotFound {
        tracing::debug!(%data_dir, "there is no data directory whose free space could be watched");
    } else {
        tracing::warn!(%data_dir, %error, "disk_free_min has no effect: free space is unknown");
    }
}

/// How often free disk is looked at, and memory half as often.
const INTERVAL: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::{Access, ConnectionLimits, InMemory};
    use crate::config::Users;

    #[test]
    fn an_alarm_stays_until_there_is_more_than_at_its_beginning() {
        let mut low = false;
        for (free, expected) in [
            (100, false),
            (99, true),
            (100, true),
            (124, true),
            (125, false),
            (100, false),
            (0, true),
        ] {
            low = is_low(low, free, 100);
            assert_eq!(low, expected, "{free} free");
        }
        assert!(!is_low(false, 0, 0) && !is_low(true, 0, 0), "0 is never");
        assert!(is_low(true, u64::MAX - 1, u64::MAX));

        let mut high = false;
        for (used, expected) in [
            (100, false),
            (101, true),
            (100, true),
            (90, true),
            (89, false),
            (100, false),
        ] {
            high = is_high(high, used, 100);
            assert_eq!(high, expected, "{used} used");
        }
    }

    #[test]
    fn figures_raise_and_clear_and_a_failed_look_changes_nothing() {
        let limits = ConnectionLimits::default();
        let access = Access::new(Users::default());
        let node = Node::new(access, limits, [], Arc::new(InMemory::default()));
        let mut disk = DiskWatch::new(".".into(), Some(u64::MAX));
        disk.look(&node);
        assert_eq!(node.alarms().raised().reason(), Some("low on disk"));
        disk.data_dir = "/no such directory".into();
        disk.free_min = Some(0);
        disk.look(&node);
        assert_eq!(node.alarms().raised().reason(), Some("low on disk"));
        disk.data_dir = ".".into();
        disk.look(&node);
        assert!(!node.alarms().any());

        let mut memory = MemoryWatch::new(MemoryMax::Bytes(1)).expect("it has a maximum");
        memory.look(&node);
        assert_eq!(node.alarms().raised().reason(), Some("low on memory"));
        memory.bytes_max = u64::MAX;
        memory.look(&node);
        assert!(!node.alarms().any());
        assert!(MemoryWatch::new(MemoryMax::Unlimited).is_none());
    }

    #[test]
    fn auto_is_a_share_of_a_large_file_system() {
        assert_eq!(auto_free_min(0), 2 << 30);
        assert_eq!(auto_free_min(40 << 30), 2 << 30);
        assert_eq!(auto_free_min(100 << 30), 5 << 30);
    }

    #[test]
    fn limits_are_looked_for_in_both_versions_and_all_groups_around() {
        let shown = |groups| {
            let files = limit_files(groups);
            let files = files.iter().map(|file| file.display().to_string());
            files.collect::<Vec<_>>()
        };
        assert_eq!(
            shown("0::/system.slice/leveret.service\n"),
            [
                "/sys/fs/cgroup/system.slice/leveret.service/memory.max",
                "/sys/fs/cgroup/system.slice/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
        );
        assert_eq!(
            shown("3:cpu,cpuacct:/a\n2:memory:/docker\nnonsense\n"),
            [
                "/sys/fs/cgroup/memory/docker/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            ]
        );
    }

    #[test]
    fn figures_are_read_as_the_kernel_writes_them() {
        let status = "Name:\tleveret\nVmRSS:\t    5120 kB\nThreads:\t4\n";
        assert_eq!(kib_line(status, "VmRSS:"), Some(5 << 20));
        assert_eq!(kib_line(status, "VmSwap:"), None);
        assert_eq!(kib_line("VmRSS: many kB", "VmRSS:"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_says_how_much_it_has() {
        let (used, total) = (process_memory(), machine_memory());
        assert!(
            used > Some(1 << 20) && used < total,
            "{used:?} of {total:?}"
        );
        let space = disk_space(Path::new(".")).expect("the directory is there");
        assert!(space.free <= space.total && space.total > 0, "{space:?}");
        let missing = disk_space(Path::new("/no such directory"));
        assert_eq!(
            missing.expect_err("it is missing").kind(),
            io::ErrorKind::NotFound
        );
    }
}
