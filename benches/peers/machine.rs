//! What the figures depend on beside the programs.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use leveret::model::format_size;

use super::figures::{Spread, rounded};
use super::processes::first_line;

/// Lines about this machine, and the disk that `data` is on.
///
/// # Errors
/// If the disk takes no file.
pub fn describe(data: &Path) -> anyhow::Result<Vec<(&'static str, String)>> {
    let cores = std::thread::available_parallelism()?;
    let cpu_info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let memory = value(&memory, "MemTotal")
        .split(' ')
        .next()
        .map(str::parse::<u64>);
    let memory = match memory {
        Some(Ok(kibibytes)) => format_size(kibibytes >> 20 << 30),
        _ => "?".to_owned(),
    };
    let model = value(&cpu_info, "model name");
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("?").to_owned();
    Ok(vec![
        ("cores", format!("{cores}, {model}")),
        ("memory", memory),
        ("kernel", kernel.trim().to_owned()),
        ("load before", load),
        ("disk's own fdatasync, p50", sync_time(data)?),
    ])
}

/// The time now, UTC.
pub fn date() -> String {
    first_line(Path::new("date"), &["-u", "+%Y-%m-%d %H:%M UTC"])
}

fn value<'a>(lines: &'a str, name: &str) -> &'a str {
    let line = lines
        .lines()
        .find(|line| line.starts_with(name))
        .unwrap_or_default();
    line.split_once(':').map_or("?", |(_, value)| value.trim())
}

/// How long it takes to append 1 KiB to a file whose blocks are there already.
fn sync_time(data: &Path) -> anyhow::Result<String> {
    let path = data.join("fdatasync");
    let file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .open(&path)?;
    file.write_all_at(&[0; SYNCS * APPEND_BYTES], 0)?;
    file.sync_all()?;
    let mut times_us = Vec::with_capacity(SYNCS);
    for append in 0..SYNCS {
        let began = Instant::now();
        file.write_all_at(&[1; APPEND_BYTES], (append * APPEND_BYTES) as u64)?;
        file.sync_data()?;
        times_us.push(began.elapsed().as_secs_f64() * 1e6);
    }
    fs::remove_file(&path)?;
    let median = Spread::of(&times_us).map_or(f64::NAN, |spread| spread.median);
    Ok(format!("{} µs", rounded(median)))
}

const SYNCS: usize = 500;
const APPEND_BYTES: usize = 1_024;
