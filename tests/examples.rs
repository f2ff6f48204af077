//! Runs every program of `examples/` against the broker under test and checks
//! what it prints. `cargo test` builds them; after `cargo test --test examples`
//! alone they are as old as the last `cargo build --examples`.

#[allow(dead_code, reason = "the specification tests use the rest")]
#[path = "support/broker.rs"]
mod broker;

use std::path::PathBuf;
use std::time::Duration;

use assert_cmd::Command;

/// The lines that an example prints before it ends by itself.
fn lines_of(example: &str) -> Vec<String> {
    let uri = format!("amqp://guest:guest@{}/%2f", broker::broker());
    let output = Command::new(path_of(example))
        .arg(uri)
        .timeout(Duration::from_secs(30))
        .assert()
        .success()
        .get_output()
        .stdout
        .clone();
    let text = String::from_utf8(output).expect("examples print text");
    text.lines().map(str::to_owned).collect()
}

/// Beside this test's own directory.
fn path_of(example: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let profile = test
        .ancestors()
        .nth(2)
        .expect("target/<profile>/deps/<test>");
    let path = profile
        .join("examples")
        .join(example)
        .with_extension(std::env::consts::EXE_EXTENSION);
    assert!(
        path.exists(),
        "cargo build --examples makes {}",
        path.display()
    );
    path
}

#[test]
fn every_job_of_the_work_queue_is_done_and_the_difficult_one_twice() {
    let lines = lines_of("work_queue");
    for job in 1..=12 {
        let done = lines
            .iter()
            .filter(|line| line.ends_with(&format!(": job {job} done")))
            .count();
        assert_eq!(done, 1, "job {job} of {lines:?}");
    }
    let failed = lines
        .iter()
        .filter(|line| line.ends_with("job 5 failed, back into the queue"))
        .count();
    assert_eq!(failed, 1, "{lines:?}");
    for worker in ["worker 1: ", "worker 2: "] {
        assert!(
            lines.iter().any(|line| line.starts_with(worker)),
            "{worker} of {lines:?}"
        );
    }
    assert_eq!(lines.last().map(String::as_str), Some("all 12 jobs done"));
}

#[test]
fn the_pipeline_cleans_converts_and_reports() {
    let lines = lines_of("fanout_pipeline");
    let of = |stage: &str| {
        lines
            .iter()
            .filter_map(|line| line.strip_prefix(stage))
            .collect::<Vec<_>>()
    };
    assert_eq!(of("audit: "), ["20.5", "21.0", "broken", "-40", "22.5"]);
    assert_eq!(of("clean: "), ["dropped 'broken'"]);
    assert_eq!(
        of("report: "),
        [
            "20.5 °C are 68.9 °F",
            "21 °C are 69.8 °F",
            "-40 °C are -40 °F",
            "22.5 °C are 72.5 °F"
        ]
    );
    assert_eq!(
        lines.last().map(String::as_str),
        Some("the pipeline has run dry")
    );
}

#[test]
fn each_subscriber_gets_the_logs_of_its_topic() {
    assert_eq!(
        lines_of("topic_logs"),
        [
            "pager: [billing.error] invoice 18 has no address",
            "pager: [search.error] index is read-only",
            "billing team: [billing.info] invoice 17 sent",
            "billing team: [billing.error] invoice 18 has no address",
            "archive: [billing.info] invoice 17 sent",
            "archive: [billing.error] invoice 18 has no address",
            "archive: [search.error] index is read-only",
            "archive: [search.debug.cache] 3 entries evicted",
        ]
    );
}

#[test]
fn documents_are_routed_by_their_headers() {
    assert_eq!(
        lines_of("headers_routing"),
        [
            "printer: quarterly figures",
            "desk: fire in the kitchen",
            "desk: contract to sign",
            "archive: quarterly figures",
            "archive: contract to sign",
        ]
    );
}

#[test]
fn calls_are_answered() {
    assert_eq!(
        lines_of("rpc"),
        [
            "fibonacci(10) = 55",
            "fibonacci(20) = 6765",
            "fibonacci(40) = 102334155"
        ]
    );
}

#[test]
fn emails_are_sent_retried_and_given_up() {
    assert_eq!(
        lines_of("email_queue"),
        [
            "4 emails queued",
            "sent to anna",
            "sent to bertram",
            "charlotte: mailbox full, retry 1 of 3",
            "sent to dora",
            "charlotte: mailbox full, retry 2 of 3",
            "charlotte: mailbox full, retry 3 of 3",
            "charlotte: mailbox full, given up",
            "operator: email to charlotte needs a look",
        ]
    );
}
