//! Rounds: in each scenario every peer gets its turn, again and again, so that what
//! else the machine does meets all of them.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::Value;
use tempfile::TempDir;

use super::brokers;
use super::figures::{Spread, rounded};
use super::options::Options;
use super::peer::{Job, Peer, Running};
use super::processes::interrupt;
use super::scenarios::{Figure, Rate, Scenario, Unit};
use super::table::{PeerNote, Row, ScenarioResult};

/// A peer in one scenario.
struct Seat<'a> {
    peer: &'a dyn Peer,
    // Ended before its directory is removed.
    running: Option<Box<dyn Running>>,
    directory: TempDir,
    starts: u32,
    /// Found out at the first turn of a scenario that needs it.
    rate: Option<u64>,
    rounds: Vec<Round>,
}

/// The reports of a scenario's runs, as far as they went, and what ended them.
#[derive(Default)]
struct Round {
    reports: Vec<Value>,
    failure: Option<String>,
}

/// Runs a scenario with all that take part. Versions that peers tell on the way are
/// noted.
///
/// # Errors
/// If there is no place for their data.
pub fn run(
    options: &Options,
    scenario: &Scenario,
    peers: &[Box<dyn Peer>],
    notes: &mut [PeerNote],
) -> anyhow::Result<ScenarioResult> {
    eprintln!("{}: {}", scenario.name, scenario.title);
    let mut seats = (peers.iter())
        .filter(|peer| peer.takes_part(scenario))
        .map(|peer| Seat::new(peer.as_ref(), &options.data))
        .collect::<anyhow::Result<Vec<_>>>()?;
    for number in 1..=options.rounds {
        for seat in &mut seats {
            if interrupt::raised() {
                break;
            }
            seat.turn(options, scenario);
            eprintln!(
                "  {number} {:<14} {}",
                seat.peer.name(),
                seat.last(scenario)
            );
        }
    }
    for seat in &seats {
        let note = notes.iter_mut().find(|note| note.name == seat.peer.name());
        if let Some(note) = note.filter(|note| note.version.is_none()) {
            note.version = seat.version();
        }
    }
    let mut result = ScenarioResult {
        name: scenario.name,
        title: scenario.title,
        runs: scenario.runs.iter().map(ToString::to_string).collect(),
        confirms: scenario.confirms(),
        rows: seats.iter().flat_map(|seat| seat.rows(scenario)).collect(),
    };
    result.compare_with(brokers::LEVERET);
    Ok(result)
}

impl<'a> Seat<'a> {
    fn new(peer: &'a dyn Peer, data: &Path) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("peers-").tempdir_in(data);
        Ok(Self {
            peer,
            running: None,
            directory: directory.with_context(|| format!("no place in {}", data.display()))?,
            starts: 0,
            rate: None,
            rounds: Vec::new(),
        })
    }

    fn turn(&mut self, options: &Options, scenario: &Scenario) {
        let mut round = Round::default();
        if let Err(error) = self.runs(options, scenario, &mut round.reports) {
            round.failure = Some(format!("{error:#}"));
        }
        // A run that was cut off says nothing about the peer.
        if !interrupt::raised() {
            self.rounds.push(round);
        }
    }

    fn runs(
        &mut self,
        options: &Options,
        scenario: &Scenario,
        reports: &mut Vec<Value>,
    ) -> anyhow::Result<()> {
        let count = Scenario::count(self.peer.name() == brokers::LEVERET, options.quick);
        let mut job = Job {
            scenario,
            options: String::new(),
            rate: None,
            warmup: options.warmup,
            measured: options.duration,
        };
        for run in scenario.runs {
            job.options = run.replace("{count}", &count.to_string());
            job.rate = match scenario.rate {
                None => None,
                Some(Rate::Fixed(rate)) => Some(rate),
                Some(Rate::HalfOfMaximum) => Some(self.half_of_maximum(&job)?),
            };
            reports.push(self.load(&job)?);
        }
        Ok(())
    }

    fn half_of_maximum(&mut self, job: &Job<'_>) -> anyhow::Result<u64> {
        if let Some(rate) = self.rate {
            return Ok(rate);
        }
        let report = self.load(job).context("without a rate")?;
        let reached = report
            .pointer("/consumed/per_second")
            .and_then(Value::as_f64);
        let rate = (reached.unwrap_or(0.0) / 2.0) as u64;
        if rate == 0 {
            bail!("nothing was delivered without a rate");
        }
        self.rate = Some(rate);
        Ok(rate)
    }

    /// One run; its report says that nothing was lost. A peer that has failed starts anew
    /// at its next turn, with nothing of what it had.
    fn load(&mut self, job: &Job<'_>) -> anyhow::Result<Value> {
        let mut running = match self.running.take() {
            Some(running) => running,
            None => {
                self.starts += 1;
                let directory = self.directory.path().join(self.starts.to_string());
                fs::create_dir(&directory)?;
                self.peer.start(&directory)?
            }
        };
        let report = running.load(job)?;
        if report.pointer("/passed") == Some(&Value::Bool(false)) {
            bail!("{}", faults(&report));
        }
        self.running = Some(running);
        Ok(report)
    }

    fn version(&self) -> Option<String> {
        let report = self.rounds.iter().find_map(|round| round.reports.first())?;
        let property = |name: &str| report.pointer(name).and_then(Value::as_str);
        Some(format!(
            "{} {}",
            property("/broker/product")?,
            property("/broker/version")?
        ))
    }

    /// What the last round brought, for those who watch.
    fn last(&self, scenario: &Scenario) -> String {
        let Some(round) = self.rounds.last() else {
            return String::new();
        };
        if let Some(failure) = &round.failure {
            return format!("failed: {failure}");
        }
        let words = scenario.figures.iter().filter_map(|figure| {
            let value = rounded(value(round, figure, figure.pointer)?);
            Some(format!("{} {value} {}", figure.says, unit(figure.unit)))
        });
        words.collect::<Vec<_>>().join(", ")
    }

    fn rows(&self, scenario: &Scenario) -> impl Iterator<Item = Row> {
        scenario.figures.iter().map(|figure| {
            let values = |pointer: &str| -> Vec<f64> {
                let whole = self.rounds.iter().filter(|round| round.failure.is_none());
                whole
                    .filter_map(|round| value(round, figure, pointer))
                    .collect()
            };
            let median = |pointer| Spread::of(&values(pointer)).map(|spread| spread.median);
            let measured = values(figure.pointer);
            Row {
                peer: self.peer.name().to_owned(),
                figure: figure.says,
                unit: unit(figure.unit),
                spread: Spread::of(&measured),
                values: measured,
                leveret_by_peer: None,
                cpu_seconds_per_million: median("/process/cpu_seconds_per_million"),
                peak_rss_bytes: median("/process/peak_rss_bytes"),
                failures: self
                    .rounds
                    .iter()
                    .filter_map(|round| round.failure.clone())
                    .collect(),
            }
        })
    }
}

fn value(round: &Round, figure: &Figure, pointer: &str) -> Option<f64> {
    round.reports.get(figure.run)?.pointer(pointer)?.as_f64()
}

fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::PerSecond => "/s",
        Unit::Microseconds => "µs",
        Unit::Bytes => "B",
    }
}

/// What a report says went wrong.
fn faults(report: &Value) -> String {
    let checks = report.pointer("/checks").and_then(Value::as_object);
    let checks = checks
        .into_iter()
        .flatten()
        .filter_map(|(check, count)| match count {
            Value::Bool(true) => Some(check.clone()),
            count => Some(format!(
                "{check} {}",
                count.as_u64().filter(|count| *count > 0)?
            )),
        });
    let errors = report.pointer("/errors").and_then(Value::as_array);
    let errors = errors
        .into_iter()
        .flatten()
        .filter_map(|error| Some(error.as_str()?.to_owned()));
    let all: Vec<String> = checks.chain(errors).collect();
    match all.is_empty() {
        true => "it has not passed".to_owned(),
        false => all.join(", "),
    }
}
