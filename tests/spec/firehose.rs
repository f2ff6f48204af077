//! Copies of messages on `amq.rabbitmq.trace`. RabbitMQ makes them between
//! `rabbitmqctl trace_on` and `trace_off`, Leveret while something is bound.

use leveret_protocol::method::*;
use leveret_protocol::{FieldTable, FieldValue, Properties};

use crate::dead_letters::texts;
use crate::support::broker::unique;
use crate::support::client::Client;
use crate::support::leveret_only;
use crate::support::notices::{TRACES, Told, Watcher, client_at, telling_broker};

/// What differs from broker to broker and from run to run.
const VARYING: &[&str] = &["node", "connection"];

/// The headers that a copy has, sorted by name.
fn headers(more: &[(&str, FieldValue)]) -> Vec<(String, FieldValue)> {
    let always: [(&str, FieldValue); 2] = [("vhost", "/".into()), ("user", "guest".into())];
    let mut headers: Vec<_> = always
        .iter()
        .chain(more)
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect();
    headers.sort_by(|a, b| a.0.cmp(&b.0));
    headers
}

fn table<const N: usize>(entries: [(&str, FieldValue); N]) -> FieldTable {
    entries.into_iter().collect()
}

/// Publishes to an exchange that a queue is bound to, on channel 7.
fn publish(client: &mut Client, exchange: &str, properties: &Properties, body: &[u8]) {
    let publish = BasicPublish {
        exchange,
        routing_key: "a.b",
        ..BasicPublish::default()
    };
    client.publish_with(7, &publish, properties, body);
}

#[test]
fn what_is_published_and_delivered_is_copied_with_all_about_it() {
    let Some(address) = telling_broker() else {
        return;
    };
    let mut client = client_at(address);
    client.open_channel(7);
    let exchange = client.temp_exchange(1, "topic");
    let queue = client.bound_queue(1, exchange, "a.#");
    let keys = [format!("publish.{exchange}"), format!("deliver.{queue}")];
    let mut watcher = Watcher::new(address, TRACES, &[&keys[0], &keys[1]]);

    let copies = texts(&["cc"]);
    let properties = Properties {
        content_type: Some("text/plain".to_owned()),
        headers: Some(table([("h", FieldValue::I32(1)), ("CC", copies)])),
        delivery_mode: Some(2),
        priority: Some(3),
        correlation_id: Some("c".to_owned()),
        reply_to: Some("r".to_owned()),
        expiration: Some("60000".to_owned()),
        message_id: Some("m".to_owned()),
        timestamp: Some(1_700_000_000),
        kind: Some("t".to_owned()),
        user_id: Some("guest".to_owned()),
        app_id: Some("a".to_owned()),
        ..Properties::default()
    };
    publish(&mut client, exchange, &properties, b"body");
    let shown = table([
        ("app_id", "a".into()),
        ("user_id", "guest".into()),
        ("type", "t".into()),
        ("timestamp", FieldValue::I32(1_700_000_000)),
        ("message_id", "m".into()),
        ("expiration", "60000".into()),
        ("reply_to", "r".into()),
        ("correlation_id", "c".into()),
        ("priority", FieldValue::I32(3)),
        ("delivery_mode", FieldValue::I32(2)),
        ("headers", properties.headers.clone().expect("set").into()),
        ("content_type", "text/plain".into()),
    ]);
    let about = |more: (&str, FieldValue)| {
        headers(&[
            ("exchange_name", exchange.into()),
            ("routing_keys", texts(&["a.b", "cc"])),
            ("properties", shown.clone().into()),
            ("channel", FieldValue::I32(7)),
            (more.0, more.1),
        ])
    };
    let told = watcher.next();
    assert_eq!(told.routing_key, keys[0]);
    assert_eq!(told.body, "body");
    assert_eq!((told.timestamp, told.delivery_mode), (None, None));
    let expected = about(("routed_queues", texts(&[queue])));
    assert_eq!(told.headers_without(VARYING), expected);
    assert!(!told.text("node").is_empty());
    let ends: Vec<&str> = told.text("connection").split(" -> ").collect();
    assert!(ends[0].starts_with("127.0.0.1:"), "{ends:?}");
    assert_eq!(ends[1], address.to_string());

    for redelivered in [0, 1] {
        let delivery = client.get(7, queue, false).expect("it is there");
        client.nack(7, delivery.tag, false, true);
        let told = watcher.next();
        assert_eq!(told.routing_key, keys[1]);
        assert_eq!(told.body, "body");
        let expected = about(("redelivered", FieldValue::I32(redelivered)));
        assert_eq!(told.headers_without(VARYING), expected);
    }
    client.consume(7, queue, false);
    client.delivery(7);
    let expected = about(("redelivered", FieldValue::I32(1)));
    assert_eq!(watcher.next().headers_without(VARYING), expected);
}

#[test]
fn bodies_of_any_size_are_copied() {
    let Some(address) = telling_broker() else {
        return;
    };
    let mut client = client_at(address);
    client.open_channel(7);
    let exchange = client.temp_exchange(1, "topic");
    let queue = client.bound_queue(1, exchange, "#");
    let keys = [format!("publish.{exchange}"), format!("deliver.{queue}")];
    let mut watcher = Watcher::new(address, TRACES, &[&keys[0], &keys[1]]);
    client.consume(7, queue, true);
    for size in [0, 1, 40_000, 1_000_000] {
        let body = "x".repeat(size);
        publish(
            &mut client,
            exchange,
            &Properties::default(),
            body.as_bytes(),
        );
        assert_eq!(client.delivery(7).text(), body);
        let (mut told, mut next): (Told, Told) = (watcher.next(), watcher.next());
        if told.routing_key != keys[0] {
            // Two connections of RabbitMQ's are not in step.
            std::mem::swap(&mut told, &mut next);
        }
        for (told, key) in [(told, &keys[0]), (next, &keys[1])] {
            assert_eq!(told.routing_key, *key);
            assert_eq!(told.body.len(), size);
        }
    }
}

#[test]
fn what_reaches_no_queue_is_copied_as_well() {
    let Some(address) = telling_broker() else {
        return;
    };
    let mut client = client_at(address);
    let exchange = client.temp_exchange(1, "topic");
    client.bound_queue(1, exchange, "other");
    let key = format!("publish.{exchange}");
    let mut watcher = Watcher::new(address, TRACES, &[&key, "publish."]);
    client.publish(1, exchange, "k", "1");
    // Others publish through the default exchange as well.
    let told = watcher.find(&key, &[]);
    assert_eq!(told.headers.get("routed_queues"), Some(&texts(&[])));
    // The default exchange does not look whether there is such a queue.
    let nowhere = unique("nowhere");
    client.publish(1, "", nowhere, "2");
    let routed: [(&str, FieldValue); 1] = [("routed_queues", texts(&[nowhere]))];
    assert_eq!(watcher.find("publish.", &routed).body, "2");
}

#[test]
fn copies_are_not_copied_again() {
    leveret_only!("listens to everything");
    let Some(address) = telling_broker() else {
        return;
    };
    let mut client = client_at(address);
    let queue = client.temp_queue(1);
    client.consume(1, queue, true);
    let mut watcher = Watcher::new(address, TRACES, &["#"]);
    for text in ["1", "2"] {
        client.publish(1, "", queue, text);
        client.delivery(1);
        for key in ["publish.".to_owned(), format!("deliver.{queue}")] {
            let told = watcher.next();
            assert_eq!((told.routing_key, &*told.body), (&*key, text));
        }
    }
}

#[test]
fn nothing_is_copied_while_nothing_is_bound() {
    leveret_only!("needs no command");
    let Some(address) = telling_broker() else {
        return;
    };
    let mut client = client_at(address);
    let queue = client.temp_queue(1);
    let mut watcher = Watcher::new(address, TRACES, &["publish.#"]);
    client.publish(1, "", queue, "1");
    assert_eq!(watcher.next().body, "1");
    watcher.unbind("publish.#");
    client.fill(queue, &["2"]);
    watcher.client.bind(1, watcher.queue, TRACES, "publish.#");
    client.publish(1, "", queue, "3");
    assert_eq!(watcher.next().body, "3");
}

#[test]
fn clients_cannot_publish_to_it_or_delete_it() {
    let mut client = Client::with_channel();
    let delete = ExchangeDelete {
        exchange: TRACES,
        ..ExchangeDelete::default()
    };
    let text =
        format!("ACCESS_REFUSED - deletion of system exchange '{TRACES}' in vhost '/' not allowed");
    client.refused(1, &delete, 403, &text);
    client.publish(1, TRACES, "publish.x", "forged");
    let text =
        format!("ACCESS_REFUSED - cannot publish to internal exchange '{TRACES}' in vhost '/'");
    client.expect_channel_close(1, 403, &text);
}
