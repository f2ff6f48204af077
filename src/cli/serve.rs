//! `leveret serve`: the broker, from its file, its environment and its flags.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::PossibleValue;
use tokio::signal::unix::{SignalKind, signal};

use super::allocator;
use crate::config::{ConfigErrors, Fsync, LogFilter, LogFormat};
use crate::topology::{self, BrokerFile, Change, Topology};
use crate::{Broker, telemetry};

/// What goes before the file: flags first, then the environment.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ServeArgs {
    /// File with settings, users, exchanges, queues and bindings (TOML).
    #[arg(long, env = "LEVERET_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Where to listen for AMQP 0-9-1; can be given several times [default: 127.0.0.1:5672].
    #[arg(
        long,
        env = "LEVERET_AMQP",
        value_name = "ADDR:PORT",
        value_delimiter = ','
    )]
    pub amqp: Vec<SocketAddr>,

    /// Where everything durable goes [default: leveret-data].
    #[arg(long, env = "LEVERET_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// What is worth a line of the log: off, error, warn, info, debug or trace [default: info].
    #[arg(long, env = "LEVERET_LOG_LEVEL", value_name = "LEVEL")]
    pub log_level: Option<LogFilter>,

    /// How a line of the log looks [default: text].
    #[arg(long, env = "LEVERET_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

/// Runs the broker until SIGTERM or SIGINT, which close all connections with
/// 320; a second one ends it at once. SIGHUP reads the file again.
///
/// # Errors
/// If the file is wrong or the broker does not start.
pub fn run(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    let began_anew = allocator::give_back_soon();
    let file = resolve(args)?;
    telemetry::init(&file.config.log)?;
    if let Err(error) = began_anew {
        tracing::warn!(%error, "freed memory will be given back late");
    }
    for warning in &file.warnings {
        tracing::warn!("{warning}");
    }
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if file.config.server.workers > 0 {
        runtime.worker_threads(file.config.server.workers.into());
    }
    runtime.enable_all().build()?.block_on(serve(args, file))
}

async fn serve(args: &ServeArgs, file: BrokerFile) -> anyhow::Result<ExitCode> {
    // Before anything is served, so that no signal meets the default action.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;

    let broker = Broker::start(&file.config, &file.topology).await?;
    for address in broker.addresses() {
        tracing::info!(%address, "listening for AMQP 0-9-1");
    }
    let fsync = file.config.store.fsync;
    if fsync != Fsync::Always {
        tracing::warn!(%fsync, "a power cut may lose what was confirmed: confirms do not wait for the disk");
    }

    let mut running = file;
    let mut code = ExitCode::SUCCESS;
    loop {
        tokio::select! {
            cause = broker.failed() => {
                tracing::error!(cause, "the store has failed; the broker ends, and recovers at its next start");
                // What publishers wait for is refused before they are sent away.
                tokio::time::sleep(REFUSAL_TIME).await;
                code = ExitCode::FAILURE;
                break;
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => reload(args, &broker, &mut running),
        }
    }
    tracing::info!("shutting down: closing all connections");
    tokio::select! {
        () = broker.shutdown() => Ok(code),
        _ = terminate.recv() => Ok(ExitCode::FAILURE),
        _ = interrupt.recv() => Ok(ExitCode::FAILURE),
    }
}

/// How long clients have to read that their messages were not stored.
const REFUSAL_TIME: std::time::Duration = std::time::Duration::from_millis(500);

/// Applies a new version of the file, all of it or nothing.
fn reload(args: &ServeArgs, broker: &Broker, running: &mut BrokerFile) {
    let file = match resolve(args) {
        Ok(file) => file,
        Err(errors) => {
            tracing::error!("the file was read again and is not applied:\n{errors}");
            return;
        }
    };
    for warning in &file.warnings {
        tracing::warn!("{warning}");
    }
    let changes = match topology::diff(&running.topology, &file.topology) {
        Ok(changes) => changes,
        Err(conflicts) => {
            for conflict in conflicts {
                let line = conflict.position.line;
                tracing::error!(line, "the file is not applied: {conflict}");
            }
            return;
        }
    };
    // All of the file is asked for, not only what changed in it: a client may
    // have deleted what the rest builds on.
    let mut steps = topology::diff(&Topology::default(), &file.topology).unwrap_or_default();
    let removals = changes
        .iter()
        .filter(|change| matches!(change, Change::RemoveBinding(_)));
    steps.extend(removals.cloned());
    if let Err(error) = topology::apply(&steps, broker.node()) {
        tracing::error!("the file is not applied: {error}");
        return;
    }
    for change in &changes {
        tracing::info!("{change}");
    }
    let rules_changed = file.topology.rulebook != running.topology.rulebook;
    if rules_changed {
        let rulebook = file.topology.rulebook.clone();
        broker.node().rule_by(rulebook);
        tracing::info!("policies and limits of vhosts replaced");
    }
    let users_changed = file.config.users != running.config.users;
    if users_changed {
        broker.node().access().replace(file.config.users.clone());
        tracing::info!("users replaced; connections that are open stay");
    }
    let mut rest = file.config.clone();
    rest.users.clone_from(&running.config.users);
    let waiting = running.config.changed_tables(&rest);
    if !waiting.is_empty() {
        let tables = waiting.join(", ");
        tracing::warn!("{tables} changed, which takes effect at the next start");
    }
    if changes.is_empty() && !rules_changed && !users_changed && waiting.is_empty() {
        tracing::info!("the file was read again: nothing to change");
    }
    running.config.users = file.config.users;
    running.topology = file.topology;
}

/// The file with the environment and the flags over it.
///
/// # Errors
/// Everything that is wrong with the file.
pub fn resolve(args: &ServeArgs) -> Result<BrokerFile, ConfigErrors> {
    let mut file = match &args.config {
        Some(path) => BrokerFile::load(path)?,
        None => BrokerFile::default(),
    };
    let config = &mut file.config;
    if !args.amqp.is_empty() {
        config.amqp.addresses.clone_from(&args.amqp);
    }
    if let Some(data_dir) = &args.data_dir {
        config.server.data_dir.clone_from(data_dir);
    }
    if let Some(level) = &args.log_level {
        config.log.level.clone_from(level);
    }
    if let Some(format) = args.log_format {
        config.log.format = format;
    }
    Ok(file)
}

impl clap::ValueEnum for LogFormat {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Text, Self::Json]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let (word, _) = Self::WORDS.iter().find(|(_, format)| format == self)?;
        Some(PossibleValue::new(*word))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn flags_stand_over_the_file() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(
            b"[amqp]\naddress = \"127.0.0.1:1\"\nchannel_max = 9\n\
              [server]\ndata_dir = \"there\"\n\
              [log]\nlevel = \"warn\"\nformat = \"json\"\n",
        )
        .expect("the file takes it");
        let from_file = ServeArgs {
            config: Some(file.path().to_owned()),
            ..ServeArgs::default()
        };
        let resolved = resolve(&from_file).expect("the file is right").config;
        assert_eq!(resolved.server.data_dir, PathBuf::from("there"));
        assert_eq!(resolved.log.level.as_str(), "warn");

        let over = ServeArgs {
            amqp: vec![
                SocketAddr::from(([127, 0, 0, 1], 2)),
                SocketAddr::from(([127, 0, 0, 1], 3)),
            ],
            data_dir: Some(PathBuf::from("here")),
            log_level: Some("debug".parse().expect("a level")),
            log_format: Some(LogFormat::Text),
            ..from_file
        };
        let resolved = resolve(&over).expect("the file is right").config;
        assert_eq!(resolved.amqp.addresses, over.amqp);
        assert_eq!(resolved.amqp.channel_max, 9, "what no flag is about stays");
        assert_eq!(resolved.server.data_dir, PathBuf::from("here"));
        assert_eq!(resolved.log.level.as_str(), "debug");
        assert_eq!(resolved.log.format, LogFormat::Text);
    }

    #[test]
    fn without_a_file_there_are_the_defaults() {
        let resolved = resolve(&ServeArgs::default()).expect("nothing to be wrong");
        assert_eq!(resolved.config, crate::config::Config::default());
    }
}
