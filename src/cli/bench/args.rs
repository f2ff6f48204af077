//! The options of `leveret bench`, as written on the command line. What they mean together
//! is for [`super::scenario`] to say.

use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;

/// Measures a broker: rates, latencies, and whether anything was lost.
#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    /// The broker to load.
    #[arg(long, default_value = "amqp://guest:guest@127.0.0.1:5672/")]
    pub uri: String,

    /// Publishing connections, one thread each.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub producers: u16,

    /// Consuming connections, one thread each [default: 1; one per queue with --fan-out].
    #[arg(long, value_name = "N")]
    pub consumers: Option<u16>,

    /// Queues; producers and consumers are spread over them.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub queues: u16,

    /// Name of the exchange; the queues are PREFIX-0, PREFIX-1 and so on.
    #[arg(long, value_name = "PREFIX", default_value = "leveret-bench")]
    pub queue_prefix: String,

    /// Octets of a message's body: 8 of sequence, 8 of time, then filler.
    #[arg(long, value_name = "BYTES", default_value_t = 16)]
    pub size: usize,

    /// Publisher confirms outstanding per producer; 0 asks for none.
    #[arg(long, value_name = "WINDOW", default_value_t = 0)]
    pub confirm: u32,

    /// Messages count as settled when they are sent to a consumer.
    #[arg(long)]
    pub auto_ack: bool,

    /// Unacknowledged messages per consumer; 0 sets no limit.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 100,
        conflicts_with = "auto_ack"
    )]
    pub prefetch: u16,

    /// One ack for every so many messages, instead of one for each.
    #[arg(long, value_name = "EVERY", conflicts_with = "auto_ack")]
    pub multiple_ack: Option<u16>,

    /// Messages per second of all producers together, evenly spaced [default: as many as
    /// the broker takes]. Latency then counts from the moment a message was due.
    #[arg(long, value_name = "MSGS_PER_S", conflicts_with = "consume_only")]
    pub rate: Option<u64>,

    /// Publish persistent messages.
    #[arg(long)]
    pub persistent: bool,

    /// Declare durable queues and exchange.
    #[arg(long)]
    pub durable: bool,

    /// Declare the queues with an argument, as in `x-message-deduplication=true`; true, false
    /// and whole numbers are what they look like. May be given several times.
    #[arg(long = "queue-argument", value_name = "NAME=VALUE", value_parser = parse_argument)]
    pub queue_arguments: Vec<(String, Argument)>,

    /// Messages cycle over so many priorities, from 0 on; the queues are declared with an
    /// `x-max-priority` that has room for them, unless --queue-argument says another.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(2..))]
    pub priorities: Option<u8>,

    /// Give each message a message-id of its own.
    #[arg(long)]
    pub message_ids: bool,

    /// Exchange to publish to.
    #[arg(long, value_name = "TYPE", value_enum, default_value_t = ExchangeKind::Default)]
    pub exchange: ExchangeKind,

    /// direct, headers: bindings beside those of the queues, that match no message. topic:
    /// patterns in all, spread over the queues; every message matches one of them.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub bindings: u32,

    /// Every message to N queues: a fanout exchange with N queues and N consumers.
    #[arg(long, value_name = "N", conflicts_with_all = ["queues", "exchange", "bindings"])]
    pub fan_out: Option<u16>,

    /// Publish so many messages in all, instead of for a time.
    #[arg(long, value_name = "N", conflicts_with_all = ["duration", "warmup", "consume_only"])]
    pub count: Option<u64>,

    /// Measure for so long, as in `500ms`, `10s`, `2m`.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "10s",
        conflicts_with = "consume_only")]
    pub duration: Duration,

    /// Publish for so long before measuring.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "2s",
        conflicts_with = "consume_only")]
    pub warmup: Duration,

    /// Give up when nothing has moved for so long; what has not arrived by then is lost.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "10s")]
    pub drain_timeout: Duration,

    /// Fill the queues and leave them; --consume-only drains them.
    #[arg(long, conflicts_with = "consume_only")]
    pub publish_only: bool,

    /// Drain the queues that --publish-only left behind, then delete them.
    #[arg(long)]
    pub consume_only: bool,

    /// Open and close as fast as the broker answers, on each of --producers threads, instead of
    /// sending messages.
    #[arg(long, value_name = "WHAT", value_enum, conflicts_with_all = OF_MESSAGES,
        conflicts_with_all = ["consumers", "queues", "size"])]
    pub churn: Option<Churn>,

    /// Open --count of them from --producers threads, instead of sending messages; say how long
    /// that took and what it grew the process of --pid by, then close them.
    #[arg(long, value_name = "WHAT", value_enum, requires = "count",
        conflicts_with_all = OF_MESSAGES,
        conflicts_with_all = ["consumers", "queues", "size", "churn"])]
    pub hold: Option<Hold>,

    /// Requests and replies over direct reply-to, instead of messages one way: --producers ask,
    /// each one request at a time, and --consumers reply.
    #[arg(long, conflicts_with_all = OF_MESSAGES, conflicts_with_all = ["churn", "hold"])]
    pub rpc: bool,

    /// So many under way at once on each thread [default: 100; 1 to churn connections].
    #[arg(long, value_name = "N")]
    pub pipeline: Option<u16>,

    /// The broker's process on this machine: what it costs in CPU and memory is measured too.
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: Option<u32>,

    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// What messages from producers to consumers have, and no other load.
const OF_MESSAGES: [&str; 13] = [
    "confirm",
    "auto_ack",
    "prefetch",
    "multiple_ack",
    "rate",
    "persistent",
    "priorities",
    "message_ids",
    "exchange",
    "bindings",
    "fan_out",
    "publish_only",
    "consume_only",
];

/// What opens and closes all the time.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Churn {
    /// A connection: TCP, login, virtual host, close.
    Connections,
    /// A channel.
    Channels,
    /// An exclusive queue: declared and deleted.
    Queues,
}

/// What is opened and kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Hold {
    /// Connections with a channel, an exclusive queue and a consumer each.
    Connections,
    /// Queues, over a connection for each thread.
    Queues,
}

/// The value of a queue's argument.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Argument {
    /// `true` or `false`.
    Flag(bool),
    /// A whole number.
    Number(i64),
    /// Anything else.
    Text(String),
}

fn parse_argument(text: &str) -> Result<(String, Argument), String> {
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE is expected")?;
    let value = match (value.parse(), value.parse()) {
        (Ok(flag), _) => Argument::Flag(flag),
        (_, Ok(number)) => Argument::Number(number),
        _ => Argument::Text(value.to_owned()),
    };
    Ok((name.to_owned(), value))
}

/// Where producers publish to.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ExchangeKind {
    /// The default exchange: the routing key is the queue's name.
    Default,
    /// One binding per queue, equal to the routing key.
    Direct,
    /// Every queue gets every message.
    Fanout,
    /// Patterns; the routing keys cycle over them.
    Topic,
    /// One set of headers per queue, x-match all.
    Headers,
}

impl ExchangeKind {
    /// The type's name in `exchange.declare`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Default | Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
        }
    }
}

/// Reads a number with one of the units ms, s, m.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit_ms = match text.get(digits.len()..) {
        Some("ms") => 1.0,
        Some("s") => 1_000.0,
        Some("m") => 60_000.0,
        _ => return Err("wants a number and a unit: 500ms, 10s, 2m".to_owned()),
    };
    let number: f64 = digits.parse().map_err(|_| format!("no number: {digits}"))?;
    Duration::try_from_secs_f64(number * unit_ms / 1_000.0).map_err(|error| error.to_string())
}

#[cfg(test)]
impl BenchArgs {
    /// The options of a command line, for tests.
    pub(super) fn from_line(options: &str) -> Result<Self, clap::Error> {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: BenchArgs,
        }
        let line = std::iter::once("bench").chain(options.split_whitespace());
        clap::Parser::try_parse_from(line).map(|Line { args }| args)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        for (text, expected) in [
            ("500ms", Some(Duration::from_millis(500))),
            ("10s", Some(Duration::from_secs(10))),
            ("1.5s", Some(Duration::from_millis(1_500))),
            ("2m", Some(Duration::from_secs(120))),
            ("10", None),
            ("s", None),
            ("-1s", None),
            ("3h", None),
        ] {
            assert_eq!(parse_duration(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn defaults_parse_and_contradictions_do_not() {
        let args = BenchArgs::from_line("").ok();
        assert_eq!(args.map(|args| args.size), Some(16));
        for contradiction in [
            "--auto-ack --prefetch=10",
            "--publish-only --consume-only",
            "--fan-out=3 --queues=2",
            "--count=1 --duration=1s",
        ] {
            let parsed = BenchArgs::from_line(contradiction);
            assert!(parsed.is_err(), "{contradiction:?}");
        }
    }
}
