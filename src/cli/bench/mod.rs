//! `leveret bench`: a load tool for any AMQP 0-9-1 broker.

use std::process::ExitCode;

/// Measures a broker: rates, latencies, and whether anything was lost.
#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    /// The broker to load.
    #[arg(long, default_value = "amqp://guest:guest@127.0.0.1:5672/")]
    pub uri: String,
}

/// Runs the load and prints the result.
///
/// # Errors
/// If the broker cannot be reached or breaks the protocol.
pub fn run(_args: &BenchArgs) -> anyhow::Result<ExitCode> {
    Ok(ExitCode::SUCCESS)
}
