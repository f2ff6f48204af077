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
    arguments = { x-a = 1, x-b = 2 }
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
        arguments = { x-b = 2, x-a = 1 }
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
        arguments = { x-a = 1, x-b = "2" }

        [[queue]]
        name = "another"
    "#;
    let conflicts = diff(&topology(OLD), &topology(new)).expect_err("three differ");
    let conflicts: Vec<(usize, String)> = conflicts
        .iter()
        .map(|conflict| (conflict.position.line, conflict.to_string()))
        .collect();
    let text = |what| {
        format!(
            "{what} in vhost '/' exists with other settings, which cannot be changed while it exists"
        )
    };
    assert_eq!(
        conflicts,
        [
            (2, text("exchange 'logs'")),
            (7, text("queue 'errors'")),
            (11, text("queue 'all'")),
        ]
    );
}
