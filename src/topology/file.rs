//! One TOML file: configuration and topology together.

use std::path::Path;

use crate::broker::Rulebook;
use crate::config::{Config, ConfigErrors, Diagnostic, Document, Severity};

use super::policies::Written;
use super::{Topology, lints, read};

/// What a file says.
#[derive(Clone, Debug, Default)]
pub struct BrokerFile {
    /// The settings.
    pub config: Config,
    /// The exchanges, queues, bindings and policies.
    pub topology: Topology,
    /// What is legal, and probably not what was meant.
    pub warnings: Vec<Diagnostic>,
}

impl BrokerFile {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// Everything that was found, if anything is wrong, in the order of the file.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let file = path.display().to_string();
        let text = std::fs::read(path).map_err(|error| error.to_string());
        let text = text.and_then(|octets| {
            String::from_utf8(octets).map_err(|error| {
                let offset = error.utf8_error().valid_up_to();
                format!("not UTF-8 text from octet {offset} on")
            })
        });
        match text {
            Ok(text) => Self::parse(&file, &text),
            Err(text) => Err(ConfigErrors(vec![Diagnostic {
                file,
                position: None,
                severity: Severity::Error,
                text,
            }])),
        }
    }

    /// Checks a text; `file` is the name that messages have.
    ///
    /// # Errors
    /// Everything that was found, if anything is wrong, in its order.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigErrors> {
        let (document, root) = Document::parse(file, text)?;
        let (config, topology) = {
            let mut reader = document.root(&root);
            let (vhosts, limits) = read::vhosts(&mut reader);
            let config = Config::read(&mut reader, &vhosts);
            let errors = document.error_count();
            let mut topology = read::topology(&mut reader, vhosts);
            let written = Written::read(&mut reader, &topology.vhosts);
            topology.rulebook = Rulebook {
                policies: written.policies(),
                limits,
            };
            reader.finish();
            // What could not be read would be missing everywhere it is named.
            if document.error_count() == errors {
                lints::merge_duplicates(&mut topology, &document);
                lints::check(&topology, &document);
                written.check(&topology, &document);
            }
            (config, topology)
        };
        let findings = document.into_diagnostics();
        let is_error = |finding: &Diagnostic| finding.severity == Severity::Error;
        if findings.iter().any(is_error) {
            return Err(ConfigErrors(findings));
        }
        Ok(Self {
            config,
            topology,
            warnings: findings,
        })
    }
}
