//! What does not speak AMQP, loaded in the same way by drivers of our own.
//!
//! ```text
//! sender: stamped messages, 64 KiB a write ─▶ the peer ─▶ receivers: every stamp, in order
//!    ▲ waits while too many are outstanding ◀── counters ──┘
//! ```
//! The window of outstanding messages is there because NATS cuts off consumers that
//! do not keep up, and Redis keeps in memory what they have not fetched.

mod flow;
mod nats;
mod readers;
mod receiver;
mod redis;
pub mod relay;
mod sender;
mod wire;

pub use nats::Nats;
pub use redis::Redis;
pub use relay::Relay;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, anyhow};
use serde_json::Value;

use crate::peer::{Job, Running};
use crate::processes::Process;
use crate::scenarios::{Guests, Scenario};
use wire::Wire;

/// Whether a scenario has a shape for the neighbour of that name.
fn invited(name: &str, scenario: &Scenario) -> bool {
    match scenario.guests {
        Guests::All { neighbours, .. } => neighbours.contains(&name),
        _ => false,
    }
}

/// A neighbour that the suite has started.
struct OwnNeighbour<W> {
    process: Process,
    wire: W,
}

impl<W: Wire + 'static> OwnNeighbour<W> {
    /// Starts it, and waits until it listens.
    fn start(
        command: Command,
        directory: &Path,
        name: &str,
        port: u16,
        wire: W,
    ) -> anyhow::Result<Box<dyn Running>> {
        let mut process = Process::start(command, directory, name)?;
        let listens = process.await_port(port);
        listens.with_context(|| format!("{name} does not start"))?;
        Ok(Box::new(Self { process, wire }))
    }
}

impl<W: Wire> Running for OwnNeighbour<W> {
    fn load(&mut self, job: &Job<'_>) -> anyhow::Result<Value> {
        let report = flow::run(&self.wire, self.process.pid(), job);
        report.map_err(|error| anyhow!("{error:#}; it last said: {}", self.process.last_words()))
    }
}
