//! Channels: opened, closed, crossed and used again (WIRE.md section 2).

use leveret_protocol::Method;
use leveret_protocol::method::*;

use crate::support::broker::unique;
use crate::support::client::Client;
use crate::support::matched;
use crate::support::witness::Witness;

/// A method that closes its channel with 404.
fn missing_queue() -> QueueDeclare<'static> {
    QueueDeclare {
        queue: "nowhere",
        passive: true,
        ..QueueDeclare::default()
    }
}

#[test]
fn a_method_on_a_channel_that_is_not_open_is_504() {
    let mut witness = Witness::new();
    let client = Client::connect();
    client.fatal(
        1,
        &QueueDeclare::default(),
        504,
        "CHANNEL_ERROR - expected 'channel.open'",
    );
    witness.undisturbed();
}

#[test]
fn a_second_open_is_504() {
    let client = Client::with_channel();
    client.fatal(
        1,
        &ChannelOpen::default(),
        504,
        "CHANNEL_ERROR - second 'channel.open' seen",
    );
}

#[test]
fn a_method_on_a_closed_channel_is_504() {
    let mut client = Client::with_channel();
    client.close_channel(1);
    client.fatal(
        1,
        &QueueDeclare::default(),
        504,
        "CHANNEL_ERROR - expected 'channel.open'",
    );
}

#[test]
fn channels_are_independent_of_each_other() {
    let mut client = Client::with_channel();
    client.open_channel(2);
    client.refused(
        1,
        &missing_queue(),
        404,
        "NOT_FOUND - no queue 'nowhere' in vhost '/'",
    );
    client.sync(2);
}

#[test]
fn everything_is_dropped_between_close_and_close_ok() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    client.open_channel(2);
    client.send(2, &missing_queue());
    matched!(client.next_method(2), Method::ChannelClose(_) => ());
    // None of this may be carried out, nor refused: not even what no channel knows.
    client.publish(2, "", queue, "too late");
    client.ack(2, 42, false);
    client.send(2, &missing_queue());
    client.publish(2, "nowhere", "", "to no exchange");
    client.send(2, &ChannelCloseOk {});
    client.open_channel(2);
    client.sync(2);
    assert_eq!(
        client
            .get(1, queue, true)
            .map(|found| found.text().to_owned()),
        None
    );
}

#[test]
fn when_both_sides_close_at_once_both_get_close_ok() {
    let mut client = Client::with_channel();
    client.send(1, &missing_queue());
    client.send(
        1,
        &ChannelClose {
            reply_code: 200,
            reply_text: "bye",
            ..ChannelClose::default()
        },
    );
    matched!(client.next_method(1), Method::ChannelClose(_) => ());
    matched!(client.next_method(1), Method::ChannelCloseOk(_) => ());
    client.send(1, &ChannelCloseOk {});
    client.open_channel(1);
    client.sync(1);
}

#[test]
fn a_channel_number_can_be_used_again_right_after() {
    let mut client = Client::connect();
    for _ in 0..50 {
        client.open_channel(1);
        let queue = client.temp_queue(1);
        client.fill(queue, &["one"]);
        client.consume(1, queue, false);
        assert_eq!(client.delivery(1).tag, 1, "tags start again");
        client.close_channel(1);
    }
}

#[test]
fn a_new_channel_of_an_old_number_forgets_the_old_one() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    client.qos(1, 1, true);
    client.ok(1, &ConfirmSelect::default());
    client.close_channel(1);
    client.open_channel(1);
    client.ok(1, &TxSelect {});
    client.close_channel(1);
    client.open_channel(1);
    client.fill(queue, &["a", "b"]);
    client.consume(1, queue, false);
    assert_eq!(client.texts(1, 2), ["a", "b"]);
}

#[test]
fn an_ack_that_comes_after_close_does_no_harm() {
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    client.open_channel(2);
    client.fill(queue, &["one"]);
    client.consume(2, queue, false);
    let tag = client.delivery(2).tag;
    client.send(2, &missing_queue());
    client.ack(2, tag, false);
    client.expect_channel_close(2, 404, "NOT_FOUND - no queue 'nowhere' in vhost '/'");
    client.open_channel(2);
    client.await_ready(queue, 1);
}

#[test]
fn the_close_names_the_method_that_failed() {
    let mut client = Client::with_channel();
    client.send(
        1,
        &BasicCancel {
            consumer_tag: "none",
            nowait: true,
        },
    );
    client.send(1, &missing_queue());
    let ids = client.expect_channel_close(1, 404, "NOT_FOUND - no queue 'nowhere' in vhost '/'");
    assert_eq!(ids, (QueueDeclare::CLASS_ID, QueueDeclare::METHOD_ID));
}

#[test]
fn a_reply_text_never_exceeds_255_octets() {
    let mut client = Client::with_channel();
    for name in ["q".repeat(255), "é".repeat(127)] {
        client.send(
            1,
            &QueueDeclare {
                queue: &name,
                passive: true,
                ..QueueDeclare::default()
            },
        );
        let close = matched!(client.next_method(1), Method::ChannelClose(close) => close);
        assert_eq!(close.reply_code, 404);
        assert!(
            close.reply_text.starts_with("NOT_FOUND - no queue '"),
            "{}",
            close.reply_text
        );
        client.send(1, &ChannelCloseOk {});
        client.open_channel(1);
    }
}

#[test]
fn exclusive_queues_are_gone_before_close_ok() {
    for _ in 0..10 {
        let mut owner = Client::with_channel();
        let mut other = Client::with_channel();
        let queue = owner.temp_queue(1);
        owner.close();
        let again = QueueDeclare {
            queue,
            exclusive: true,
            ..QueueDeclare::default()
        };
        other.declare(1, &again);
    }
}

#[test]
fn exclusive_queues_go_with_a_lost_connection() {
    let mut owner = Client::with_channel();
    let mut other = Client::with_channel();
    let queue = owner.temp_queue(1);
    owner.drop_socket();
    // Locked for this connection as long as it is there, then not found.
    other.await_gone(queue);
}

#[test]
fn everything_is_dropped_after_connection_close() {
    let mut watcher = Client::with_channel();
    let queue = watcher.temp_queue(1);
    let mut client = Client::with_channel();
    client.send(
        0,
        &ConnectionClose {
            reply_code: 200,
            reply_text: "bye",
            ..ConnectionClose::default()
        },
    );
    client.publish(1, "", queue, "too late");
    matched!(client.next_method(0), Method::ConnectionCloseOk(_) => ());
    client.drop_socket();
    assert!(watcher.get(1, queue, true).is_none());
}

#[test]
fn when_both_sides_close_the_connection_both_get_close_ok() {
    let mut client = Client::with_channel();
    client.send(2, &QueueDeclare::default());
    matched!(client.next_method(0), Method::ConnectionClose(_) => ());
    client.send(
        0,
        &ConnectionClose {
            reply_code: 200,
            reply_text: "bye",
            ..ConnectionClose::default()
        },
    );
    matched!(client.next_method(0), Method::ConnectionCloseOk(_) => ());
    client.send(0, &ConnectionCloseOk {});
}

#[test]
fn flow_may_be_turned_on_and_never_off() {
    let mut client = Client::with_channel();
    matched!(client.call(1, &ChannelFlow { active: true }), Method::ChannelFlowOk(ok) => assert!(ok.active));
    client.fatal(
        1,
        &ChannelFlow { active: false },
        540,
        "NOT_IMPLEMENTED - active=false",
    );
}

#[test]
fn access_request_gets_the_ticket_that_means_nothing() {
    let mut client = Client::with_channel();
    let request = AccessRequest {
        realm: "/data",
        active: true,
        ..AccessRequest::default()
    };
    matched!(client.call(1, &request), Method::AccessRequestOk(ok) => assert_eq!(ok.ticket, 1));
}

#[test]
fn nowait_has_no_answer() {
    let mut client = Client::with_channel();
    let (queue, exchange) = (unique("nowait"), unique("nowait"));
    client.send(
        1,
        &QueueDeclare {
            queue,
            exclusive: true,
            nowait: true,
            ..QueueDeclare::default()
        },
    );
    client.send(
        1,
        &ExchangeDeclare {
            exchange,
            kind: "fanout",
            auto_delete: true,
            nowait: true,
            ..ExchangeDeclare::default()
        },
    );
    client.send(
        1,
        &QueueBind {
            queue,
            exchange,
            nowait: true,
            ..QueueBind::default()
        },
    );
    client.send(1, &ConfirmSelect { nowait: true });
    client.send(
        1,
        &BasicConsume {
            queue,
            consumer_tag: "t",
            no_ack: true,
            nowait: true,
            ..BasicConsume::default()
        },
    );
    client.send(
        1,
        &BasicCancel {
            consumer_tag: "t",
            nowait: true,
        },
    );
    client.send(
        1,
        &QueuePurge {
            queue,
            nowait: true,
            ..QueuePurge::default()
        },
    );
    client.send(
        1,
        &QueueDelete {
            queue,
            nowait: true,
            ..QueueDelete::default()
        },
    );
    client.sync(1);
    client.expect_nothing(1);
    assert_eq!(client.look_up(queue), None);
}

#[test]
fn a_refusal_comes_even_with_nowait() {
    let mut client = Client::with_channel();
    let passive = QueueDeclare {
        nowait: true,
        ..missing_queue()
    };
    client.refused(
        1,
        &passive,
        404,
        "NOT_FOUND - no queue 'nowhere' in vhost '/'",
    );
}
