//! What a process has cost so far, as `/proc` tells it.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

/// Processor time and memory of a process.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// User and system time since its start.
    pub cpu: Duration,
    /// Resident now.
    pub rss_bytes: u64,
    /// The most that was resident.
    pub peak_rss_bytes: u64,
}

impl Usage {
    /// Of that process; `None` if it is gone.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may hold blanks and parentheses.
        let (_, fields) = stat.rsplit_once(") ")?;
        let mut fields = fields.split(' ').skip(USER_TIME);
        let mut ticks = || fields.next()?.parse::<u64>().ok();
        let ticks = ticks()? + ticks()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let kibibytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        Some(Self {
            cpu: Duration::from_secs(1)
                .mul_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64),
            rss_bytes: kibibytes("VmRSS:")? << 10,
            peak_rss_bytes: kibibytes("VmHWM:")? << 10,
        })
    }
}

/// What so many messages have cost between two moments, as reports have it.
pub fn cost(before: Usage, after: Usage, messages: u64) -> Value {
    let cpu_seconds = after.cpu.saturating_sub(before.cpu).as_secs_f64();
    json!({
        "cpu_seconds": cpu_seconds,
        "cpu_seconds_per_million": cpu_seconds * 1e6 / messages.max(1) as f64,
        "rss_bytes": after.rss_bytes,
        "peak_rss_bytes": after.peak_rss_bytes,
    })
}

/// Number of `utime` behind the name, from 0.
const USER_TIME: usize = 11;
