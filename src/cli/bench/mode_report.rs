//! What a load other than messages came to: for people as text, for scripts as JSON.

use std::fmt;

use serde::Serialize;

use super::client::Connection;
use super::latency::LatencyFigures;
use super::process::ProcessFigures;
use super::repeat::Measured;
use super::report::{Broker, Time, row};
use super::scenario::Scenario;

/// The result.
#[derive(Clone, Debug, Serialize)]
pub struct ModeReport {
    /// Something was done, and nothing went wrong.
    pub passed: bool,
    mode: &'static str,
    broker: Broker,
    /// Connections or threads that work at once.
    producers: u16,
    /// Operations that ended while it was measured.
    count: u64,
    measured_seconds: f64,
    per_second: f64,
    /// Of one operation, from its first octet to its last answer.
    latency_us: Option<Percentiles>,
    /// What the broker cost, if its process was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<ProcessFigures>,
    #[serde(flatten)]
    growth: Option<Growth>,
    errors: Vec<String>,
}

/// Latencies in microseconds.
#[derive(Clone, Debug, Serialize)]
struct Percentiles {
    p50: f64,
    p99: f64,
    max: f64,
}

/// Memory that the broker's process took for what is held.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Growth {
    rss_before_bytes: u64,
    rss_after_bytes: u64,
    rss_per_item_bytes: f64,
}

impl Growth {
    /// From what was resident before and after.
    pub fn new(before_bytes: u64, after_bytes: u64, count: u64) -> Self {
        Self {
            rss_before_bytes: before_bytes,
            rss_after_bytes: after_bytes,
            rss_per_item_bytes: (after_bytes as f64 - before_bytes as f64) / count.max(1) as f64,
        }
    }
}

impl ModeReport {
    /// Puts the findings together.
    pub fn new(scenario: &Scenario, control: &Connection, measured: Measured) -> Self {
        let Measured {
            count,
            seconds,
            latencies,
            process,
            mut errors,
        } = measured;
        if count == 0 && errors.is_empty() {
            errors.push("nothing was done while it was measured".to_owned());
        }
        let percentiles = |figures: LatencyFigures| Percentiles {
            p50: figures.p50_us,
            p99: figures.p99_us,
            max: figures.max_us,
        };
        Self {
            passed: errors.is_empty(),
            mode: scenario.mode.name(),
            broker: Broker::new(control.broker(), &scenario.uri),
            producers: scenario.producers,
            count,
            measured_seconds: seconds,
            per_second: match seconds > 0.0 {
                true => count as f64 / seconds,
                false => 0.0,
            },
            latency_us: latencies.figures().map(percentiles),
            process,
            growth: None,
            errors,
        }
    }

    /// With what the broker's memory has grown by.
    pub fn with_growth(self, growth: Option<Growth>) -> Self {
        Self { growth, ..self }
    }
}

impl fmt::Display for ModeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        row(f, "broker", self.broker.to_string())?;
        row(f, "load", self.mode.to_owned())?;
        row(f, "measured", format!("{:.3} s", self.measured_seconds))?;
        let done = format!("{:.0} per second ({} in all)", self.per_second, self.count);
        row(f, "done", done)?;
        if let Some(Percentiles { p50, p99, max }) = self.latency_us {
            let [p50, p99, max] = [p50, p99, max].map(|us| Time(us).to_string());
            row(f, "latency", format!("p50 {p50}  p99 {p99}  max {max}"))?;
        }
        if let Some(growth) = self.growth {
            row(f, "memory", growth.to_string())?;
        }
        if let Some(process) = &self.process {
            row(f, "process", process.to_string())?;
        }
        for error in &self.errors {
            row(f, "error", error.clone())?;
        }
        let result = if self.passed { "passed" } else { "FAILED" };
        row(f, "result", result.to_owned())
    }
}

impl fmt::Display for Growth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        write!(
            f,
            "{:.1} MiB before, {:.1} MiB after, {:.2} KiB each",
            mib(self.rss_before_bytes),
            mib(self.rss_after_bytes),
            self.rss_per_item_bytes / 1_024.0
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_may_also_shrink() {
        assert_eq!(Growth::new(100, 300, 50).rss_per_item_bytes, 4.0);
        assert_eq!(Growth::new(300, 100, 50).rss_per_item_bytes, -4.0);
    }
}
