//! What a new version of a file changes, as the log has it.

use super::*;

const OLD: &str = r#"
    [[vhost]]
    name = "old"
    [[exchange]]
    name = "logs"
    type = "topic"
    [[exchange]]
    name = "gone"
    type = "fanout"
    alternate = "amq.fanout"
    [[queue]]
    name = "errors"
    [[queue]]
    name = "all"
    arguments = { x-queue-version = 2, x-note = "a" }
    [[binding]]
    from = "logs"
    to_queue = "errors"
    keys = ["*.error", "*.fatal"]
    [[binding]]
    from = "logs"
    to_exchange = "amq.fanout"
    key = "audit"
"#;

#[test]
fn steps_are_in_an_order_in_which_they_can_be_done() {
    let new = r#"
        [[vhost]]
        name = "new"
        [[exchange]]
        name = "logs"
        type = "topic"
        [[exchange]]
        name = "fresh"
        type = "headers"
        vhost = "new"
        [[queue]]
        name = "everything"
        vhost = "new"
        [[queue]]
        name = "all"
        arguments = { x-note = "b", x-queue-version = 2 }
        [[binding]]
        from = "fresh"
        to_queue = "everything"
        headers = { a = 1 }
        vhost = "new"
        [[binding]]
        from = "logs"
        to_queue = "all"
        key = "*.error"
    "#;
    let changes = diff(&topology(OLD), &topology(new)).expect("nothing exists otherwise");
    let changes: Vec<String> = changes.iter().map(Change::to_string).collect();
    assert_eq!(
        changes,
        [
            "added vhost 'new'",
            "added headers exchange 'fresh' in vhost 'new'",
            "added queue 'everything' in vhost 'new'",
            "added binding 'fresh' -> queue 'everything' with key '' and 1 argument in vhost 'new'",
            "added binding 'logs' -> queue 'all' with key '*.error' in vhost '/'",
            "removed binding 'logs' -> queue 'errors' with key '*.error' in vhost '/'",
            "removed binding 'logs' -> queue 'errors' with key '*.fatal' in vhost '/'",
            "removed binding 'logs' -> exchange 'amq.fanout' with key 'audit' in vhost '/'",
            "vhost 'old' is no longer in the file and stays",
            "exchange 'gone' in vhost '/' is no longer in the file and stays",
            "queue 'errors' in vhost '/' is no longer in the file and stays",
        ]
    );
}

#[test]
fn what_exists_cannot_become_something_else() {
    let new = r#"
        [[exchange]]
        name = "logs"
        type = "direct"
        alternate = "amq.fanout"

        [[queue]]
        name = "errors"
        durable = false

        [[queue]]
        name = "all"
        arguments = { x-queue-version = 1 }

        [[queue]]
        name = "another"
    "#;
    let conflicts = diff(&topology(OLD), &topology(new)).expect_err("three differ");
    let conflicts: Vec<(usize, String)> = conflicts
        .iter()
        .map(|conflict| (conflict.position.line, conflict.to_string()))
        .collect();
    let text = |field, of, wanted, current| {
        format!(
            "what exists cannot be changed: inequivalent arg '{field}' for {of} in vhost '/': \
             received '{wanted}' but current is '{current}'"
        )
    };
    assert_eq!(
        conflicts,
        [
            (2, text("type", "exchange 'logs'", "direct", "topic")),
            (7, text("durable", "queue 'errors'", "false", "true")),
            (11, text("x-queue-version", "queue 'all'", "1", "2")),
        ]
    );
}
