//! Messages that are to be delivered later (`x-delay`, `x-deliver-at`), on any
//! queue and through any exchange.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use leveret_protocol::{FieldValue, Properties};

use crate::dead_letters::pair;
use crate::support::client::Client;
use crate::support::features::with_headers;
use crate::support::leveret_only;

fn delayed(milliseconds: i64) -> Properties {
    with_headers(&[("x-delay", milliseconds.into())])
}

fn named(mut properties: Properties, id: &str) -> Properties {
    properties.message_id = Some(id.to_owned());
    properties
}

/// Milliseconds since 1970, so many from now.
fn at(milliseconds: u64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    (now.expect("it is after 1970").as_millis() as u64 + milliseconds) as i64
}

#[test]
fn a_delayed_message_comes_in_its_time() {
    leveret_only!("RabbitMQ delays with a plugin's exchange only");
    let mut client = Client::with_channel();
    let exchange = client.temp_exchange(1, "fanout");
    let queue = client.bound_queue(1, exchange, "");
    client.consume(1, queue, true);
    let start = Instant::now();
    client.publish_properties(1, exchange, "", &delayed(300), "later");
    client.publish(1, exchange, "", "now");
    assert_eq!(client.delivery(1).text(), "now");
    assert_eq!(client.delivery(1).text(), "later");
    assert!(start.elapsed() >= Duration::from_millis(300));
}

#[test]
fn a_message_may_name_the_moment() {
    leveret_only!("RabbitMQ delays with a plugin's exchange only");
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    client.consume(1, queue, true);
    let due = at(300);
    let moment = with_headers(&[("x-deliver-at", due.into())]);
    client.publish_properties(1, "", queue, &moment, "x");
    assert_eq!(client.delivery(1).text(), "x");
    assert!(at(0) >= due);
}

#[test]
fn scheduled_messages_come_in_the_order_of_their_times() {
    leveret_only!("RabbitMQ delays with a plugin's exchange only");
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    for (delay, body) in [(400, "third"), (200, "first"), (300, "second")] {
        client.publish_properties(1, "", queue, &delayed(delay), body);
    }
    client.await_ready(queue, 3);
    assert_eq!(client.drain(1, queue), ["first", "second", "third"]);
}

#[test]
fn a_message_that_had_to_wait_stands_behind_those_that_came_meanwhile() {
    leveret_only!("RabbitMQ delays with a plugin's exchange only");
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    client.publish_properties(1, "", queue, &delayed(200), "delayed");
    client.fill(queue, &["before"]);
    client.await_ready(queue, 2);
    client.publish(1, "", queue, "after");
    client.await_ready(queue, 3);
    assert_eq!(client.drain(1, queue), ["before", "delayed", "after"]);
}

#[test]
fn what_waits_is_not_ready() {
    leveret_only!("RabbitMQ delays with a plugin's exchange only");
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    client.publish_properties(1, "", queue, &delayed(60_000), "x");
    client.sync(1);
    assert_eq!(client.look_up(queue), Some((0, 0)));
    assert!(client.get(1, queue, true).is_none());
}

#[test]
fn no_delay_and_one_that_is_over_deliver_at_once() {
    leveret_only!("RabbitMQ delays with a plugin's exchange only");
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    client.consume(1, queue, true);
    for value in [
        0.into(),
        (-5).into(),
        FieldValue::from("soon"),
        FieldValue::Void,
    ] {
        let shows = format!("{value:?}");
        client.publish_properties(1, "", queue, &with_headers(&[("x-delay", value)]), &shows);
        assert_eq!(client.delivery(1).text(), shows);
    }
    let past = with_headers(&[("x-deliver-at", 1_000.into())]);
    client.publish_properties(1, "", queue, &past, "x");
    assert_eq!(client.delivery(1).text(), "x");
}

#[test]
fn the_time_to_live_begins_when_a_message_is_due() {
    leveret_only!("RabbitMQ delays with a plugin's exchange only");
    let (mut client, queue, dead) = pair(&[]);
    let mut properties = delayed(300);
    properties.expiration = Some("300".to_owned());
    let start = Instant::now();
    client.publish_properties(1, "", queue, &properties, "x");
    client.await_message(1, dead);
    assert!(start.elapsed() >= Duration::from_millis(600));
}

#[test]
fn a_dead_letter_does_not_wait_again() {
    leveret_only!("RabbitMQ delays with a plugin's exchange only");
    let (mut client, queue, dead) = pair(&[]);
    client.consume(1, queue, false);
    client.publish_properties(1, "", queue, &delayed(400), "x");
    let delivery = client.delivery(1);
    let start = Instant::now();
    client.nack(1, delivery.tag, false, false);
    client.await_message(1, dead);
    assert!(start.elapsed() < Duration::from_millis(400));
}

#[test]
fn a_scheduled_message_can_be_taken_back_by_its_id() {
    leveret_only!("RabbitMQ delays with a plugin's exchange only");
    let mut client = Client::confirming();
    let exchange = client.temp_exchange(1, "fanout");
    let queues = [(); 2].map(|()| client.bound_queue(1, exchange, ""));
    for (id, body) in [("a", "1"), ("b", "2"), ("a", "3")] {
        let properties = named(delayed(300), id);
        client.publish_properties(1, exchange, "", &properties, body);
    }
    let cancel = with_headers(&[("x-cancel-scheduled", "a".into())]);
    client.publish_properties(1, exchange, "", &cancel, "");
    client.expect_acks(1, 4);
    for queue in queues {
        client.await_ready(queue, 1);
        assert_eq!(client.drain(1, queue), ["2"]);
    }
}

#[test]
fn taking_back_what_is_not_there_is_fine_and_what_is_no_id_is_406() {
    leveret_only!("RabbitMQ delays with a plugin's exchange only");
    let mut client = Client::confirming();
    let queue = client.temp_queue(1);
    let cancel = with_headers(&[("x-cancel-scheduled", "a".into())]);
    client.publish_properties(1, "", queue, &cancel, "");
    client.expect_acks(1, 1);
    assert_eq!(client.look_up(queue), Some((0, 0)));
    let cancel = with_headers(&[("x-cancel-scheduled", 5.into())]);
    client.publish_properties(1, "", queue, &cancel, "");
    let text = "PRECONDITION_FAILED - unexpected format for 'x-cancel-scheduled' header: *";
    client.expect_channel_close(1, 406, text);
}

#[test]
fn a_purge_leaves_alone_what_waits_for_its_time() {
    leveret_only!("RabbitMQ delays with a plugin's exchange only");
    let mut client = Client::with_channel();
    let queue = client.temp_queue(1);
    client.publish_properties(1, "", queue, &delayed(300), "later");
    client.fill(queue, &["now"]);
    let purge = leveret_protocol::method::QueuePurge {
        queue,
        ..Default::default()
    };
    client.ok(1, &purge);
    client.await_ready(queue, 1);
    assert_eq!(client.drain(1, queue), ["later"]);
}
