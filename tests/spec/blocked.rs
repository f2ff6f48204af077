//! Publishers while an alarm holds (WIRE.md section 8). The alarms are raised by
//! hand, in a broker of each test's own.

use std::time::{Duration, Instant};

use leveret::broker::Alarm;
use leveret_protocol::Method;
use leveret_protocol::method::*;

use crate::support::broker::{Embedded, embedded};
use crate::support::client::Client;
use crate::support::handshake::Login;
use crate::support::{leveret_only, matched};

fn with_channel(broker: &Embedded) -> Client {
    with_channel_as(broker, &Login::default())
}

fn with_channel_as(broker: &Embedded, login: &Login) -> Client {
    let mut client = Client::connect_at(broker.address, login);
    client.open_channel(1);
    client
}

/// A connection that has never published, with a queue of its own that it
/// consumes.
fn consumer(broker: &Embedded) -> (Client, &'static str) {
    let mut consumer = with_channel(broker);
    let queue = consumer.shared_queue(1);
    consumer.consume(1, queue, true);
    (consumer, queue)
}

#[track_caller]
fn expect_blocked(client: &mut Client, reason: &str) {
    matched!(client.next_method(0), Method::ConnectionBlocked(blocked) => assert_eq!(blocked.reason, reason));
}

#[track_caller]
fn expect_unblocked(client: &mut Client) {
    matched!(client.next_method(0), Method::ConnectionUnblocked(_) => ());
}

/// Nothing was delivered, and the connection is served.
#[track_caller]
fn expect_no_delivery(consumer: &mut Client) {
    consumer.sync(1);
    consumer.expect_nothing(1);
}

#[test]
fn a_publisher_is_told_once_and_what_it_sends_waits_in_its_socket() {
    leveret_only!("raises alarms by hand");
    let broker = embedded("");
    let alarms = broker.node.alarms();
    let (mut consumer, queue) = consumer(&broker);
    let mut publisher = with_channel(&broker);
    publisher.publish(1, "", queue, "before");
    assert_eq!(consumer.delivery(1).text(), "before");

    alarms.raise(Alarm::Disk);
    expect_blocked(&mut publisher, "low on disk");
    for text in ["1", "2", "3"] {
        publisher.publish(1, "", queue, text);
    }
    expect_no_delivery(&mut consumer);

    // Another alarm joins and stays longer.
    alarms.raise(Alarm::Memory);
    alarms.clear(Alarm::Disk);
    expect_no_delivery(&mut consumer);

    alarms.clear(Alarm::Memory);
    assert_eq!(consumer.texts(1, 3), ["1", "2", "3"]);
    expect_unblocked(&mut publisher);
    publisher.sync(1);
    publisher.expect_nothing(0);
}

#[test]
fn the_reason_names_all_that_is_low() {
    leveret_only!("raises alarms by hand");
    for (raised, reason) in [
        (&[Alarm::Memory][..], "low on memory"),
        (&[Alarm::Disk], "low on disk"),
        (&[Alarm::Disk, Alarm::Memory], "low on memory & low on disk"),
    ] {
        let broker = embedded("");
        for alarm in raised {
            broker.node.alarms().raise(*alarm);
        }
        let mut publisher = with_channel(&broker);
        publisher.publish(1, "", "nowhere", "x");
        expect_blocked(&mut publisher, reason);
    }
}

#[test]
fn the_first_message_during_an_alarm_is_taken_and_no_more() {
    leveret_only!("raises alarms by hand");
    let broker = embedded("");
    let (mut consumer, queue) = consumer(&broker);
    broker.node.alarms().raise(Alarm::Memory);
    let mut publisher = with_channel(&broker);
    publisher.ok(1, &ConfirmSelect::default());
    publisher.expect_nothing(0);

    publisher.publish(1, "", queue, "first");
    publisher.expect_ack(1);
    assert_eq!(consumer.delivery(1).text(), "first");
    expect_blocked(&mut publisher, "low on memory");
    publisher.publish(1, "", queue, "second");
    expect_no_delivery(&mut consumer);

    broker.node.alarms().clear(Alarm::Memory);
    expect_unblocked(&mut publisher);
    publisher.expect_ack(1);
    assert_eq!(consumer.delivery(1).text(), "second");
}

#[test]
fn who_only_consumes_goes_on() {
    leveret_only!("raises alarms by hand");
    let broker = embedded("");
    let mut consumer = with_channel(&broker);
    let queue = consumer.shared_queue(1);
    with_channel(&broker).fill(queue, &["1", "2", "3"]);
    broker.node.alarms().raise(Alarm::Disk);
    consumer.qos(1, 1, false);
    consumer.consume(1, queue, false);
    for text in ["1", "2", "3"] {
        let delivery = consumer.delivery(1);
        assert_eq!(delivery.text(), text);
        consumer.ack(1, delivery.tag, false);
    }
    expect_no_delivery(&mut consumer);
    consumer.expect_nothing(0);
}

#[test]
fn a_blocked_publisher_still_gets_its_deliveries() {
    leveret_only!("raises alarms by hand");
    let broker = embedded("");
    let (mut both, queue) = consumer(&broker);
    both.publish(1, "", queue, "its own");
    assert_eq!(both.delivery(1).text(), "its own");
    broker.node.alarms().raise(Alarm::Memory);
    expect_blocked(&mut both, "low on memory");
    // Each is the first message of its connection.
    for text in ["1", "2"] {
        with_channel(&broker).publish(1, "", queue, text);
        assert_eq!(both.delivery(1).text(), text);
    }
}

#[test]
fn a_blocked_peer_gets_heartbeats_and_is_not_missed_until_it_is_unblocked() {
    leveret_only!("raises alarms by hand");
    let broker = embedded("");
    let login = Login {
        heartbeat: 1,
        ..Login::default()
    };
    let mut publisher = with_channel_as(&broker, &login);
    broker.node.alarms().raise(Alarm::Disk);
    publisher.publish(1, "", "nowhere", "x");
    expect_blocked(&mut publisher, "low on disk");
    let blocked = Instant::now();
    // A silent peer would be given up after two and a half seconds.
    while blocked.elapsed() < Duration::from_millis(3_500) {
        publisher.expect_heartbeat(Duration::from_millis(2_500));
    }
    broker.node.alarms().clear(Alarm::Disk);
    expect_unblocked(&mut publisher);
    publisher.sync(1);
    let silent = Instant::now();
    publisher.expect_end();
    let elapsed = silent.elapsed();
    assert!(elapsed > Duration::from_millis(1_500), "{elapsed:?}");
}

#[test]
fn a_client_without_the_capability_is_blocked_without_a_word() {
    leveret_only!("raises alarms by hand");
    let broker = embedded("");
    let (mut consumer, queue) = consumer(&broker);
    let login = Login {
        capabilities: &["publisher_confirms"],
        ..Login::default()
    };
    broker.node.alarms().raise(Alarm::Disk);
    let mut publisher = with_channel_as(&broker, &login);
    publisher.publish(1, "", queue, "first");
    assert_eq!(consumer.delivery(1).text(), "first");
    publisher.publish(1, "", queue, "second");
    expect_no_delivery(&mut consumer);
    broker.node.alarms().clear(Alarm::Disk);
    assert_eq!(consumer.delivery(1).text(), "second");
    publisher.sync(1);
    publisher.expect_nothing(0);
}

#[test]
fn a_blocked_connection_is_closed_at_a_shutdown() {
    leveret_only!("raises alarms by hand");
    let broker = embedded("");
    broker.node.alarms().raise(Alarm::Disk);
    let mut publisher = with_channel(&broker);
    publisher.publish(1, "", "nowhere", "x");
    expect_blocked(&mut publisher, "low on disk");
    publisher.publish(1, "", "nowhere", "unread");
    let began = Instant::now();
    broker.shut_down();
    publisher.expect_connection_close(320, "CONNECTION_FORCED - *");
    let elapsed = began.elapsed();
    assert!(elapsed < Duration::from_secs(4), "{elapsed:?}");
}
