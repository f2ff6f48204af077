//! Ordered groups (`x-group-header`): of a group, one message is out at a time,
//! whatever the number of consumers.

use std::collections::BTreeMap;

use crate::support::client::Client;
use crate::support::features::with_headers;
use crate::support::leveret_only;

fn put(client: &mut Client, queue: &str, group: &str, body: &str) {
    let properties = with_headers(&[("account", group.into())]);
    client.publish_properties(1, "", queue, &properties, body);
}

fn grouped(client: &mut Client) -> &'static str {
    client.queue_with(1, &[("x-group-header", "account".into())])
}

#[test]
fn of_a_group_one_message_is_out_at_a_time() {
    leveret_only!("RabbitMQ has no groups");
    let mut client = Client::with_channel();
    let queue = grouped(&mut client);
    for (group, body) in [("a", "a1"), ("a", "a2"), ("b", "b1"), ("a", "a3")] {
        put(&mut client, queue, group, body);
    }
    client.await_ready(queue, 4);
    client.consume(1, queue, false);
    let (a1, b1) = (client.delivery(1), client.delivery(1));
    assert_eq!((a1.text(), b1.text()), ("a1", "b1"));
    client.sync(1);
    client.expect_nothing(1);
    client.ack(1, a1.tag, false);
    let a2 = client.delivery(1);
    assert_eq!(a2.text(), "a2");
    client.ack(1, a2.tag, false);
    assert_eq!(client.delivery(1).text(), "a3");
}

#[test]
fn a_refused_message_comes_before_the_rest_of_its_group() {
    leveret_only!("RabbitMQ has no groups");
    let mut client = Client::with_channel();
    let queue = grouped(&mut client);
    for body in ["1", "2"] {
        put(&mut client, queue, "a", body);
    }
    client.consume(1, queue, false);
    let first = client.delivery(1);
    client.nack(1, first.tag, false, true);
    let again = client.delivery(1);
    assert_eq!((again.text(), again.redelivered), ("1", true));
    client.ack(1, again.tag, false);
    assert_eq!(client.delivery(1).text(), "2");
}

#[test]
fn a_group_waits_while_its_message_is_to_be_tried_again() {
    leveret_only!("RabbitMQ has no groups");
    let mut client = Client::with_channel();
    let queue = client.queue_with(
        1,
        &[
            ("x-group-header", "account".into()),
            ("x-retry-delay", 200.into()),
        ],
    );
    for (group, body) in [("a", "a1"), ("a", "a2"), ("b", "b1"), ("b", "b2")] {
        put(&mut client, queue, group, body);
    }
    client.await_ready(queue, 4);
    client.consume(1, queue, false);
    let (a1, b1) = (client.delivery(1), client.delivery(1));
    assert_eq!((a1.text(), b1.text()), ("a1", "b1"));
    client.nack(1, a1.tag, false, true);
    client.ack(1, b1.tag, false);
    assert_eq!(client.delivery(1).text(), "b2");
    let again = client.delivery(1);
    assert_eq!((again.text(), again.redelivered), ("a1", true));
    client.ack(1, again.tag, false);
    assert_eq!(client.delivery(1).text(), "a2");
}

#[test]
fn messages_without_a_group_are_not_held_up() {
    leveret_only!("RabbitMQ has no groups");
    let mut client = Client::with_channel();
    let queue = grouped(&mut client);
    client.fill(queue, &["1", "2", "3"]);
    client.consume(1, queue, false);
    assert_eq!(client.texts(1, 3), ["1", "2", "3"]);
}

#[test]
fn many_consumers_keep_the_order_of_every_group() {
    leveret_only!("RabbitMQ has no groups");
    let mut client = Client::with_channel();
    let queue = grouped(&mut client);
    let (groups, each) = (7, 30);
    for number in 0..groups * each {
        let group = (number % groups).to_string();
        put(&mut client, queue, &group, &number.to_string());
    }
    client.qos(1, 3, false);
    for _ in 0..4 {
        client.consume(1, queue, false);
    }
    let mut last: BTreeMap<usize, usize> = BTreeMap::new();
    let mut seen = 0;
    while seen < groups * each {
        let delivery = client.delivery(1);
        let number: usize = delivery.text().parse().expect("a number");
        let before = last.insert(number % groups, number);
        assert!(before.is_none_or(|before| before + groups == number));
        seen += 1;
        client.ack(1, delivery.tag, false);
    }
}
