//! The command line: one file or folder per command.

mod allocator;
pub mod bench;
pub mod check;
pub mod hash_password;
pub mod inspect;
pub mod route;
pub mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A message broker for the AMQP 0-9-1 clients you already have.
///
/// Without a command it serves.
#[derive(Debug, Parser)]
#[command(name = "leveret", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// What to do without a command.
    #[command(flatten)]
    pub serve: serve::ServeArgs,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the broker.
    Serve(serve::ServeArgs),
    /// Check a file: what is wrong with it, and what is legal but probably not meant.
    Check(check::CheckArgs),
    /// Say where a message would go, and why.
    Route(route::RouteArgs),
    /// Look into the data directory of a stopped broker.
    Inspect(inspect::InspectArgs),
    /// Hash a password for a user of the file.
    HashPassword(hash_password::HashPasswordArgs),
    /// Load a broker and measure it.
    Bench(Box<bench::BenchArgs>),
}

/// Parses the command line and runs the command.
#[must_use]
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        None => serve::run(&cli.serve),
        Some(Command::Serve(args)) => serve::run(&args),
        Some(Command::Check(args)) => check::run(&args),
        Some(Command::Route(args)) => route::run(&args),
        Some(Command::Inspect(args)) => inspect::run(&args),
        Some(Command::HashPassword(args)) => hash_password::run(&args),
        Some(Command::Bench(args)) => bench::run(&args),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("leveret: {error:#}");
        ExitCode::FAILURE
    })
}
