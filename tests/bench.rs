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

/// A fault of the broker would stall a run.
const LIMIT: Duration = Duration::from_secs(60);
