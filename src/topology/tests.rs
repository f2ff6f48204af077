//! Whole files: how they are read, refused and warned about.

mod changes;
mod files;
mod generated;
mod policies;
mod sample;

use std::sync::Arc;

use super::*;
use crate::config::{ConfigErrors, Diagnostic};
use crate::model::{Destination, ExchangeKind, FieldTable};

/// The topology and all findings, errors and warnings.
fn read(text: &str) -> (Topology, Vec<String>) {
    let (topology, findings) = match BrokerFile::parse("leveret.toml", text) {
        Ok(file) => (file.topology, file.warnings),
        Err(ConfigErrors(findings)) => (Topology::default(), findings),
    };
    (
        topology,
        findings.iter().map(Diagnostic::with_severity).collect(),
    )
}

/// A topology from a file that has nothing wrong with it.
fn topology(text: &str) -> Topology {
    let (topology, findings) = read(text);
    assert_eq!(findings, [""; 0], "{text}");
    topology
}
