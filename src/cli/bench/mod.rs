//! `leveret bench`: a load tool for any AMQP 0-9-1 broker.
//!
//! ```text
//! args ─▶ scenario ─▶ topology declared ─▶ run: consumers and producers, a thread and
//!                                          a connection each ─▶ report
//! ```
//! The tool shares the machine with the broker, so it must be lean: publishes are copied
//! from frames encoded beforehand (`template`), deliveries are read in place
//! (`delivery`), and the threads share nothing but counters (`shared`).
//!
//! Every message carries its place in a sequence and the time at which it was due to be
//! sent (`stamp`). So each run proves that nothing was lost, doubled or reordered
//! (`sequence`), and a broker that stalls a publisher cannot hide it from the latencies.

mod args;
mod client;
mod confirms;
mod consumer;
mod delivery;
mod input;
mod latency;
mod pacing;
mod producer;
mod progress;
mod report;
mod run;
mod scenario;
#[cfg(test)]
mod scripted;
mod sequence;
mod shared;
mod stamp;
mod template;
mod topology;
mod uri;

use std::process::ExitCode;

pub use args::{BenchArgs, ExchangeKind};

/// Runs the load and prints the result. The exit code tells of anything that was lost,
/// duplicated or reordered, and of a connection that the broker closed.
///
/// # Errors
/// If the options contradict each other, or the broker cannot be reached or refuses what
/// the run needs.
pub fn run(args: &BenchArgs) -> anyhow::Result<ExitCode> {
    let scenario = scenario::Scenario::new(args)?;
    let report = run::execute(&scenario)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    Ok(if report.passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
