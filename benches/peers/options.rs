//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use leveret::model::parse_duration;

/// Leveret beside the brokers that are installed: the same load for each in turn.
///
/// Loads come from `leveret bench`, which proves for every run that nothing was
/// lost, doubled or reordered.
#[derive(Clone, Debug, Parser)]
#[command(name = "cargo bench --bench peers --")]
pub struct Options {
    /// Only this scenario, or all with this in their name; may be given several times.
    #[arg(long = "scenario", value_name = "NAME")]
    pub scenarios: Vec<String>,

    /// Only this peer, or all with this in their name; may be given several times.
    #[arg(long = "peer", value_name = "NAME")]
    pub peers: Vec<String>,

    /// Another AMQP 0-9-1 broker, that runs already; with its process's number its CPU and
    /// memory are measured too. May be given several times.
    #[arg(long = "amqp", value_name = "NAME=URI[,PID]", value_parser = parse_given)]
    pub given: Vec<Given>,

    /// How often each peer gets its turn in each scenario.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    pub rounds: u16,

    /// Measure for so long in each run, as in `500ms`, `10s`.
    #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "3s")]
    pub duration: Duration,

    /// Load for so long before that.
    #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "1s")]
    pub warmup: Duration,

    /// To see that everything works: one short round, small backlogs.
    #[arg(long, conflicts_with_all = ["rounds", "duration", "warmup"])]
    pub quick: bool,

    /// Print scenarios and peers, and measure nothing.
    #[arg(long)]
    pub list: bool,

    /// Where the tables go.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_OUT)]
    pub out: PathBuf,

    /// Where the brokers keep their data while they run; what a sync costs is that disk's.
    #[arg(long, value_name = "DIR", default_value = env!("CARGO_TARGET_TMPDIR"))]
    pub data: PathBuf,

    /// Given by cargo when it is to measure.
    #[arg(long, hide = true)]
    pub bench: bool,

    /// Given by those who only want to know whether it starts.
    #[arg(long, hide = true)]
    pub test: bool,
}

/// A broker that runs already.
#[derive(Clone, Debug)]
pub struct Given {
    /// What to call it.
    pub name: String,
    /// Its address.
    pub uri: String,
    /// Its process.
    pub pid: Option<u32>,
}

impl Options {
    /// The options, with what `--quick` stands for put in.
    pub fn read() -> Self {
        let mut options = Self::parse();
        if options.quick {
            options.rounds = 1;
            options.duration = Duration::from_secs(1);
            options.warmup = Duration::from_millis(200);
        }
        options
    }
}

fn parse_given(text: &str) -> Result<Given, String> {
    let (name, rest) = text.split_once('=').ok_or("NAME=URI is expected")?;
    let (uri, pid) = match rest.split_once(',') {
        Some((uri, pid)) => (
            uri,
            Some(pid.parse().map_err(|_| format!("no process: {pid}"))?),
        ),
        None => (rest, None),
    };
    Ok(Given {
        name: name.to_owned(),
        uri: uri.to_owned(),
        pid,
    })
}

fn parse_time(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "wants a number and a unit: 500ms, 10s".to_owned())
}

const DEFAULT_OUT: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/../peers");
