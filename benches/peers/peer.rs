//! What the suite asks of everybody who takes part.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::scenarios::Scenario;
use super::table::PeerNote;

/// Somebody who takes part, not running yet.
pub trait Peer {
    /// Its name in the tables, for `--peer`.
    fn name(&self) -> &str;

    /// Whether it has anything to do with that scenario.
    fn takes_part(&self, scenario: &Scenario) -> bool;

    /// Starts it with an empty directory.
    ///
    /// # Errors
    /// If it does not start.
    fn start(&self, directory: &Path) -> anyhow::Result<Box<dyn Running>>;

    /// What must be known of it.
    fn note(&self) -> PeerNote;
}

/// A peer that can be loaded; it ends when it is dropped.
pub trait Running {
    /// Loads it; the report has the shape of that of `leveret bench --json`.
    ///
    /// # Errors
    /// If there is no report, for whatever reason.
    fn load(&mut self, job: &Job<'_>) -> anyhow::Result<Value>;
}

/// One run of a scenario.
#[derive(Clone, Debug)]
pub struct Job<'a> {
    /// The scenario.
    pub scenario: &'a Scenario,
    /// What `leveret bench` is told, without times, rate and address.
    pub options: String,
    /// Messages per second.
    pub rate: Option<u64>,
    /// Loaded before it is measured.
    pub warmup: Duration,
    /// Measured.
    pub measured: Duration,
}

impl Job<'_> {
    /// Whether the run lasts for a time, not for a number of messages.
    pub fn is_timed(&self) -> bool {
        !["--count", "--consume-only"]
            .iter()
            .any(|word| self.options.contains(word))
    }
}
