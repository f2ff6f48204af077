//! What a run costs: CPU time and memory of the broker's process, from `/proc`, and CPU
//! time of this tool.

use std::fmt;
use std::fs;
use std::io;
use std::time::Duration;

use anyhow::Context;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use super::scenario::Scenario;

/// A process on this machine.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    pid: u32,
}

/// What had been used up to a moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Usage {
    /// User and system time of all threads, in the kernel's ticks of mostly 10 ms.
    pub cpu: Duration,
    /// The same of this tool.
    pub tool_cpu: Duration,
    /// Memory that is resident now.
    pub rss_bytes: u64,
    /// The most that ever was.
    pub peak_rss_bytes: u64,
}

/// What a report says of the broker's process.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProcessFigures {
    /// User and system time while it was measured.
    pub cpu_seconds: f64,
    /// For a million messages (consumed ones, or published if nobody consumed) or of what
    /// else was counted; `None` if that is nothing.
    pub cpu_seconds_per_million: Option<f64>,
    /// What this tool used for them.
    pub tool_cpu_seconds_per_million: Option<f64>,
    /// Resident at the end.
    pub rss_bytes: u64,
    /// The most that was ever resident, also before the run.
    pub peak_rss_bytes: u64,
}

/// The process that a scenario names.
///
/// # Errors
/// If there is no such process, or it may not be looked at.
pub fn of(scenario: &Scenario) -> anyhow::Result<Option<Process>> {
    let Some(pid) = scenario.pid else {
        return Ok(None);
    };
    let process = Process { pid };
    process
        .usage()
        .with_context(|| format!("cannot watch process {pid}"))?;
    Ok(Some(process))
}

impl Process {
    /// What to say where it could not be watched to the end.
    pub fn lost(error: &io::Error) -> String {
        format!("the broker's process cannot be watched: {error}")
    }

    /// What it has used so far.
    ///
    /// # Errors
    /// If it is gone, or `/proc` is not what it should be.
    pub fn usage(&self) -> io::Result<Usage> {
        let file = |name: &str| fs::read_to_string(format!("/proc/{}/{name}", self.pid));
        let odd = |name: &str| {
            let text = format!("/proc/{}/{name} is not as expected", self.pid);
            io::Error::new(io::ErrorKind::InvalidData, text)
        };
        let status = file("status")?;
        let memory = |key| memory_bytes(&status, key).ok_or_else(|| odd("status"));
        let ticks = cpu_ticks(&file("stat")?).ok_or_else(|| odd("stat"))?;
        let per_second = rustix::param::clock_ticks_per_second().max(1);
        Ok(Usage {
            cpu: Duration::from_secs_f64(ticks as f64 / per_second as f64),
            tool_cpu: own_cpu(),
            rss_bytes: memory("VmRSS:")?,
            peak_rss_bytes: memory("VmHWM:")?,
        })
    }
}

impl ProcessFigures {
    /// What was used between two moments, for so many messages or operations.
    pub fn between(from: Usage, to: Usage, operations: u64) -> Self {
        let spent = |from: Duration, to: Duration| to.saturating_sub(from).as_secs_f64();
        let per_million =
            |seconds: f64| (operations > 0).then(|| seconds * 1e6 / operations as f64);
        let cpu_seconds = spent(from.cpu, to.cpu);
        Self {
            cpu_seconds,
            cpu_seconds_per_million: per_million(cpu_seconds),
            tool_cpu_seconds_per_million: per_million(spent(from.tool_cpu, to.tool_cpu)),
            rss_bytes: to.rss_bytes,
            peak_rss_bytes: to.peak_rss_bytes,
        }
    }
}

impl fmt::Display for ProcessFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} s of CPU", self.cpu_seconds)?;
        if let Some(each) = self.cpu_seconds_per_million {
            write!(f, ", {each:.3} s per million")?;
        }
        if let Some(tool) = self.tool_cpu_seconds_per_million {
            write!(f, " (this tool {tool:.3} s)")?;
        }
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let (rss, peak) = (mib(self.rss_bytes), mib(self.peak_rss_bytes));
        write!(f, ", {rss:.1} MiB resident, {peak:.1} MiB at most")
    }
}

/// Processor time of all threads of this process so far.
pub fn own_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// User and system time in `/proc/PID/stat`: its 14th and 15th field. The second one is the
/// program's name in brackets, which may have blanks and brackets of its own.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, from_third) = stat.rsplit_once(')')?;
    let mut times = from_third.split_ascii_whitespace().skip(11);
    let mut next = || times.next()?.parse::<u64>().ok();
    next()?.checked_add(next()?)
}

/// A line of `/proc/PID/status`, such as `VmRSS:     1234 kB`.
fn memory_bytes(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    kib.checked_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let rest = "S 1 1 1 0 -1 4194560 100 0 2 0 250 31 9 9 20 0 4 0 77 1000 2000 18446";
        for name in ["leveret", "beam.smp", "a) S 1 (b", "two words"] {
            assert_eq!(cpu_ticks(&format!("42 ({name}) {rest}\n")), Some(281));
        }
        assert_eq!(cpu_ticks("42 (cut) S 1 1"), None);
        assert_eq!(cpu_ticks(""), None);
    }

    #[test]
    fn memory_is_found_by_its_key() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t      12 kB\nThreads:\t4\n";
        assert_eq!(memory_bytes(status, "VmRSS:"), Some(12_288));
        assert_eq!(memory_bytes(status, "VmHWM:"), Some(2 << 20));
        assert_eq!(memory_bytes(status, "VmSwap:"), None);
    }

    #[test]
    fn this_process_is_seen_to_work() {
        let process = Process {
            pid: std::process::id(),
        };
        let before = process.usage().expect("it is here");
        let mut after = before;
        while after.cpu == before.cpu {
            after = process.usage().expect("it is here");
        }
        assert!(after.cpu > before.cpu && after.tool_cpu > before.tool_cpu);
        assert!(after.peak_rss_bytes >= after.rss_bytes && after.rss_bytes > 0);
    }

    #[test]
    fn figures_are_of_what_lies_between() {
        let usage = |cpu_ms, tool_ms, rss_bytes| Usage {
            cpu: Duration::from_millis(cpu_ms),
            tool_cpu: Duration::from_millis(tool_ms),
            rss_bytes,
            peak_rss_bytes: 99,
        };
        let (from, to) = (usage(1_000, 500, 7), usage(3_500, 1_500, 9));
        let figures = ProcessFigures::between(from, to, 500_000);
        let expected = ProcessFigures {
            cpu_seconds: 2.5,
            cpu_seconds_per_million: Some(5.0),
            tool_cpu_seconds_per_million: Some(2.0),
            rss_bytes: 9,
            peak_rss_bytes: 99,
        };
        assert_eq!(figures, expected);
        let nothing = ProcessFigures::between(from, to, 0);
        assert_eq!(nothing.cpu_seconds_per_million, None);
    }
}
