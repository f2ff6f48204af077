//! What kind of load is asked for: messages, or one of those that send none or wait for each.

use anyhow::{Context, ensure};

use super::args::{BenchArgs, Churn, Hold};

/// A kind of load.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// Messages from producers to consumers.
    Messages,
    /// Opening and closing.
    Churn {
        /// What.
        what: Churn,
        /// So many at once on each thread.
        pipeline: u16,
    },
    /// Opening, and then leaving it at that.
    Hold {
        /// What.
        what: Hold,
        /// So many in all.
        count: u64,
        /// So many at once while they are opened.
        pipeline: u16,
    },
    /// Requests and replies.
    Rpc,
}

impl Mode {
    /// The one that the options ask for.
    ///
    /// # Errors
    /// If some of them are for another.
    pub fn of(args: &BenchArgs) -> anyhow::Result<Self> {
        let default = match args.churn {
            Some(Churn::Connections) => 1,
            _ => PIPELINE,
        };
        let pipeline = args.pipeline.unwrap_or(default);
        let mode = match (args.churn, args.hold, args.rpc) {
            (Some(what), _, _) => Self::Churn { what, pipeline },
            (_, Some(what), _) => Self::Hold {
                what,
                count: args.count.context("--hold wants a --count")?,
                pipeline,
            },
            (_, _, true) => Self::Rpc,
            _ => Self::Messages,
        };
        ensure!(pipeline > 0, "--pipeline must be above 0");
        ensure!(
            args.pipeline.is_none() || matches!(mode, Self::Churn { .. } | Self::Hold { .. }),
            "--pipeline goes with --churn or --hold"
        );
        let (durable, arguments) = match mode {
            Self::Messages | Self::Rpc => (true, true),
            Self::Churn { what, .. } => (false, what == Churn::Queues),
            Self::Hold { what, .. } => (what == Hold::Queues, true),
        };
        ensure!(
            durable || !args.durable,
            "--durable: these queues are exclusive, or there are none"
        );
        ensure!(
            arguments || args.queue_arguments.is_empty(),
            "--queue-argument: there are no queues"
        );
        Ok(mode)
    }

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Churn { what, .. } => match what {
                Churn::Connections => "churn-connections",
                Churn::Channels => "churn-channels",
                Churn::Queues => "churn-queues",
            },
            Self::Hold { what, .. } => match what {
                Hold::Connections => "hold-connections",
                Hold::Queues => "hold-queues",
            },
            Self::Rpc => "rpc",
        }
    }
}

/// Enough to keep a broker busy, and fewer channels than any allows.
const PIPELINE: u16 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(options: &str) -> anyhow::Result<Mode> {
        Mode::of(&BenchArgs::from_line(options)?)
    }

    #[test]
    fn each_mode_has_a_pipeline_that_suits_it() {
        for (options, expected) in [
            ("", "messages"),
            ("--rpc --consumers 2 --queues 2 --size 100", "rpc"),
            ("--churn channels", "churn-channels 100"),
            ("--churn connections", "churn-connections 1"),
            ("--churn connections --pipeline 9", "churn-connections 9"),
            ("--churn queues --queue-argument x=1", "churn-queues 100"),
            ("--hold queues --count 5 --durable", "hold-queues 100"),
            ("--hold connections --count 5", "hold-connections 100"),
        ] {
            let mode = mode(options).expect("the options are fine");
            let found = match mode {
                Mode::Churn { pipeline, .. } | Mode::Hold { pipeline, .. } => {
                    format!("{} {pipeline}", mode.name())
                }
                Mode::Messages | Mode::Rpc => mode.name().to_owned(),
            };
            assert_eq!(found, expected, "{options}");
        }
    }

    #[test]
    fn options_of_other_modes_are_refused() {
        for options in [
            "--pipeline 5",
            "--rpc --pipeline 5",
            "--rpc --churn queues",
            "--rpc --hold queues --count 5",
            "--rpc --rate 5",
            "--rpc --publish-only",
            "--hold queues",
            "--hold queues --count 5 --duration 3s",
            "--hold connections --count 5 --durable",
            "--hold connections --count 5 --churn queues",
            "--churn channels --pipeline 0",
            "--churn channels --queue-argument x=1",
            "--churn queues --durable",
            "--churn queues --consumers 5",
            "--churn queues --consume-only",
        ] {
            assert!(mode(options).is_err(), "{options}");
        }
    }
}
