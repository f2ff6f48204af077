//! RabbitMQ as the system's package installs it, on ports and in a directory of its
//! own, with a name server of its own.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;

use super::leveret::OwnBroker;
use crate::peer::{Job, Peer, Running};
use crate::processes::{Process, find_program, free_port, launch};
use crate::scenarios::{Guests, Scenario};
use crate::table::PeerNote;

/// An installed RabbitMQ.
#[derive(Debug)]
pub struct RabbitMq {
    server: PathBuf,
    epmd: PathBuf,
    queues: QueueVersion,
}

/// How it stores what is in a classic queue.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum QueueVersion {
    /// What it does unless told.
    Default,
    /// Classic queues of version 2, the quicker ones, from 3.10 on.
    Two,
}

/// It and its name server.
#[derive(Debug)]
struct Node {
    broker: OwnBroker,
    _epmd: Process,
}

impl RabbitMq {
    /// The one that is installed, if there is one.
    pub fn installed(queues: QueueVersion) -> Option<Self> {
        Some(Self {
            // The package's wrapper in PATH would become another user, who may not
            // write where the suite does.
            server: find_program(&["../lib/rabbitmq/bin/rabbitmq-server", "rabbitmq-server"])?,
            epmd: find_program(&["epmd"])?,
            queues,
        })
    }
}

impl Peer for RabbitMq {
    fn name(&self) -> &str {
        match self.queues {
            QueueVersion::Default => "rabbitmq",
            QueueVersion::Two => "rabbitmq-cqv2",
        }
    }

    fn takes_part(&self, scenario: &Scenario) -> bool {
        !matches!(scenario.guests, Guests::Nobody)
    }

    fn start(&self, directory: &Path) -> anyhow::Result<Box<dyn Running>> {
        let (port, between_nodes, names) = (free_port()?, free_port()?, free_port()?);
        let mut command = launch::command(&self.epmd)?;
        command.args(["-port", &names.to_string(), "-address", "127.0.0.1"]);
        let mut epmd = Process::start(command, directory, "epmd")?;
        epmd.await_port(names).context("epmd does not start")?;

        for folder in ["mnesia", "log"] {
            fs::create_dir(directory.join(folder))?;
        }
        fs::write(directory.join("enabled_plugins"), "[].\n")?;
        fs::write(directory.join("rabbitmq.conf"), self.queues.setting())?;
        let mut command = launch::command(&self.server)?;
        command
            .env("HOME", directory)
            .env("RABBITMQ_NODENAME", format!("peers{port}@localhost"))
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", port.to_string())
            .env("RABBITMQ_DIST_PORT", between_nodes.to_string())
            .env("ERL_EPMD_PORT", names.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_CONFIG_FILE", directory.join("rabbitmq.conf"))
            .env("RABBITMQ_MNESIA_BASE", directory.join("mnesia"))
            .env("RABBITMQ_LOG_BASE", directory.join("log"))
            .env(
                "RABBITMQ_ENABLED_PLUGINS_FILE",
                directory.join("enabled_plugins"),
            )
            // The script becomes the virtual machine, instead of waiting for it: so the
            // process's number is the broker's.
            .env("RUNNING_UNDER_SYSTEMD", "true");
        let mut process = Process::start(command, directory, "rabbitmq")?;
        process
            .await_port(port)
            .context("RabbitMQ does not start")?;
        Ok(Box::new(Node {
            broker: OwnBroker {
                process,
                uri: format!("amqp://guest:guest@127.0.0.1:{port}/"),
                directory: directory.to_owned(),
            },
            _epmd: epmd,
        }))
    }

    fn note(&self) -> PeerNote {
        PeerNote {
            name: self.name().to_owned(),
            version: None,
            settings: match self.queues {
                QueueVersion::Default => "defaults".to_owned(),
                QueueVersion::Two => format!("`{}`", self.queues.setting().trim()),
            },
            confirms: self.queues.confirms().to_owned(),
        }
    }
}

impl QueueVersion {
    /// As traced with 3.10.8, where each of them confirms without a write what a consumer
    /// with automatic acks has got meanwhile.
    fn confirms(self) -> &'static str {
        match self {
            Self::Default => "on disk: `fsync` has returned; at once if it is consumed already",
            Self::Two => "written, without `fsync`; at once if it is consumed already",
        }
    }

    fn setting(self) -> &'static str {
        match self {
            Self::Default => "",
            Self::Two => "classic_queue.default_version = 2\n",
        }
    }
}

impl Running for Node {
    fn load(&mut self, job: &Job<'_>) -> anyhow::Result<Value> {
        self.broker.load(job)
    }
}
