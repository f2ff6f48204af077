//! The parts of the suite `benches/peers` that need no broker: its arithmetic, its
//! page, how it reads what is no AMQP, and whether `leveret bench` understands every
//! scenario.

#[path = "../benches/peers/figures.rs"]
mod figures;
#[path = "../benches/peers/neighbours/readers.rs"]
mod readers;
#[path = "../benches/peers/scenarios.rs"]
#[expect(dead_code, reason = "the suite needs more of it")]
mod scenarios;
#[path = "../benches/peers/table.rs"]
mod table;

use std::collections::BTreeSet;

use clap::Parser;
use leveret::cli::bench::BenchArgs;

use figures::{Spread, rounded};
use readers::{FETCH, NatsReader, Reader, RedisReader, RelayReader};
use scenarios::SCENARIOS;
use table::{PeerNote, Results, Row, ScenarioResult};

#[test]
fn a_spread_is_median_and_range() {
    for (values, expected) in [
        (&[][..], None),
        (&[3.0], Some((3.0, 3.0, 3.0))),
        (&[9.0, 1.0, 4.0], Some((4.0, 1.0, 9.0))),
        (&[8.0, 1.0, 4.0, 2.0], Some((3.0, 1.0, 8.0))),
    ] {
        let spread = Spread::of(values).map(|spread| (spread.median, spread.min, spread.max));
        assert_eq!(spread, expected, "{values:?}");
    }
}

#[test]
fn three_digits_count() {
    for (value, text) in [
        (4_063_210.0, "4,060,000"),
        (999_600.0, "1,000,000"),
        (84_449.0, "84,400"),
        (1_000.0, "1,000"),
        (433.4, "433"),
        (99.96, "100"),
        (38.04, "38.0"),
        (9.417, "9.42"),
        (0.071_26, "0.0713"),
        (0.0, "0"),
    ] {
        assert_eq!(rounded(value), text);
    }
}

#[test]
fn every_scenario_has_a_name_of_its_own_and_is_understood() {
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        _args: BenchArgs,
    }
    let mut names = BTreeSet::new();
    for scenario in SCENARIOS {
        assert!(names.insert(scenario.name), "twice: {}", scenario.name);
        assert!(!scenario.figures.is_empty(), "{}", scenario.name);
        for figure in scenario.figures {
            assert!(figure.run < scenario.runs.len(), "{}", scenario.name);
        }
        for run in scenario.runs {
            let run = run.replace("{count}", "1");
            let words = std::iter::once("bench").chain(run.split_whitespace());
            if let Err(error) = Line::try_parse_from(words) {
                panic!("{}: {error}", scenario.name);
            }
        }
    }
}

fn row(peer: &str, values: &[f64], failures: &[&str]) -> Row {
    Row {
        peer: peer.to_owned(),
        figure: "delivered",
        unit: "/s",
        values: values.to_vec(),
        spread: Spread::of(values),
        leveret_by_peer: None,
        cpu_seconds_per_million: Some(0.25),
        peak_rss_bytes: None,
        failures: failures.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn a_page_shows_ratios_and_failures() {
    let mut scenario = ScenarioResult {
        name: "some",
        title: "Some load",
        runs: vec!["--size 16".to_owned()],
        confirms: true,
        rows: vec![
            row("leveret", &[100.0, 300.0, 200.0], &[]),
            row("slow", &[50.0, 50.0], &["lost 3"]),
            row("broken", &[], &["it | ended", "again"]),
            row("talkative", &[], &[&"é".repeat(151)]),
        ],
    };
    scenario.compare_with("leveret");
    let note = |name: &str| PeerNote {
        name: name.to_owned(),
        version: None,
        settings: "defaults".to_owned(),
        confirms: format!("kept by {name}"),
    };
    let results = Results {
        date: "today".to_owned(),
        machine: vec![("cores", "2".to_owned())],
        rounds: 3,
        measured_seconds: 1.5,
        peers: vec![note("leveret"), note("slow"), note("broken")],
        scenarios: vec![scenario],
    };
    let page = results.to_string();
    for line in [
        "- cores: 2",
        "| slow | – | defaults | kept by slow |",
        "| leveret | delivered | 200/s | 100/s to 300/s | 1.00 | 0.250 | – | kept by leveret |",
        "| slow | delivered | 50.0/s (failed 1 of 3: lost 3) | 50.0/s to 50.0/s | 4.00 | 0.250 | – | kept by slow |",
        &format!(
            "| talkative | delivered | failed 1 of 1: {}… | | – | 0.250 | – |  |",
            "é".repeat(150)
        ),
        "| broken | delivered | failed 2 of 2: it / ended | | – | 0.250 | – | kept by broken |",
    ] {
        assert!(
            page.lines().any(|has| has == line),
            "no {line:?} in\n{page}"
        );
    }
}

/// What a reader sees and answers, given that input in pieces of `piece` octets.
fn take(mut reader: impl Reader, input: &[u8], piece: usize) -> (Vec<Vec<u8>>, Vec<u8>) {
    let (mut bodies, mut answer, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
    for piece in input.chunks(piece) {
        waiting.extend_from_slice(piece);
        let mut seen = |body: &[u8]| bodies.push(body.to_vec());
        let used = reader
            .take(&waiting, &mut seen, &mut answer)
            .expect("it is fine");
        waiting.drain(..used);
    }
    assert!(waiting.is_empty(), "left: {waiting:?}");
    (bodies, answer)
}

#[test]
fn readers_take_whole_messages_however_they_come() {
    let nats = b"MSG bench 1 3\r\nabc\r\nPING\r\nMSG bench 1 2\r\n\r\n\r\nPONG\r\n";
    let redis = b"*2\r\n$5\r\nbench\r\n*2\r\n$3\r\nabc\r\n$2\r\n\r\n\r\n\
                  *2\r\n$5\r\nbench\r\n*1\r\n$1\r\nx\r\n";
    for piece in 1..=redis.len() {
        let (bodies, answer) = take(NatsReader, nats, piece);
        assert_eq!(bodies, [&b"abc"[..], b"\r\n"], "NATS, {piece}");
        assert_eq!(answer, b"PONG\r\n", "NATS, {piece}");

        let (bodies, answer) = take(RedisReader::default(), redis, piece);
        assert_eq!(bodies, [&b"abc"[..], b"\r\n", b"x"], "Redis, {piece}");
        assert_eq!(answer, [FETCH, FETCH].concat(), "Redis, {piece}");

        let relay = RelayReader {
            message_bytes: 4,
            body_at: 1,
        };
        let (bodies, _) = take(relay, b"-abc-def", piece);
        assert_eq!(bodies, [b"abc", b"def"], "relay, {piece}");
    }
}

#[test]
fn readers_refuse_what_is_no_message() {
    let mut answer = Vec::new();
    let mut refuses = |reader: &mut dyn Reader, input: &[u8]| {
        assert!(
            reader.take(input, &mut |_| {}, &mut answer).is_err(),
            "{input:?}"
        );
    };
    refuses(&mut NatsReader, b"-ERR 'Slow Consumer'\r\n");
    refuses(&mut NatsReader, b"MSG bench 1 many\r\n");
    refuses(&mut RedisReader::default(), b"-OOM command not allowed\r\n");
    refuses(
        &mut RedisReader::default(),
        b"*2\r\n$5\r\nbench\r\n*1\r\n:1\r\n",
    );
}
