//! A run of `leveret bench`, bounded in time.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::bail;
use leveret::model::format_duration;
use serde_json::Value;

use crate::peer::Job;
use crate::processes::{POLL, Process, interrupt, launch};

/// Loads the broker at that address; the tool's output goes to `directory`.
///
/// # Errors
/// If the tool gives no report in time.
pub fn load(uri: &str, pid: Option<u32>, directory: &Path, job: &Job<'_>) -> anyhow::Result<Value> {
    let mut command = launch::command(Path::new(env!("CARGO_BIN_EXE_leveret")))?;
    command
        .args(["bench", "--json", "--uri", uri])
        .args(["--queue-prefix", "leveret-peers"])
        .args(job.options.split_whitespace())
        .env_clear();
    if let Some(pid) = pid {
        command.arg("--pid").arg(pid.to_string());
    }
    if let Some(rate) = job.rate {
        command.arg("--rate").arg(rate.to_string());
    }
    if job.is_timed() {
        command.arg("--duration").arg(format_duration(job.measured));
        command.arg("--warmup").arg(format_duration(job.warmup));
    }
    let mut tool = Process::start(command, directory, "bench")?;
    let limit = LIMIT + job.warmup + job.measured;
    let deadline = Instant::now() + limit;
    while tool.runs() {
        interrupt::check()?;
        if Instant::now() > deadline {
            bail!("not done after {}", format_duration(limit));
        }
        std::thread::sleep(POLL);
    }
    let output = tool.output()?;
    if output.is_empty() {
        bail!("{}", tool.last_words());
    }
    Ok(serde_json::from_str(&output)?)
}

/// The longest backlog is drained within that.
const LIMIT: Duration = Duration::from_secs(300);
