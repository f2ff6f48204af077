//! Queues declared, redeclared, locked, purged and deleted (WIRE.md sections 3 and 4).

use leveret_protocol::Method;
use leveret_protocol::method::*;

use crate::equivalence::locked;
use crate::support::broker::{leak, unique};
use crate::support::client::Client;
use crate::support::matched;

fn declare(queue: &str) -> QueueDeclare<'_> {
    QueueDeclare {
        queue,
        exclusive: true,
        ..QueueDeclare::default()
    }
}

fn passive(queue: &str) -> QueueDeclare<'_> {
    QueueDeclare {
        queue,
        passive: true,
        ..QueueDeclare::default()
    }
}

fn missing(queue: &str) -> &'static str {
    leak(format!("NOT_FOUND - no queue '{queue}' in vhost '/'"))
}

#[test]
fn declare_ok_carries_name_ready_messages_and_consumers() {
    let mut client = Client::with_channel();
    let queue = unique("counted");
    assert_eq!(client.declare(1, &declare(queue)), (queue, 0, 0));
    client.fill(queue, &["a", "b", "c"]);
    assert_eq!(client.declare(1, &passive(queue)), (queue, 3, 0));
    client.qos(1, 1, false);
    client.consume(1, queue, false);
    client.delivery(1);
    assert_eq!(
        client.declare(1, &declare(queue)),
        (queue, 2, 1),
        "the unsettled one is not ready"
    );
}

#[test]
fn an_empty_name_makes_the_server_choose_one() {
    let mut client = Client::with_channel();
    let (first, ..) = client.declare(1, &declare(""));
    let (second, ..) = client.declare(1, &declare(""));
    assert_ne!(first, second);
    for name in [first, second] {
        let random = name.strip_prefix("amq.gen-").expect("the server's prefix");
        assert_eq!(random.len(), 22, "{name}");
        assert!(
            random
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)),
            "{name}"
        );
    }
}

#[test]
fn an_empty_name_elsewhere_means_the_last_queue_declared() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    client.bind(1, "", "amq.direct", queue);
    client.publish_confirmed(&[("amq.direct", queue, "one"), ("", queue, "two")]);
    assert_eq!(client.get(1, "", true).expect("a message").text(), "one");
    client.consume(1, "", true);
    assert_eq!(client.delivery(1).text(), "two");
    matched!(client.call(1, &QueuePurge::default()), Method::QueuePurgeOk(_) => ());
    client.delete_queue(1, "");
    assert_eq!(client.look_up(queue), None);
}

#[test]
fn an_empty_name_with_nothing_declared_on_the_channel_is_404() {
    let mut client = Client::with_channel();
    client.temp_queue(1);
    client.open_channel(2);
    let text = "NOT_FOUND - no previously declared queue";
    client.refused(2, &BasicConsume::default(), 404, text);
    client.refused(2, &BasicGet::default(), 404, text);
    client.refused(2, &QueuePurge::default(), 404, text);
    client.refused(2, &QueueDelete::default(), 404, text);
    client.refused(
        2,
        &QueueBind {
            exchange: "amq.direct",
            routing_key: "k",
            ..QueueBind::default()
        },
        404,
        text,
    );
}

#[test]
fn binding_with_queue_and_key_both_empty_uses_the_queues_name_as_key() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    client.bind(1, "", "amq.direct", "");
    client.publish_confirmed(&[
        ("amq.direct", queue, "found"),
        ("amq.direct", "", "not this"),
    ]);
    assert_eq!(client.drain(1, queue), ["found"]);
}

#[test]
fn a_missing_queue_is_404() {
    let mut client = Client::with_channel();
    let queue = unique("missing");
    let text = missing(queue);
    client.refused(1, &passive(queue), 404, text);
    client.refused(
        1,
        &BasicConsume {
            queue,
            ..BasicConsume::default()
        },
        404,
        text,
    );
    client.refused(
        1,
        &BasicGet {
            queue,
            ..BasicGet::default()
        },
        404,
        text,
    );
    client.refused(
        1,
        &QueuePurge {
            queue,
            ..QueuePurge::default()
        },
        404,
        text,
    );
    client.refused(
        1,
        &QueueBind {
            queue,
            exchange: "amq.direct",
            ..QueueBind::default()
        },
        404,
        text,
    );
}

#[test]
fn deleting_a_queue_that_is_not_there_is_fine() {
    let mut client = Client::with_channel();
    assert_eq!(client.delete_queue(1, "nowhere"), 0);
}

#[test]
fn names_that_begin_with_amq_are_the_servers() {
    let mut client = Client::with_channel();
    let text = "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'";
    client.refused(1, &declare("amq.mine"), 403, text);
    let (queue, ..) = client.declare(1, &declare(""));
    let text = leak(format!(
        "ACCESS_REFUSED - queue name '{queue}' contains reserved prefix 'amq.*'"
    ));
    client.refused(1, &declare(queue), 403, text);
    client.declare(1, &passive(queue));
}

#[test]
fn line_breaks_are_stripped_from_a_declared_name() {
    let mut client = Client::with_channel();
    let queue = unique("line");
    let broken = leak(format!("{queue}\r\n"));
    assert_eq!(client.declare(1, &declare(broken)).0, queue);
    client.declare(1, &passive(queue));
}

#[test]
fn a_name_may_have_255_octets() {
    let mut client = Client::with_channel();
    let base = unique("long");
    for filling in ["x", "\u{e9}"] {
        for length in [254, 255] {
            let mut name = base.to_owned() + &filling.repeat((length - base.len()) / filling.len());
            name.push_str(&"y".repeat(length - name.len()));
            let name = leak(name);
            assert_eq!(client.declare(1, &declare(name)).0, name);
            client.fill(name, &["to a long name"]);
            assert_eq!(client.drain(1, name), ["to a long name"]);
        }
    }
}

#[test]
fn another_connections_exclusive_queue_is_locked() {
    let mut owner = Client::with_channel();
    let mut other = Client::with_channel();
    let queue = owner.bound_queue(1, "amq.direct", "");
    let text = locked(queue);
    other.refused(1, &declare(queue), 405, text);
    other.refused(
        1,
        &QueueDeclare {
            exclusive: false,
            ..declare(queue)
        },
        405,
        text,
    );
    other.refused(1, &passive(queue), 405, text);
    other.refused(
        1,
        &BasicConsume {
            queue,
            ..BasicConsume::default()
        },
        405,
        text,
    );
    other.refused(
        1,
        &BasicGet {
            queue,
            ..BasicGet::default()
        },
        405,
        text,
    );
    other.refused(
        1,
        &QueuePurge {
            queue,
            ..QueuePurge::default()
        },
        405,
        text,
    );
    other.refused(
        1,
        &QueueDelete {
            queue,
            ..QueueDelete::default()
        },
        405,
        text,
    );
    other.refused(
        1,
        &QueueBind {
            queue,
            exchange: "amq.direct",
            ..QueueBind::default()
        },
        405,
        text,
    );
    other.refused(
        1,
        &QueueUnbind {
            queue,
            exchange: "amq.direct",
            ..QueueUnbind::default()
        },
        405,
        text,
    );
    owner.sync(1);
}

#[test]
fn anyone_may_publish_to_an_exclusive_queue() {
    let mut owner = Client::with_channel();
    let mut other = Client::with_channel();
    let queue = owner.temp_queue(1);
    other.fill(queue, &["from afar"]);
    assert_eq!(owner.drain(1, queue), ["from afar"]);
}

#[test]
fn an_exclusive_queue_belongs_to_all_channels_of_its_connection() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    client.open_channel(2);
    client.close_channel(1);
    client.declare(2, &declare(queue));
}

#[test]
fn an_auto_delete_queue_goes_with_its_last_consumer_and_not_before_one() {
    let mut client = Client::with_channel();
    let mut watcher = Client::with_channel();
    let queue = client.shared_queue(1);
    client.fill(queue, &["one"]);
    assert!(client.get(1, queue, true).is_some());
    assert_eq!(watcher.look_up(queue), Some((0, 0)), "no consumer yet");
    let first = client.consume(1, queue, true);
    client.open_channel(2);
    client.consume(2, queue, true);
    client.cancel(1, first);
    assert_eq!(watcher.look_up(queue), Some((0, 1)));
    client.close_channel(2);
    watcher.await_gone(queue);
}

#[test]
fn an_auto_delete_queue_goes_with_the_connection_of_its_last_consumer() {
    let mut client = Client::with_channel();
    let mut watcher = Client::with_channel();
    let queue = client.shared_queue(1);
    client.consume(1, queue, true);
    client.drop_socket();
    watcher.await_gone(queue);
}

#[test]
fn a_durable_queue_outlives_its_connection() {
    let mut client = Client::with_channel();
    let queue = unique("durable");
    let durable = QueueDeclare {
        queue,
        durable: true,
        ..QueueDeclare::default()
    };
    client.declare(1, &durable);
    client.fill(queue, &["kept"]);
    client.close();
    let mut client = Client::with_channel();
    assert_eq!(client.declare(1, &durable), (queue, 1, 0));
    client.delete_queue(1, queue);
}

#[test]
fn a_transient_queue_of_nobody_in_particular_is_allowed() {
    let mut client = Client::with_channel();
    let queue = unique("transient");
    client.declare(
        1,
        &QueueDeclare {
            queue,
            ..QueueDeclare::default()
        },
    );
    client.close();
    let mut client = Client::with_channel();
    client.declare(1, &passive(queue));
    client.delete_queue(1, queue);
}

#[test]
fn purge_drops_what_is_ready_and_says_how_much() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    client.fill(queue, &["a", "b", "c"]);
    let unsettled = client.get(1, queue, false).expect("a message");
    let purge = QueuePurge {
        queue,
        ..QueuePurge::default()
    };
    matched!(client.call(1, &purge), Method::QueuePurgeOk(ok) => assert_eq!(ok.message_count, 2));
    matched!(client.call(1, &purge), Method::QueuePurgeOk(ok) => assert_eq!(ok.message_count, 0));
    client.nack(1, unsettled.tag, false, true);
    client.await_ready(queue, 1);
    assert_eq!(
        client.drain(1, queue),
        ["a"],
        "the unsettled one was left alone"
    );
}

#[test]
fn delete_says_how_many_messages_went() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    client.fill(queue, &["a", "b"]);
    assert_eq!(client.delete_queue(1, queue), 2);
    client.refused(1, &passive(queue), 404, missing(queue));
}

#[test]
fn delete_if_empty_and_if_unused_mean_it() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    client.fill(queue, &["a"]);
    let empty = QueueDelete {
        queue,
        if_empty: true,
        ..QueueDelete::default()
    };
    let text = leak(format!(
        "PRECONDITION_FAILED - queue '{queue}' in vhost '/' not empty"
    ));
    client.refused(1, &empty, 406, text);
    client.open_channel(2);
    let tag = client.consume(2, queue, true);
    assert_eq!(client.delivery(2).text(), "a");
    let unused = QueueDelete {
        queue,
        if_unused: true,
        ..QueueDelete::default()
    };
    let text = leak(format!(
        "PRECONDITION_FAILED - queue '{queue}' in vhost '/' in use"
    ));
    client.refused(1, &unused, 406, text);
    client.cancel(2, tag);
    let both = QueueDelete {
        queue,
        if_unused: true,
        if_empty: true,
        ..QueueDelete::default()
    };
    matched!(client.call(1, &both), Method::QueueDeleteOk(ok) => assert_eq!(ok.message_count, 0));
}

#[test]
fn an_owner_that_reconnects_keeps_its_new_exclusive_queue() {
    // RELIABILITY.md, bug museum 31: the old connection's clean-up must not
    // take the new queue of the same name.
    let queue = unique("storm");
    let mut watcher = Client::with_channel();
    for _ in 0..10 {
        let mut client = Client::with_channel();
        client.declare(1, &declare(queue));
        client.drop_socket();
        watcher.await_gone(queue);
        let mut client = Client::with_channel();
        client.declare(1, &declare(queue));
        client.fill(queue, &["mine"]);
        assert_eq!(client.drain(1, queue), ["mine"]);
        client.close();
    }
}
