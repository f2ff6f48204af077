//! The scenarios, a row each: what `leveret bench` is told, and what of its
//! report is a figure.

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// For `--scenario`.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    /// Options of `leveret bench`, one run after the other. `{count}` is
    /// [`Scenario::count`]; a run without a count is given its time.
    pub runs: &'static [&'static str],
    /// What is reported.
    pub figures: &'static [Figure],
    /// How many messages a second; as many as the broker takes if there is none.
    pub rate: Option<Rate>,
    /// Who takes part beside Leveret.
    pub guests: Guests,
}

/// A number of a report.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// Heading.
    pub says: &'static str,
    /// Where it is in the report, as a JSON pointer.
    pub pointer: &'static str,
    /// In which of the scenario's runs.
    pub run: usize,
    /// What it counts.
    pub unit: Unit,
}

/// What a figure counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unit {
    /// More is better.
    PerSecond,
    /// Less is better.
    Microseconds,
    /// Less is better.
    Bytes,
}

/// A fixed rate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rate {
    /// Messages per second.
    Fixed(u64),
    /// Half of what the peer has just reached without one.
    HalfOfMaximum,
}

/// Who takes part beside Leveret.
#[derive(Clone, Copy, Debug)]
pub enum Guests {
    /// Nobody: only how Leveret scales.
    Nobody,
    /// Those that speak AMQP.
    Amqp,
    /// Those and some that speak something else, with a load of the same shape.
    All {
        /// Octets of a body.
        body_bytes: usize,
        /// How many get each message.
        receivers: usize,
        /// Names of the neighbours.
        neighbours: &'static [&'static str],
    },
}

impl Scenario {
    /// Messages of a backlog: RabbitMQ takes long for as many as Leveret gets, and
    /// what is compared are rates.
    pub fn count(leveret: bool, quick: bool) -> u64 {
        match (leveret, quick) {
            (_, true) => 100_000,
            (true, false) => 5_000_000,
            (false, false) => 1_000_000,
        }
    }

    /// Whether confirms are part of what is measured.
    pub fn confirms(&self) -> bool {
        self.runs.iter().any(|run| run.contains("--confirm"))
    }
}

const fn figure(says: &'static str, pointer: &'static str, unit: Unit) -> Figure {
    Figure {
        says,
        pointer,
        run: 0,
        unit,
    }
}

/// The same figure of a later run.
const fn of_run(run: usize, figure: Figure) -> Figure {
    Figure { run, ..figure }
}

const DELIVERED: Figure = figure("delivered", "/consumed/per_second", Unit::PerSecond);
const CONFIRMED: Figure = figure("confirmed", "/confirmed/per_second", Unit::PerSecond);
const PUBLISHED: Figure = figure("published", "/published/per_second", Unit::PerSecond);
const P50: Figure = figure("latency p50", "/latency/p50_us", Unit::Microseconds);
const P99: Figure = figure("latency p99", "/latency/p99_us", Unit::Microseconds);
const CONFIRM_P50: Figure = figure(
    "time to confirm p50",
    "/confirm_latency/p50_us",
    Unit::Microseconds,
);

const DONE: Figure = figure("done", "/per_second", Unit::PerSecond);
const DONE_P50: Figure = figure("p50", "/latency_us/p50", Unit::Microseconds);
const DONE_P99: Figure = figure("p99", "/latency_us/p99", Unit::Microseconds);
const RESIDENT: Figure = figure("memory resident", "/process/rss_bytes", Unit::Bytes);

/// Takes away what a run that only publishes has left.
const SWEEP: &str = "--durable --auto-ack --count 1";

const fn row(
    name: &'static str,
    title: &'static str,
    runs: &'static [&'static str],
    figures: &'static [Figure],
) -> Scenario {
    Scenario {
        name,
        title,
        runs,
        figures,
        rate: None,
        guests: Guests::Amqp,
    }
}

const fn beside(
    neighbours: &'static [&'static str],
    body_bytes: usize,
    receivers: usize,
    scenario: Scenario,
) -> Scenario {
    Scenario {
        guests: Guests::All {
            body_bytes,
            receivers,
            neighbours,
        },
        ..scenario
    }
}

const fn alone(scenario: Scenario) -> Scenario {
    Scenario {
        guests: Guests::Nobody,
        ..scenario
    }
}

const fn at(rate: Rate, scenario: Scenario) -> Scenario {
    Scenario {
        rate: Some(rate),
        ..scenario
    }
}

const EVERYBODY: &[&str] = &["relay", "nats", "redis"];

/// All of them, in the order in which they run.
#[rustfmt::skip]
pub const SCENARIOS: &[Scenario] = &[
    beside(EVERYBODY, 16, 1, row("transient-16",
        "16 B, one to one, automatic acks",
        &["--size 16 --auto-ack"], &[DELIVERED])),
    beside(EVERYBODY, 1024, 1, row("transient-1k",
        "1 KiB, one to one, automatic acks",
        &["--size 1024 --auto-ack"], &[DELIVERED])),
    row("acked-16",
        "16 B, one to one, an ack per message, prefetch 100",
        &["--size 16 --prefetch 100"], &[DELIVERED]),
    row("acked-1k",
        "1 KiB, one to one, an ack per message, prefetch 100",
        &["--size 1024 --prefetch 100"], &[DELIVERED]),
    row("shared",
        "16 B, four to four over one queue, automatic acks",
        &["--size 16 --auto-ack --producers 4 --consumers 4"], &[DELIVERED]),
    row("queues-100",
        "16 B, a hundred queues with a producer and a consumer each, automatic acks",
        &["--size 16 --auto-ack --queues 100 --producers 100 --consumers 100"], &[DELIVERED]),
    row("queues-100-confirmed",
        "1 KiB persistent, a hundred queues with a producer and a consumer each, 100 confirms outstanding per producer",
        &["--size 1024 --persistent --durable --confirm 100 --auto-ack --queues 100 --producers 100 --consumers 100"],
        &[CONFIRMED]),
    beside(&["nats"], 16, 10, row("fanout-10",
        "16 B, fan-out to 10 queues, deliveries",
        &["--size 16 --auto-ack --fan-out 10"], &[DELIVERED])),
    beside(&["nats"], 16, 100, row("fanout-100",
        "16 B, fan-out to 100 queues, deliveries",
        &["--size 16 --auto-ack --fan-out 100"], &[DELIVERED])),
    row("topic-10k",
        "16 B, topic exchange with 10,000 bindings",
        &["--size 16 --auto-ack --exchange topic --bindings 10000"], &[DELIVERED]),
    alone(row("topic-10-alone",
        "16 B, topic exchange with 10 bindings: is it flat?",
        &["--size 16 --auto-ack --exchange topic --bindings 10"], &[DELIVERED])),
    alone(row("topic-100k-alone",
        "16 B, topic exchange with 100,000 bindings: is it flat?",
        &["--size 16 --auto-ack --exchange topic --bindings 100000"], &[DELIVERED])),
    row("headers-1k",
        "16 B, headers exchange with 1,000 bindings",
        &["--size 16 --auto-ack --exchange headers --bindings 1000"], &[DELIVERED]),
    row("confirm-1",
        "1 KiB persistent, nobody consumes, one confirm outstanding",
        &["--size 1024 --persistent --durable --publish-only --confirm 1", SWEEP],
        &[CONFIRMED, CONFIRM_P50]),
    row("confirm-100",
        "1 KiB persistent, nobody consumes, 100 confirms outstanding",
        &["--size 1024 --persistent --durable --publish-only --confirm 100", SWEEP],
        &[CONFIRMED]),
    row("confirm-10k",
        "1 KiB persistent, nobody consumes, 10,000 confirms outstanding",
        &["--size 1024 --persistent --durable --publish-only --confirm 10000", SWEEP],
        &[CONFIRMED]),
    row("confirm-consumed-1",
        "1 KiB persistent, consumed at once, one confirm outstanding",
        &["--size 1024 --persistent --durable --auto-ack --confirm 1"],
        &[CONFIRMED, CONFIRM_P50]),
    row("confirm-consumed-100",
        "1 KiB persistent, consumed at once, 100 confirms outstanding",
        &["--size 1024 --persistent --durable --auto-ack --confirm 100"],
        &[CONFIRMED]),
    row("confirm-consumed-10k",
        "1 KiB persistent, consumed at once, 10,000 confirms outstanding",
        &["--size 1024 --persistent --durable --auto-ack --confirm 10000"],
        &[CONFIRMED]),
    beside(&["relay"], 1 << 20, 1, row("large",
        "1 MiB, one to one, automatic acks",
        &["--size 1048576 --auto-ack"], &[DELIVERED])),
    row("priorities",
        "16 B, ten priorities, automatic acks",
        &["--size 16 --auto-ack --priorities 10"], &[DELIVERED]),
    row("backlog",
        "16 B, fill a queue and drain it",
        &["--size 16 --publish-only --count {count}", "--size 16 --consume-only --auto-ack"],
        &[PUBLISHED, of_run(1, DELIVERED)]),
    at(Rate::Fixed(5_000), beside(EVERYBODY, 1024, 1, row("latency-5k",
        "1 KiB at 5,000 a second, automatic acks",
        &["--size 1024 --auto-ack"], &[P50, P99]))),
    at(Rate::HalfOfMaximum, beside(EVERYBODY, 1024, 1, row("latency-half",
        "1 KiB at half of the rate that the peer reaches itself, automatic acks",
        &["--size 1024 --auto-ack"], &[DELIVERED, P50, P99]))),
    row("churn-connections",
        "connections opened and closed, one at a time",
        &["--churn connections"], &[DONE, DONE_P99]),
    row("churn-connections-20",
        "connections opened and closed, twenty at a time",
        &["--churn connections --pipeline 20"], &[DONE, DONE_P99]),
    row("churn-channels",
        "channels opened and closed",
        &["--churn channels"], &[DONE, DONE_P99]),
    row("churn-queues",
        "queues declared and deleted",
        &["--churn queues"], &[DONE, DONE_P99]),
    row("idle-connections",
        "10,000 connections opened and kept",
        &["--hold connections --count 10000"], &[DONE, RESIDENT]),
    row("idle-queues",
        "10,000 queues declared and kept",
        &["--hold queues --count 10000"], &[DONE, RESIDENT]),
    row("rpc",
        "question and answer over two queues, one at a time",
        &["--rpc"], &[DONE, DONE_P50, DONE_P99]),
];
