//! A broker that runs already, at an address from the command line.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::amqp;
use crate::options::Given;
use crate::peer::{Job, Peer, Running};
use crate::scenarios::{Guests, Scenario};
use crate::table::PeerNote;

/// The broker.
#[derive(Debug)]
pub struct GivenBroker(pub Given);

#[derive(Debug)]
struct Reached {
    given: Given,
    directory: PathBuf,
}

impl Peer for GivenBroker {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn takes_part(&self, scenario: &Scenario) -> bool {
        !matches!(scenario.guests, Guests::Nobody)
    }

    fn start(&self, directory: &Path) -> anyhow::Result<Box<dyn Running>> {
        Ok(Box::new(Reached {
            given: self.0.clone(),
            directory: directory.to_owned(),
        }))
    }

    fn note(&self) -> PeerNote {
        PeerNote {
            name: self.0.name.clone(),
            version: None,
            settings: "its own".to_owned(),
            confirms: "what that broker promises".to_owned(),
        }
    }
}

impl Running for Reached {
    fn load(&mut self, job: &Job<'_>) -> anyhow::Result<Value> {
        amqp::load(&self.given.uri, self.given.pid, &self.directory, job)
    }
}
