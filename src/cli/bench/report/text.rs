//! A report for people: a line for each thing that is worth one.

use std::fmt;

use super::super::args::ExchangeKind;
use super::super::latency::LatencyFigures;
use super::{Blocked, Broker, Checks, Flow, Parameters, Report, Tool};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        row(f, "broker", self.broker.to_string())?;
        row(f, "scenario", self.parameters.to_string())?;
        row(f, "measured", format!("{:.3} s", self.measured_seconds))?;
        if self.parameters.producers > 0 {
            row(f, "published", self.published.to_string())?;
        }
        if let Some(confirmed) = &self.confirmed {
            row(f, "confirmed", confirmed.to_string())?;
        }
        if self.parameters.consumers > 0 {
            row(f, "consumed", self.consumed.to_string())?;
        }
        for (name, latency) in [
            ("latency", &self.latency),
            ("confirm", &self.confirm_latency),
            ("lateness", &self.lateness),
        ] {
            if let Some(latency) = latency {
                row(f, name, latency.to_string())?;
            }
        }
        if let Some(ready) = self.ready_after {
            row(f, "left", format!("{ready} messages in the queues"))?;
        }
        if self.blocked.count > 0 {
            let Blocked { count, seconds } = &self.blocked;
            row(f, "blocked", format!("{count} times, {seconds:.3} s"))?;
        }
        row(f, "checks", self.checks.to_string())?;
        let Tool {
            cpu_seconds,
            cpu_ns_per_message,
        } = &self.tool;
        let cost = format!("{cpu_seconds:.3} s of CPU, {cpu_ns_per_message:.0} ns per message");
        row(f, "this tool", cost)?;
        if let Some(process) = &self.process {
            row(f, "process", process.to_string())?;
        }
        for error in &self.errors {
            row(f, "error", error.clone())?;
        }
        row(
            f,
            "result",
            if self.passed { "passed" } else { "FAILED" }.to_owned(),
        )
    }
}

/// A line of a report.
pub fn row(f: &mut fmt::Formatter<'_>, name: &str, text: String) -> fmt::Result {
    writeln!(f, "{name:<12}{text}")
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            product,
            version,
            uri,
        } = self;
        write!(f, "{product} {version} at {uri}")
    }
}

impl fmt::Display for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            producers,
            queues,
            consumers,
            size,
            ..
        } = self;
        write!(f, "{producers} to {queues} to {consumers}, {size} B")?;
        match self.exchange {
            ExchangeKind::Default => {}
            exchange => write!(f, ", {} exchange", exchange.name())?,
        }
        if self.bindings > 0 {
            write!(f, ", {} bindings", self.bindings)?;
        }
        match (self.prefetch, self.ack_every) {
            _ if self.consumers == 0 => {}
            (Some(prefetch), Some(1)) => write!(f, ", acks, prefetch {prefetch}")?,
            (Some(prefetch), Some(every)) => {
                write!(f, ", an ack per {every}, prefetch {prefetch}")?;
            }
            _ => f.write_str(", auto-ack")?,
        }
        if self.priorities > 1 {
            write!(f, ", {} priorities", self.priorities)?;
        }
        if self.confirm > 0 {
            write!(f, ", confirms within {}", self.confirm)?;
        }
        if let Some(rate) = self.rate {
            write!(f, ", {rate}/s")?;
        }
        let words = [
            (self.persistent, ", persistent"),
            (self.durable, ", durable"),
            (self.direction != "both", ", "),
            (self.direction != "both", self.direction),
        ];
        words
            .iter()
            .filter(|(said, _)| *said)
            .try_for_each(|(_, word)| f.write_str(word))
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            messages,
            per_second,
        } = self;
        write!(f, "{per_second:.0} per second ({messages} in all)")
    }
}

impl fmt::Display for LatencyFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "p50 {}  p99 {}  p99.9 {}  max {}",
            Time(self.p50_us),
            Time(self.p99_us),
            Time(self.p99_9_us),
            Time(self.max_us)
        )
    }
}

impl fmt::Display for Checks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "lost {}  duplicated {}  redelivered {}  reordered {}",
            self.lost, self.duplicated, self.redelivered, self.reordered
        )?;
        for (count, name) in [(self.nacked, "nacked"), (self.foreign, "foreign")] {
            if count > 0 {
                write!(f, "  {name} {count}")?;
            }
        }
        match self.stalled {
            true => f.write_str("  (stalled)"),
            false => Ok(()),
        }
    }
}

/// Microseconds in the unit that reads best.
pub struct Time(pub f64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            us if us < 1_000.0 => write!(f, "{us:.0} µs"),
            us if us < 1_000_000.0 => write!(f, "{:.2} ms", us / 1e3),
            us => write!(f, "{:.2} s", us / 1e6),
        }
    }
}
