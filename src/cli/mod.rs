//! The command line: one file or folder per command.

pub mod bench;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A message broker for the AMQP 0-9-1 clients you already have.
#[derive(Debug, Parser)]
#[command(name = "leveret", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Load a broker and measure it.
    Bench(bench::BenchArgs),
}

/// Parses the command line and runs the command.
#[must_use]
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match &cli.command {
        Command::Bench(args) => bench::run(args),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("leveret: {error:#}");
        ExitCode::FAILURE
    })
}
