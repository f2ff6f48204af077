//! Leveret itself: the binary of this build.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use serde_json::Value;

use super::amqp;
use crate::peer::{Job, Peer, Running};
use crate::processes::{Process, first_line, free_port, launch};
use crate::scenarios::Scenario;
use crate::table::PeerNote;

/// `leveret serve` with its defaults.
#[derive(Debug)]
pub struct Leveret;

/// The name that figures of others are held against.
pub const NAME: &str = "leveret";

impl Peer for Leveret {
    fn name(&self) -> &str {
        NAME
    }

    fn takes_part(&self, _: &Scenario) -> bool {
        true
    }

    fn start(&self, directory: &Path) -> anyhow::Result<Box<dyn Running>> {
        let port = free_port()?;
        let mut command = launch::command(Path::new(BINARY))?;
        command
            .arg("serve")
            .args(["--amqp", &format!("127.0.0.1:{port}"), "--data-dir"])
            .arg(directory.join("data"))
            .env_clear();
        let mut process = Process::start(command, directory, NAME)?;
        process.await_port(port).context("leveret does not start")?;
        Ok(Box::new(OwnBroker {
            process,
            uri: format!("amqp://guest:guest@127.0.0.1:{port}/"),
            directory: directory.to_owned(),
        }))
    }

    fn note(&self) -> PeerNote {
        PeerNote {
            name: NAME.to_owned(),
            version: Some(first_line(Path::new(BINARY), &["--version"])),
            settings: "defaults".to_owned(),
            confirms: "on disk: `fdatasync` has returned".to_owned(),
        }
    }
}

/// An AMQP broker that the suite has started.
#[derive(Debug)]
pub struct OwnBroker {
    /// Itself.
    pub process: Process,
    /// Where it listens.
    pub uri: String,
    /// Where it may write.
    pub directory: PathBuf,
}

impl Running for OwnBroker {
    fn load(&mut self, job: &Job<'_>) -> anyhow::Result<Value> {
        let report = amqp::load(&self.uri, Some(self.process.pid()), &self.directory, job);
        report.map_err(|error| match self.process.runs() {
            true => error,
            false => anyhow!("{error:#}; the broker ended: {}", self.process.last_words()),
        })
    }
}

const BINARY: &str = env!("CARGO_BIN_EXE_leveret");
