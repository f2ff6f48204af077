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
//! Loads of other kinds (`mode`) repeat one operation (`repeat`) over slots of a connection
//! (`slots`) or over many connections (`dialogue`).
//!
//! Every message carries its place in a sequence and the time at which it was due to be
//! sent (`stamp`). So each run proves that nothing was lost, doubled or reordered
//! (`sequence`), and a broker that stalls a publisher cannot hide it from the latencies.

mod args;
mod churn;
mod client;
mod confirms;
mod consumer;
mod delivery;
mod dialogue;
mod hold;
mod input;
mod latency;
mod mode;
mod mode_report;
mod open_files;
mod pacing;
mod process;
mod producer;
mod progress;
mod repeat;
mod report;
mod rpc;
mod run;
mod scenario;
#[cfg(test)]
mod scripted;
#[cfg(test)]
mod scripted_modes;
mod sequence;
mod shared;
mod slots;
mod stamp;
mod template;
mod topology;
mod uri;

use std::fmt::Display;
use std::process::ExitCode;

use serde::Serialize;

pub use args::{BenchArgs, Churn, ExchangeKind, Hold};
use mode::Mode;

/// Runs the load and prints the result. The exit code tells of anything that was lost,
/// duplicated or reordered, and of a connection that the broker closed.
///
/// # Errors
/// If the options contradict each other, or the broker cannot be reached or refuses what
/// the run needs.
pub fn run(args: &BenchArgs) -> anyhow::Result<ExitCode> {
    let scenario = scenario::Scenario::new(args)?;
    let passed = match scenario.mode {
        Mode::Messages => {
            let report = run::execute(&scenario)?;
            print(&report, args.json)?;
            report.passed
        }
        Mode::Churn { what, pipeline } => {
            let report = churn::execute(what, pipeline, &scenario)?;
            print(&report, args.json)?;
            report.passed
        }
        Mode::Hold {
            what,
            count,
            pipeline,
        } => {
            let report = hold::execute(what, count, pipeline, &scenario)?;
            print(&report, args.json)?;
            report.passed
        }
        Mode::Rpc => {
            let report = rpc::execute(&scenario)?;
            print(&report, args.json)?;
            report.passed
        }
    };
    Ok(if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print(report: &(impl Display + Serialize), json: bool) -> anyhow::Result<()> {
    match json {
        true => println!("{}", serde_json::to_string_pretty(report)?),
        false => print!("{report}"),
    }
    Ok(())
}
