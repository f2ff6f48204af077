//! `leveret bench` against our own broker: each kind of load, briefly. Nothing
//! is lost, doubled or reordered.

mod support;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::broker::{broker, unique};

/// A run's result, for a load of `count` messages per queue.
fn bench(options: &str) -> serde_json::Value {
    let mut child = Command::new(env!("CARGO_BIN_EXE_leveret"))
        .arg("bench")
        .args([
            "--json",
            "--uri",
            &format!("amqp://guest:guest@{}/", broker()),
        ])
        .args(["--queue-prefix", unique("bench")])
        .args(options.split_whitespace())
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let deadline = Instant::now() + LIMIT;
    while child.try_wait().expect("a child of ours").is_none() {
        if Instant::now() > deadline {
            child.kill().expect("it runs");
            panic!("{options}: it does not end");
        }
        // What it prints fits into the pipe.
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().expect("it has ended");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{options}: {}: {stderr}",
        output.status
    );
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!(
            "{options}: {error}: {}",
            String::from_utf8_lossy(&output.stdout)
        )
    })
}

/// Runs a load; `copies` is how many queues get each of `count` messages.
fn passes(options: &str, count: u64, copies: u64) -> serde_json::Value {
    let result = bench(&format!("{options} --count {count}"));
    assert_eq!(result["passed"], true, "{options}: {result}");
    for check in [
        "lost",
        "duplicated",
        "redelivered",
        "reordered",
        "nacked",
        "foreign",
    ] {
        assert_eq!(result["checks"][check], 0, "{options}: {check} in {result}");
    }
    assert_eq!(result["checks"]["stalled"], false, "{options}: {result}");
    assert_eq!(result["published"]["messages"], count, "{options}");
    assert_eq!(result["consumed"]["messages"], count * copies, "{options}");
    result
}

#[test]
fn one_to_one_without_acks() {
    let result = passes("--auto-ack", 20_000, 1);
    assert_eq!(result["broker"]["product"], "Leveret");
    assert_eq!(result["confirmed"], serde_json::Value::Null);
}

#[test]
fn acks_within_a_prefetch_one_by_one_and_in_groups() {
    passes("--prefetch 50", 10_000, 1);
    passes("--prefetch 1", 1_000, 1);
    passes("--prefetch 100 --multiple-ack 50", 10_000, 1);
    passes("--prefetch 0", 5_000, 1);
}

#[test]
fn each_priority_keeps_its_order() {
    let result = passes("--priorities 3 --auto-ack --producers 2", 10_000, 1);
    assert_eq!(result["parameters"]["priorities"], 3);
    passes(
        "--priorities 10 --queue-argument x-max-priority=4",
        5_000,
        1,
    );
}

#[test]
fn the_brokers_process_is_watched() {
    // The broker under test is in this process, or we cannot know which it is.
    let pid = std::process::id();
    let watched = format!("--auto-ack --pid {pid}");
    let counted = passes(&watched, 20_000, 1);
    let timed = bench(&format!("{watched} --warmup 100ms --duration 300ms"));
    for result in [counted, timed] {
        let process = &result["process"];
        for figure in ["cpu_seconds", "rss_bytes", "peak_rss_bytes"] {
            assert!(process[figure].is_number(), "{figure}: {result}");
        }
        assert!(process["peak_rss_bytes"].as_u64() >= process["rss_bytes"].as_u64());
        let tool = process["tool_cpu_seconds_per_million"].as_f64();
        assert!(tool > Some(0.0), "{result}");
    }
    let unwatched = passes("--auto-ack", 100, 1);
    assert!(unwatched.get("process").is_none(), "{unwatched}");
}

#[test]
fn confirms_within_a_window() {
    let result = passes("--confirm 100 --auto-ack", 10_000, 1);
    assert_eq!(result["confirmed"]["messages"], 10_000);
    let result = passes("--confirm 1 --prefetch 10", 500, 1);
    assert_eq!(result["confirmed"]["messages"], 500);
}

#[test]
fn several_producers_consumers_and_queues() {
    passes(
        "--producers 3 --consumers 2 --queues 2 --prefetch 20",
        9_000,
        1,
    );
}

#[test]
fn every_queue_of_a_fan_out_gets_everything() {
    passes("--fan-out 5 --auto-ack", 3_000, 5);
}

#[test]
fn exchanges_of_all_types() {
    passes(
        "--exchange direct --queues 3 --bindings 100 --auto-ack",
        3_000,
        1,
    );
    passes(
        "--exchange topic --queues 3 --bindings 200 --auto-ack",
        3_000,
        1,
    );
    passes(
        "--exchange headers --queues 3 --bindings 50 --prefetch 20",
        3_000,
        1,
    );
}

#[test]
fn large_messages_go_through_in_order() {
    passes("--size 1048576 --prefetch 4", 40, 1);
    passes("--size 1048576 --fan-out 3 --auto-ack", 20, 3);
}

#[test]
fn a_paced_load_is_not_faster_than_asked() {
    let began = Instant::now();
    passes("--rate 2000 --auto-ack --confirm 50", 1_000, 1);
    assert!(
        began.elapsed() > Duration::from_millis(490),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn connections_channels_and_queues_open_and_close() {
    for (what, options) in [
        ("connections", "--producers 2 --count 101"),
        ("connections", "--pipeline 20 --count 300"),
        ("channels", "--producers 2 --pipeline 30 --count 1001"),
        ("queues", "--producers 2 --pipeline 30 --count 1001"),
        ("queues", "--warmup 50ms --duration 200ms"),
    ] {
        let pid = std::process::id();
        let result = bench(&format!("--churn {what} {options} --pid {pid}"));
        assert_eq!(result["passed"], true, "{result}");
        assert_eq!(result["mode"], format!("churn-{what}"));
        if let Some((_, count)) = options.split_once("--count ") {
            assert_eq!(result["count"].to_string(), count, "{result}");
        }
        assert!(result["per_second"].as_f64() > Some(0.0), "{result}");
        let latency = &result["latency_us"];
        assert!(latency["p50"].as_f64() > Some(0.0), "{result}");
        assert!(latency["max"].as_f64() >= latency["p99"].as_f64());
        assert!(result["process"]["rss_bytes"].as_u64() > Some(0));
    }
}

#[test]
fn connections_and_queues_are_held() {
    for (what, options) in [
        ("connections", "--count 300"),
        ("connections", "--count 30 --producers 4 --pipeline 3"),
        ("queues", "--count 1001 --producers 3"),
        (
            "queues",
            "--count 50 --durable --queue-argument x-max-length=5",
        ),
    ] {
        let pid = std::process::id();
        let result = bench(&format!("--hold {what} {options} --pid {pid}"));
        assert_eq!(result["passed"], true, "{result}");
        assert_eq!(result["mode"], format!("hold-{what}"));
        let count = options.split(' ').nth(1);
        assert_eq!(Some(result["count"].to_string().as_str()), count);
        assert!(result["per_second"].as_f64() > Some(0.0), "{result}");
        assert!(result["rss_before_bytes"].as_u64() > Some(0), "{result}");
        let after = &result["rss_after_bytes"];
        assert_eq!(after, &result["process"]["rss_bytes"], "{result}");
        assert!(result["rss_per_item_bytes"].is_number(), "{result}");
    }
}

#[test]
fn requests_get_their_replies() {
    for options in [
        "--count 501",
        "--producers 3 --consumers 2 --queues 2 --size 200000 --count 100",
        "--consumers 2 --queues 5 --producers 7 --count 300 --durable",
        "--warmup 50ms --duration 200ms",
    ] {
        let pid = std::process::id();
        let result = bench(&format!("--rpc {options} --pid {pid}"));
        assert_eq!(result["passed"], true, "{result}");
        assert_eq!(result["mode"], "rpc");
        if let Some((_, rest)) = options.split_once("--count ") {
            let count = rest.split(' ').next();
            assert_eq!(Some(result["count"].to_string().as_str()), count);
        }
        assert!(result["per_second"].as_f64() > Some(0.0), "{result}");
        assert!(result["latency_us"]["p50"].as_f64() > Some(0.0), "{result}");
        assert!(result["process"]["rss_bytes"].as_u64() > Some(0));
    }
}

/// A fault of the broker would stall a run.
const LIMIT: Duration = Duration::from_secs(60);
