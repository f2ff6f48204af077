//! The results as a page for people; for machines they are serialized as they are.

use std::fmt::{self, Display};

use serde::Serialize;

use super::figures::{Spread, rounded};

/// Everything that a run of the suite found out.
#[derive(Debug, Serialize)]
pub struct Results {
    /// When it began, UTC.
    pub date: String,
    /// Lines about the machine: what, and its value.
    pub machine: Vec<(&'static str, String)>,
    /// How it was measured.
    pub rounds: u16,
    /// Of each run.
    pub measured_seconds: f64,
    /// Who took part.
    pub peers: Vec<PeerNote>,
    /// What was measured.
    pub scenarios: Vec<ScenarioResult>,
}

/// What must be known of a peer.
#[derive(Clone, Debug, Serialize)]
pub struct PeerNote {
    /// Its name in the tables.
    pub name: String,
    /// Product and version, once it has said so.
    pub version: Option<String>,
    /// What differs from its defaults.
    pub settings: String,
    /// When it confirms a persistent message.
    pub confirms: String,
}

/// A scenario's figures.
#[derive(Debug, Serialize)]
pub struct ScenarioResult {
    /// Its name.
    pub name: &'static str,
    /// Its title.
    pub title: &'static str,
    /// What `leveret bench` was told, beside times and addresses.
    pub runs: Vec<String>,
    /// Whether confirms are measured.
    pub confirms: bool,
    /// Figures of each peer.
    pub rows: Vec<Row>,
}

/// A figure of a peer, over all rounds.
#[derive(Debug, Serialize)]
pub struct Row {
    /// The peer.
    pub peer: String,
    /// The figure's heading.
    pub figure: &'static str,
    /// What it counts.
    pub unit: &'static str,
    /// Each round's, where it was measured.
    pub values: Vec<f64>,
    /// Their summary.
    pub spread: Option<Spread>,
    /// Leveret's median by the peer's.
    pub leveret_by_peer: Option<f64>,
    /// The broker's, median.
    pub cpu_seconds_per_million: Option<f64>,
    /// The most that the broker had in memory, median.
    pub peak_rss_bytes: Option<f64>,
    /// What went wrong, round by round.
    pub failures: Vec<String>,
}

impl ScenarioResult {
    /// Holds each figure against that of the peer of this name.
    pub fn compare_with(&mut self, reference: &str) {
        let medians: Vec<(&'static str, f64)> = (self.rows.iter())
            .filter(|row| row.peer == reference)
            .filter_map(|row| Some((row.figure, row.spread?.median)))
            .collect();
        for row in &mut self.rows {
            let of_reference = medians.iter().find(|(figure, _)| *figure == row.figure);
            row.leveret_by_peer = match (of_reference, row.spread) {
                (Some((_, median)), Some(spread)) if spread.median > 0.0 => {
                    Some(median / spread.median)
                }
                _ => None,
            };
        }
    }
}

impl Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Leveret beside its peers\n\n{}\n", self.date)?;
        for (what, value) in &self.machine {
            writeln!(f, "- {what}: {value}")?;
        }
        writeln!(
            f,
            "- rounds: {}, of {} s measured for each peer in turn; medians, and the range of all rounds",
            self.rounds, self.measured_seconds
        )?;
        writeln!(
            f,
            "\n| peer | version | settings | a confirm means |\n|---|---|---|---|"
        )?;
        for PeerNote {
            name,
            version,
            settings,
            confirms,
        } in &self.peers
        {
            let version = version.as_deref().unwrap_or("–");
            writeln!(f, "| {name} | {version} | {settings} | {confirms} |")?;
        }
        self.scenarios.iter().try_for_each(|scenario| {
            writeln!(f)?;
            scenario.write(f, &self.peers)
        })
    }
}

impl ScenarioResult {
    fn write(&self, f: &mut fmt::Formatter<'_>, peers: &[PeerNote]) -> fmt::Result {
        writeln!(
            f,
            "## {}\n\n`{}`: `{}`\n",
            self.title,
            self.name,
            self.runs.join("`, then `")
        )?;
        let heading = ["peer", "figure", "median", "range", "Leveret / peer"];
        let costs = ["CPU s per million", "memory, peak"];
        let last: &[&str] = if self.confirms {
            &["a confirm means"]
        } else {
            &[]
        };
        let columns = [&heading[..], &costs[..], last].concat();
        writeln!(
            f,
            "| {} |\n|{}",
            columns.join(" | "),
            "---|".repeat(columns.len())
        )?;
        for row in &self.rows {
            write!(f, "| {} | {} | {} |", row.peer, row.figure, row.measured())?;
            write!(f, " {} |", or_dash(row.leveret_by_peer, rounded))?;
            write!(f, " {} |", or_dash(row.cpu_seconds_per_million, rounded))?;
            write!(f, " {} |", or_dash(row.peak_rss_bytes, mebibytes))?;
            if self.confirms {
                let note = peers.iter().find(|peer| peer.name == row.peer);
                write!(f, " {} |", note.map_or("", |note| &note.confirms))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

impl Row {
    /// The cells of median and range; failures stand where the median would.
    fn measured(&self) -> String {
        let number = |value: f64| match self.unit {
            "B" => mebibytes(value),
            "µs" => format!("{} µs", rounded(value)),
            unit => format!("{}{unit}", rounded(value)),
        };
        let failed = self.failures.first().map(|first| {
            let rounds = self.failures.len() + self.values.len();
            format!(
                "failed {} of {rounds}: {}",
                self.failures.len(),
                cell(first)
            )
        });
        let range = |spread: Spread| format!("{} to {}", number(spread.min), number(spread.max));
        match (self.spread, failed) {
            (None, failed) => format!("{} |", failed.unwrap_or_else(|| "–".to_owned())),
            (Some(spread), None) => format!("{} | {}", number(spread.median), range(spread)),
            (Some(spread), Some(failed)) => {
                format!("{} ({failed}) | {}", number(spread.median), range(spread))
            }
        }
    }
}

/// A text that does not end the cell, and does not fill the page.
fn cell(text: &str) -> String {
    let mut cell = text.replace('|', "/").replace('\n', " ");
    if let Some((end, _)) = cell.char_indices().nth(CELL_LETTERS) {
        cell.truncate(end);
        cell.push('…');
    }
    cell
}

fn or_dash(value: Option<f64>, text: fn(f64) -> String) -> String {
    value.map_or_else(|| "–".to_owned(), text)
}

fn mebibytes(bytes: f64) -> String {
    format!("{} MiB", rounded(bytes / f64::from(1 << 20)))
}

/// The whole text is in the JSON.
const CELL_LETTERS: usize = 150;
