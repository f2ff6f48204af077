//! Transactions: publishes and settlements that wait for a commit.

use leveret_protocol::method::*;
use leveret_protocol::{Method, Properties};

use crate::support::client::Client;
use crate::support::matched;

fn transactional() -> (Client, &'static str) {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    client.ok(1, &TxSelect {});
    (client, queue)
}

#[test]
fn a_publish_waits_for_its_commit() {
    let (mut client, queue) = transactional();
    client.publish(1, "", queue, "a");
    client.publish(1, "", queue, "b");
    client.sync(1);
    assert_eq!(client.look_up(queue), Some((0, 0)));
    matched!(client.call(1, &TxCommit {}), Method::TxCommitOk(_) => ());
    assert_eq!(client.look_up(queue), Some((2, 0)));
    assert_eq!(client.drain(1, queue), ["a", "b"]);
}

#[test]
fn a_rollback_drops_publishes() {
    let (mut client, queue) = transactional();
    client.publish(1, "", queue, "a");
    matched!(client.call(1, &TxRollback {}), Method::TxRollbackOk(_) => ());
    client.publish(1, "", queue, "b");
    client.ok(1, &TxCommit {});
    assert_eq!(client.drain(1, queue), ["b"]);
}

#[test]
fn a_channel_that_closes_without_commit_has_published_nothing() {
    let (mut client, queue) = transactional();
    client.publish(1, "", queue, "a");
    client.close_channel(1);
    assert_eq!(client.look_up(queue), Some((0, 0)));
}

#[test]
fn an_ack_waits_for_its_commit() {
    let (mut client, queue) = transactional();
    client.fill(queue, &["a", "b"]);
    let tags = [(); 2].map(|()| client.get(1, queue, false).expect("a message").tag);
    client.ack(1, tags[0], false);
    client.ok(1, &TxCommit {});
    client.ack(1, tags[1], false);
    client.close_channel(1);
    client.open_channel(1);
    assert_eq!(
        client.drain(1, queue),
        ["b"],
        "the second ack was not committed"
    );
}

#[test]
fn a_rollback_makes_an_ack_undone() {
    let (mut client, queue) = transactional();
    client.fill(queue, &["a"]);
    let tag = client.get(1, queue, false).expect("a message").tag;
    client.ack(1, tag, false);
    client.ok(1, &TxRollback {});
    assert_eq!(client.look_up(queue), Some((0, 0)), "it is still out");
    client.ack(1, tag, false);
    client.ok(1, &TxCommit {});
    client.close_channel(1);
    assert_eq!(client.look_up(queue), Some((0, 0)));
}

#[test]
fn a_nack_waits_for_its_commit() {
    let (mut client, queue) = transactional();
    client.fill(queue, &["a"]);
    let tag = client.get(1, queue, false).expect("a message").tag;
    client.nack(1, tag, false, true);
    client.sync(1);
    assert_eq!(client.look_up(queue), Some((0, 0)));
    client.ok(1, &TxCommit {});
    client.await_ready(queue, 1);
}

#[test]
fn an_unknown_tag_is_refused_before_the_commit() {
    let (mut client, _) = transactional();
    let ack = BasicAck {
        delivery_tag: 5,
        multiple: false,
    };
    client.refused(1, &ack, 406, "PRECONDITION_FAILED - unknown delivery tag 5");
}

#[test]
fn a_missing_exchange_is_refused_before_the_commit() {
    let (mut client, _) = transactional();
    client.publish(1, "nowhere", "", "x");
    client.expect_channel_close(1, 404, "NOT_FOUND - no exchange 'nowhere' in vhost '/'");
}

#[test]
fn an_unroutable_mandatory_message_comes_back_before_commit_ok() {
    let (mut client, _) = transactional();
    let publish = BasicPublish {
        exchange: "amq.direct",
        routing_key: "nobody",
        mandatory: true,
        ..BasicPublish::default()
    };
    client.publish_with(1, &publish, &Properties::default(), b"x");
    client.send(1, &TxCommit {});
    matched!(client.next_method(1), Method::BasicReturn(_) => ());
    matched!(client.next_method(1), Method::TxCommitOk(_) => ());
}

#[test]
fn select_may_be_repeated_and_an_empty_commit_is_fine() {
    let (mut client, _) = transactional();
    client.ok(1, &TxSelect {});
    client.ok(1, &TxCommit {});
    client.ok(1, &TxRollback {});
}

#[test]
fn commit_and_rollback_without_select_are_406() {
    let mut client = Client::with_channel();
    let text = "PRECONDITION_FAILED - channel is not transactional";
    client.refused(1, &TxCommit {}, 406, text);
    client.refused(1, &TxRollback {}, 406, text);
}

#[test]
fn a_commit_moves_a_message_from_queue_to_queue() {
    let (mut client, from) = transactional();
    let to = client.temp_queue(1);
    client.fill(from, &["cargo"]);
    let taken = client.get(1, from, false).expect("a message");
    client.publish(1, "", to, taken.text());
    client.ack(1, taken.tag, false);
    client.ok(1, &TxCommit {});
    client.close_channel(1);
    assert_eq!(
        (client.look_up(from), client.look_up(to)),
        (Some((0, 0)), Some((1, 0)))
    );
}
