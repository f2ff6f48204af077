//! `leveret serve`: the broker, from its file, its environment and its flags.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::builder::PossibleValue;

use crate::config::{ConfigErrors, LogFilter, LogFormat};
use crate::telemetry;
use crate::topology::BrokerFile;

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

/// Runs the broker until it is told to stop.
///
/// # Errors
/// If the file is wrong.
pub fn run(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    let file = resolve(args)?;
    telemetry::init(&file.config.log)?;
    for warning in &file.warnings {
        tracing::warn!("{warning}");
    }
    bail!("this build has no listeners");
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
