//! What a run found out, as figures: for people as text, for scripts as JSON.

mod text;

use std::collections::BTreeMap;

use serde::Serialize;

use super::args::ExchangeKind;
use super::consumer::ConsumerOutcome;
use super::latency::{Latencies, LatencyFigures};
use super::process::{Process, ProcessFigures};
use super::producer::ProducerOutcome;
use super::run::{Findings, Totals};
use super::scenario::{Direction, Length, Scenario, Settling};
use super::sequence::{StreamCheck, StreamVerdict};
use super::uri::AmqpUri;

pub use text::{Time, row};

/// The result of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Nothing was lost, duplicated or reordered, and no connection broke.
    pub passed: bool,
    broker: Broker,
    parameters: Parameters,
    /// Length of the measured window, or of the whole run where a count was given.
    measured_seconds: f64,
    published: Flow,
    confirmed: Option<Flow>,
    consumed: Flow,
    /// From due time to receipt.
    latency: Option<LatencyFigures>,
    /// From due time to confirm.
    confirm_latency: Option<LatencyFigures>,
    /// From due time to when the producer really got to it: the tool's own error, and the
    /// broker's back-pressure.
    lateness: Option<LatencyFigures>,
    checks: Checks,
    blocked: Blocked,
    /// Messages left in the queues by `--publish-only`.
    ready_after: Option<u64>,
    /// What the load itself cost.
    tool: Tool,
    /// What the broker cost, if its process was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<ProcessFigures>,
    errors: Vec<String>,
}

/// Which broker it was.
#[derive(Clone, Debug, Serialize)]
pub struct Broker {
    product: String,
    version: String,
    uri: String,
}

#[derive(Clone, Debug, Serialize)]
struct Parameters {
    direction: &'static str,
    producers: u16,
    consumers: u16,
    queues: u16,
    size: usize,
    confirm: u32,
    auto_ack: bool,
    prefetch: Option<u16>,
    ack_every: Option<u16>,
    rate: Option<u64>,
    persistent: bool,
    durable: bool,
    exchange: ExchangeKind,
    bindings: u32,
    priorities: u8,
    fan: u64,
    count: Option<u64>,
    warmup_seconds: Option<f64>,
    duration_seconds: Option<f64>,
    drain_timeout_seconds: f64,
}

/// Messages of the whole run, and their rate while it was measured.
#[derive(Clone, Debug, Serialize)]
struct Flow {
    messages: u64,
    per_second: f64,
}

#[derive(Clone, Debug, Default, Serialize)]
struct Checks {
    lost: u64,
    duplicated: u64,
    redelivered: u64,
    reordered: u64,
    /// Messages refused with a nack; they do not count as lost.
    nacked: u64,
    /// Deliveries that no producer of this run sent, or with a damaged length.
    foreign: u64,
    /// Nothing moved any more before all had arrived.
    stalled: bool,
}

#[derive(Clone, Debug, Serialize)]
struct Blocked {
    count: u64,
    seconds: f64,
}

#[derive(Clone, Debug, Serialize)]
struct Tool {
    cpu_seconds: f64,
    /// Per message published or consumed.
    cpu_ns_per_message: f64,
}

impl Report {
    /// Puts the findings together.
    pub fn new(scenario: &Scenario, mut findings: Findings) -> Self {
        let checks = check(scenario, &mut findings);
        let (from, to) = findings.window.unwrap_or_else(|| {
            whole_run(&findings.producers, &findings.consumers, findings.totals)
        });
        let seconds = to.at_ns.saturating_sub(from.at_ns) as f64 / 1e9;
        let totals = findings.totals;
        let flow = |messages: u64, moved: u64| Flow {
            messages,
            per_second: match seconds > 0.0 {
                true => moved as f64 / seconds,
                false => 0.0,
            },
        };
        let merged = |parts: &mut dyn Iterator<Item = &Latencies>| {
            let mut all = Latencies::new();
            parts.for_each(|part| all.merge(part));
            all.figures()
        };
        let (producers, consumers) = (&findings.producers, &findings.consumers);
        let handled = totals.published + totals.consumed;
        let mut errors: Vec<String> = (producers.iter().filter_map(|one| one.error.as_ref()))
            .chain(consumers.iter().filter_map(|one| one.error.as_ref()))
            .map(ToString::to_string)
            .collect();
        let measured = match to.consumed - from.consumed {
            0 => to.published - from.published,
            consumed => consumed,
        };
        let process = match findings.usage {
            None => None,
            Some(Ok((from, to))) => Some(ProcessFigures::between(from, to, measured)),
            Some(Err(error)) => {
                errors.push(Process::lost(&error));
                None
            }
        };
        let cpu_seconds = findings.cpu.as_secs_f64();
        Self {
            passed: checks.passed() && errors.is_empty(),
            parameters: Parameters::of(scenario),
            measured_seconds: seconds,
            published: flow(totals.published, to.published - from.published),
            confirmed: (scenario.confirm_window > 0)
                .then(|| flow(totals.confirmed, to.confirmed - from.confirmed)),
            consumed: flow(totals.consumed, to.consumed - from.consumed),
            latency: merged(&mut consumers.iter().map(|one| &one.latencies)),
            confirm_latency: merged(&mut producers.iter().map(|one| &one.confirm_latencies)),
            lateness: merged(&mut producers.iter().map(|one| &one.lateness)),
            checks,
            blocked: Blocked {
                count: producers.iter().map(|one| one.blocked_count).sum(),
                seconds: producers.iter().map(|one| one.blocked_ns).sum::<u64>() as f64 / 1e9,
            },
            ready_after: findings.ready_after,
            tool: Tool {
                cpu_seconds,
                cpu_ns_per_message: cpu_seconds * 1e9 / handled.max(1) as f64,
            },
            process,
            errors,
            broker: Broker::new(findings.broker, &scenario.uri),
        }
    }
}

impl Broker {
    /// From its product and version.
    pub fn new((product, version): (String, String), uri: &AmqpUri) -> Self {
        Self {
            product,
            version,
            uri: uri.public(),
        }
    }
}

impl Checks {
    fn passed(&self) -> bool {
        let wrong = self.lost + self.duplicated + self.reordered + self.foreign;
        wrong == 0 && !self.stalled
    }
}

impl Parameters {
    fn of(scenario: &Scenario) -> Self {
        let (prefetch, ack_every) = match scenario.settling {
            Settling::AutoAck => (None, None),
            Settling::Acks { prefetch, every } => (Some(prefetch), Some(every)),
        };
        let (count, warmup, measured) = match scenario.length {
            Length::Count(count) => (Some(count), None, None),
            Length::Time { warmup, measured } => (None, Some(warmup), Some(measured)),
            Length::Backlog => (None, None, None),
        };
        Self {
            direction: match scenario.direction {
                Direction::Both => "both",
                Direction::PublishOnly => "publish-only",
                Direction::ConsumeOnly => "consume-only",
            },
            producers: scenario.producers,
            consumers: scenario.consumers,
            queues: scenario.queues,
            size: scenario.body_bytes,
            confirm: scenario.confirm_window,
            auto_ack: scenario.settling == Settling::AutoAck,
            prefetch,
            ack_every,
            rate: scenario.rate,
            persistent: scenario.persistent,
            durable: scenario.durable,
            exchange: scenario.exchange,
            bindings: scenario.bindings,
            priorities: scenario.priorities,
            fan: scenario.fan(),
            count,
            warmup_seconds: warmup.map(|warmup| warmup.as_secs_f64()),
            duration_seconds: measured.map(|measured| measured.as_secs_f64()),
            drain_timeout_seconds: scenario.drain_timeout.as_secs_f64(),
        }
    }
}

/// Puts together what the consumers saw of each stream and holds it against what was sent.
fn check(scenario: &Scenario, findings: &mut Findings) -> Checks {
    let mut streams: BTreeMap<(usize, usize), Vec<StreamCheck>> = BTreeMap::new();
    for consumer in &mut findings.consumers {
        for (queue, of_queue) in std::mem::take(&mut consumer.streams)
            .into_iter()
            .enumerate()
        {
            for (producer, part) in of_queue.into_iter().enumerate() {
                streams.entry((queue, producer)).or_default().push(part);
            }
        }
    }
    let mut checks = Checks {
        nacked: findings.producers.iter().map(|one| one.nacked).sum(),
        foreign: findings.consumers.iter().map(|one| one.foreign).sum(),
        stalled: findings.stalled,
        ..Checks::default()
    };
    let mut arrived = 0;
    for (_, parts) in streams {
        let verdict = StreamVerdict::of(parts);
        arrived += verdict.arrived;
        checks.duplicated += verdict.duplicated;
        checks.redelivered += verdict.redelivered;
        checks.reordered += verdict.reordered;
        if scenario.direction == Direction::ConsumeOnly {
            checks.lost += verdict.missing;
        }
    }
    let fan = scenario.fan();
    let expected = match (scenario.direction, findings.ready_after) {
        (Direction::ConsumeOnly, _) => findings.ready_before,
        (_, Some(ready)) => {
            arrived = ready;
            findings.totals.published * fan
        }
        (_, None) => findings.totals.published * fan,
    };
    let missing = expected.saturating_sub(arrived);
    checks.lost += missing.saturating_sub(checks.nacked * fan);
    checks
}

/// The window of a run that is measured as a whole: from its first publish, or where nobody
/// publishes its first delivery, to the last thing that happened.
fn whole_run(
    producers: &[ProducerOutcome],
    consumers: &[ConsumerOutcome],
    totals: Totals,
) -> (Totals, Totals) {
    let published = producers.iter().filter_map(|one| one.first_ns).min();
    let first = published.or_else(|| consumers.iter().filter_map(|one| one.first_ns).min());
    let last = (producers.iter().map(|one| one.last_ns))
        .chain(consumers.iter().map(|one| one.last_ns))
        .max();
    let from = Totals {
        at_ns: first.unwrap_or(0),
        ..Totals::default()
    };
    let to = Totals {
        at_ns: last.unwrap_or(0),
        ..totals
    };
    (from, to)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cli::bench::args::BenchArgs;
    use crate::cli::bench::client::ClientError;
    use crate::cli::bench::process::Usage;

    fn scenario(options: &str) -> Scenario {
        let args = BenchArgs::from_line(options).expect("they are known");
        Scenario::new(&args).expect("the options are fine")
    }

    fn consumer(sequences: &[u64]) -> ConsumerOutcome {
        let mut stream = StreamCheck::default();
        for &sequence in sequences {
            stream.record(sequence, false);
        }
        ConsumerOutcome {
            streams: vec![vec![stream]],
            latencies: Latencies::new(),
            foreign: 0,
            first_ns: Some(1_500_000_000),
            last_ns: 3_000_000_000,
            error: None,
        }
    }

    fn findings(published: u64, consumers: Vec<ConsumerOutcome>) -> Findings {
        let producer = ProducerOutcome {
            lanes: vec![published],
            confirm_latencies: Latencies::new(),
            lateness: Latencies::new(),
            nacked: 0,
            first_ns: Some(1_000_000_000),
            last_ns: 2_000_000_000,
            blocked_count: 0,
            blocked_ns: 0,
            error: None,
        };
        Findings {
            broker: ("Broker".to_owned(), "1.0".to_owned()),
            producers: vec![producer],
            consumers,
            window: None,
            totals: Totals {
                at_ns: 9_000_000_000,
                published,
                consumed: published,
                ..Totals::default()
            },
            ready_before: 0,
            ready_after: None,
            stalled: false,
            cpu: Duration::from_micros(8),
            usage: None,
        }
    }

    #[test]
    fn a_count_is_measured_from_first_publish_to_last_delivery() {
        let report = Report::new(
            &scenario("--count 4"),
            findings(4, vec![consumer(&[0, 1, 2, 3])]),
        );
        assert!(report.passed);
        assert_eq!(report.measured_seconds, 2.0);
        assert_eq!(report.published.per_second, 2.0);
        assert_eq!(report.tool.cpu_ns_per_message, 1_000.0);
    }

    #[test]
    fn a_timed_run_is_measured_in_its_window() {
        let mut findings = findings(4, vec![consumer(&[0, 1, 2, 3])]);
        let at = |at_ns, published, consumed| Totals {
            at_ns,
            published,
            consumed,
            ..Totals::default()
        };
        findings.window = Some((at(1_000_000_000, 10, 5), at(3_000_000_000, 30, 15)));
        let report = Report::new(&scenario(""), findings);
        assert_eq!(report.measured_seconds, 2.0);
        assert_eq!(
            (report.published.per_second, report.consumed.per_second),
            (10.0, 5.0)
        );
    }

    #[test]
    fn the_process_pays_for_what_was_consumed_or_else_published() {
        for (consumed, per_million) in [(4, 250_000.0), (0, 125_000.0)] {
            let mut findings = findings(8, vec![consumer(&[0, 1, 2, 3])]);
            findings.totals.consumed = consumed;
            let usage = |seconds| Usage {
                cpu: Duration::from_secs(seconds),
                tool_cpu: Duration::ZERO,
                rss_bytes: 1 << 20,
                peak_rss_bytes: 2 << 20,
            };
            findings.usage = Some(Ok((usage(3), usage(4))));
            let report = Report::new(&scenario("--count 8"), findings);
            let json = serde_json::to_value(&report).expect("it is plain data");
            assert_eq!(json["process"]["cpu_seconds_per_million"], per_million);
            assert!(report.to_string().contains("1.0 MiB resident, 2.0 MiB"));
        }
    }

    #[test]
    fn a_process_that_went_fails_the_run() {
        let mut findings = findings(4, vec![consumer(&[0, 1, 2, 3])]);
        findings.usage = Some(Err(std::io::ErrorKind::NotFound.into()));
        assert!(!Report::new(&scenario("--count 4"), findings).passed);
    }

    #[test]
    fn every_fault_fails_the_run() {
        let run = |options: &str, consumers, spoil: fn(&mut Findings)| {
            let mut findings = findings(4, consumers);
            spoil(&mut findings);
            Report::new(&scenario(options), findings)
        };
        let whole = || vec![consumer(&[0, 1, 2, 3])];
        let lost = run("", vec![consumer(&[0, 1, 3])], |_| {});
        assert_eq!((lost.checks.lost, lost.passed), (1, false));
        let doubled = run("", vec![consumer(&[0, 1, 2]), consumer(&[2, 3])], |_| {});
        assert_eq!((doubled.checks.duplicated, doubled.passed), (1, false));
        let reordered = run("", vec![consumer(&[0, 2, 1, 3])], |_| {});
        assert_eq!((reordered.checks.reordered, reordered.passed), (1, false));
        assert!(!run("", whole(), |findings| findings.stalled = true).passed);
        let closed = run("", whole(), |findings| {
            for producer in &mut findings.producers {
                producer.error = Some(ClientError::Dropped);
            }
        });
        assert_eq!((closed.errors.len(), closed.passed), (1, false));
        let foreign = run("", whole(), |findings| {
            findings
                .consumers
                .iter_mut()
                .for_each(|one| one.foreign = 2);
        });
        assert!(!foreign.passed);
    }

    #[test]
    fn a_nacked_message_is_not_lost() {
        let mut findings = findings(4, vec![consumer(&[0, 1, 3])]);
        findings.producers.iter_mut().for_each(|one| one.nacked = 1);
        let report = Report::new(&scenario("--confirm 10"), findings);
        assert_eq!((report.checks.lost, report.passed), (0, true));
    }

    #[test]
    fn every_queue_of_a_fan_out_must_get_every_message() {
        let fan_out = scenario("--fan-out 2");
        let mut second = consumer(&[0, 1, 2]);
        second.streams.insert(0, Vec::new());
        let report = Report::new(&fan_out, findings(4, vec![consumer(&[0, 1, 2, 3]), second]));
        assert_eq!(report.checks.lost, 1);
    }

    #[test]
    fn a_backlog_shows_gaps_and_what_is_short() {
        let drain = scenario("--consume-only");
        for (shows, ready, sequences, lost) in [
            ("all there", 3, &[0, 1, 2][..], 0),
            ("a gap", 3, &[0, 1, 3], 1),
            ("fewer than were ready", 4, &[0, 1, 2], 1),
        ] {
            let mut findings = findings(0, vec![consumer(sequences)]);
            findings.producers.clear();
            findings.ready_before = ready;
            assert_eq!(Report::new(&drain, findings).checks.lost, lost, "{shows}");
        }
    }

    #[test]
    fn people_and_scripts_see_the_same_checks() {
        let report = Report::new(
            &scenario("--count 4"),
            findings(4, vec![consumer(&[0, 1, 2])]),
        );
        let text = report.to_string();
        assert!(
            text.contains("lost 1  duplicated 0  redelivered 0  reordered 0"),
            "{text}"
        );
        assert!(text.contains("FAILED"), "{text}");
        let json = serde_json::to_value(&report).expect("it is plain data");
        assert_eq!(json["checks"]["lost"], 1);
        assert_eq!(json["parameters"]["count"], 4);
        assert_eq!(json["broker"]["uri"], "amqp://127.0.0.1:5672/%2F");
    }
}
