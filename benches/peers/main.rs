//! Leveret beside the brokers that are installed here:
//!
//! ```sh
//! cargo bench --bench peers
//! cargo bench --bench peers -- --list
//! ```
//!
//! ```text
//! scenarios: a row each ─▶ suite: every peer in turn, some rounds
//!     brokers: leveret, RabbitMQ, others ─▶ `leveret bench`  ─▶ reports ─▶ figures ─▶ table
//!     neighbours: a relay, NATS, Redis ─▶ drivers of our own ──┘
//! ```
//! docs/performance.md says how to read it.

mod brokers;
mod figures;
mod machine;
mod neighbours;
mod options;
mod peer;
mod processes;
mod scenarios;
mod suite;
mod table;

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use brokers::{GivenBroker, Leveret, QueueVersion, RabbitMq};
use neighbours::{Nats, Redis, Relay, relay};
use options::Options;
use peer::Peer;
use processes::{interrupt, launch};
use scenarios::{SCENARIOS, Scenario};
use table::Results;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        Some(word) if word == launch::WORD => return launch::become_program(arguments),
        Some(word) if word == relay::WORD => return relay::serve(arguments),
        _ => {}
    }
    let options = Options::read();
    if options.test || !options.bench {
        // `cargo test --benches` only wants to know whether it starts.
        println!("nothing is measured: run it with cargo bench --bench peers");
        return ExitCode::SUCCESS;
    }
    match measure(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> anyhow::Result<()> {
    let mut peers = installed(options);
    let names: Vec<String> = peers.iter().map(|peer| peer.name().to_owned()).collect();
    peers.retain(|peer| chosen(&options.peers, peer.name(), &names));
    let names: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
    let scenarios: Vec<&Scenario> = (SCENARIOS.iter())
        .filter(|scenario| chosen(&options.scenarios, scenario.name, &names))
        .collect();
    if scenarios.is_empty() || peers.is_empty() {
        bail!("no scenario or no peer of that name; --list has them");
    }
    if options.list {
        list(&scenarios, &peers);
        return Ok(());
    }
    raise_open_files()?;
    interrupt::watch()?;
    fs::create_dir_all(&options.data)
        .with_context(|| format!("cannot make {}", options.data.display()))?;
    let mut results = Results {
        date: machine::date(),
        machine: machine::describe(&options.data)?,
        rounds: options.rounds,
        measured_seconds: options.duration.as_secs_f64(),
        peers: peers.iter().map(|peer| peer.note()).collect(),
        scenarios: Vec::new(),
    };
    for scenario in scenarios {
        let result = suite::run(options, scenario, &peers, &mut results.peers)?;
        results.scenarios.push(result);
        // After each: a whole run takes an hour.
        write(options, &results)?;
        interrupt::check()?;
    }
    print!("{results}");
    Ok(())
}

/// Whether somebody asked for this one of those names: by its name, or by a part of it
/// that is no name itself.
fn chosen(wanted: &[String], name: &str, names: &[impl AsRef<str>]) -> bool {
    let asks_for_it = |wanted: &String| match names.iter().any(|name| name.as_ref() == wanted) {
        true => name == wanted,
        false => name.contains(wanted.as_str()),
    };
    wanted.is_empty() || wanted.iter().any(asks_for_it)
}

/// Everybody who can take part here; Leveret first.
fn installed(options: &Options) -> Vec<Box<dyn Peer>> {
    fn boxed<P: Peer + 'static>(peer: P) -> Box<dyn Peer> {
        Box::new(peer)
    }
    let given = options.given.iter().cloned().map(GivenBroker);
    [boxed(Leveret)]
        .into_iter()
        .chain(RabbitMq::installed(QueueVersion::Default).map(boxed))
        .chain(RabbitMq::installed(QueueVersion::Two).map(boxed))
        .chain(given.map(boxed))
        .chain([boxed(Relay)])
        .chain(Nats::installed().map(boxed))
        .chain(Redis::installed().map(boxed))
        .collect()
}

fn list(scenarios: &[&Scenario], peers: &[Box<dyn Peer>]) {
    for peer in peers {
        let note = peer.note();
        let version = note
            .version
            .unwrap_or_else(|| "version asked when it runs".to_owned());
        println!("{:<22} {version}; {}", note.name, note.settings);
    }
    println!();
    for scenario in scenarios {
        println!("{:<22} {}", scenario.name, scenario.title);
        let guests = peers.iter().filter(|peer| peer.takes_part(scenario));
        let guests: Vec<&str> = guests.map(|peer| peer.name()).collect();
        println!("{:<22} {}", "", scenario.runs.join(", then "));
        println!("{:<22} {}", "", guests.join(", "));
    }
}

fn write(options: &Options, results: &Results) -> anyhow::Result<()> {
    let out = &options.out;
    fs::create_dir_all(out)
        .and_then(|()| fs::write(out.join("peers.md"), results.to_string()))
        .with_context(|| format!("cannot write to {}", out.display()))?;
    fs::write(out.join("peers.json"), serde_json::to_vec_pretty(results)?)?;
    Ok(())
}

/// Children inherit it: thousands of idle connections are a scenario.
fn raise_open_files() -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    Ok(setrlimit(Resource::Nofile, raised)?)
}
