//! What a dead message tells of its deaths (WIRE.md section 7).

use std::time::{SystemTime, UNIX_EPOCH};

use leveret_protocol::method::*;
use leveret_protocol::{FieldTable, FieldValue, Properties};

use crate::dead_letters::{pair, reject, reject_next, texts};
use crate::support::actions::Delivery;
use crate::support::broker::unique;
use crate::support::client::Client;
use crate::support::features::{dead_letters_to, expiring, table, with_headers};
use crate::support::{leveret_only, matched};

/// Seconds since 1970, as the `time` of a death counts.
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("the clock is past 1970")
        .as_secs()
}

/// The deaths that a message's `x-death` header tells of, newest first. Each
/// has a time of its own, which must not lie more than a minute back.
#[track_caller]
pub fn deaths(delivery: &Delivery) -> Vec<FieldTable> {
    let header = delivery.header("x-death").cloned();
    let deaths = matched!(header, Some(FieldValue::Array(deaths)) => deaths);
    deaths
        .into_iter()
        .map(|death| {
            let mut death = matched!(death, FieldValue::Table(death) => death);
            let time = matched!(death.remove("time"), Some(FieldValue::Timestamp(time)) => time);
            assert!((now() - 60..=now()).contains(&time), "{time}");
            sorted(&death)
        })
        .collect()
}

/// The same table by name: the order of its entries means nothing.
pub fn sorted(table: &FieldTable) -> FieldTable {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.as_str());
    entries
        .into_iter()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// One death as a table, without its time.
pub fn death(count: i64, reason: &str, queue: &str, exchange: &str, keys: &[&str]) -> FieldTable {
    sorted(&table(&[
        ("count", count.into()),
        ("reason", reason.into()),
        ("queue", queue.into()),
        ("exchange", exchange.into()),
        ("routing-keys", texts(keys)),
    ]))
}

/// Asserts what a message says about its first death.
#[track_caller]
fn first_death(delivery: &Delivery, reason: &str, queue: &str, exchange: &str) {
    for (name, value) in [
        ("x-first-death-reason", reason),
        ("x-first-death-queue", queue),
        ("x-first-death-exchange", exchange),
    ] {
        assert_eq!(delivery.header(name), Some(&value.into()), "{name}");
    }
}

#[test]
fn a_rejected_message_says_where_it_died() {
    let (mut client, queue, dead) = pair(&[]);
    client.fill(queue, &["rejected", "nacked"]);
    reject_next(&mut client, queue);
    let second = client.get(1, queue, false).expect("a message");
    client.nack(1, second.tag, false, false);
    for text in ["rejected", "nacked"] {
        let delivery = client.await_message(1, dead);
        assert_eq!(delivery.text(), text);
        assert_eq!(
            (
                delivery.exchange,
                delivery.routing_key,
                delivery.redelivered
            ),
            ("", dead, false)
        );
        assert_eq!(
            deaths(&delivery),
            [death(1, "rejected", queue, "", &[queue])]
        );
        first_death(&delivery, "rejected", queue, "");
        let mut headers = delivery.content.properties.headers.expect("headers");
        for name in ["reason", "queue", "exchange"] {
            headers.remove(&format!("x-last-death-{name}"));
        }
        assert_eq!(headers.len(), 4, "{headers:?}");
    }
    assert_eq!(client.look_up(queue), Some((0, 0)));
}

#[test]
fn an_expired_message_says_so() {
    let (mut client, queue, dead) = pair(&[("x-message-ttl", FieldValue::I32(50))]);
    client.fill(queue, &["x"]);
    let delivery = client.await_message(1, dead);
    assert_eq!(delivery.text(), "x");
    assert_eq!(
        deaths(&delivery),
        [death(1, "expired", queue, "", &[queue])]
    );
    first_death(&delivery, "expired", queue, "");
}

#[test]
fn a_dead_message_loses_its_expiration_and_tells_what_it_was() {
    let (mut client, queue, dead) = pair(&[]);
    client.put(queue, &expiring("60000"), "rejected");
    reject_next(&mut client, queue);
    client.put(queue, &expiring("10"), "expired");
    for (reason, original) in [("rejected", "60000"), ("expired", "10")] {
        let delivery = client.await_message(1, dead);
        assert_eq!(delivery.text(), reason);
        assert_eq!(delivery.content.properties.expiration, None);
        let mut due = death(1, reason, queue, "", &[queue]);
        due.insert("original-expiration", original);
        assert_eq!(deaths(&delivery), [sorted(&due)]);
    }
}

#[test]
fn a_message_crowded_out_says_so() {
    let (mut client, queue, dead) = pair(&[("x-max-length", FieldValue::I32(2))]);
    client.fill(queue, &["a", "b", "c", "d"]);
    for text in ["a", "b"] {
        let delivery = client.await_message(1, dead);
        assert_eq!(delivery.text(), text);
        assert_eq!(deaths(&delivery), [death(1, "maxlen", queue, "", &[queue])]);
        first_death(&delivery, "maxlen", queue, "");
    }
    assert_eq!(client.drain(1, queue), ["c", "d"]);
    assert_eq!(client.look_up(dead), Some((0, 0)));
}

#[test]
fn a_dead_message_says_through_which_exchange_and_keys_it_came() {
    let (mut client, queue, dead) = pair(&[]);
    let exchange = client.temp_exchange(1, "topic");
    client.bind(1, queue, exchange, "a.*");
    let headers = with_headers(&[
        ("CC", texts(&["copy", "other"])),
        ("BCC", texts(&["blind"])),
    ]);
    client.publish_properties(1, exchange, "a.b", &headers, "x");
    client.await_ready(queue, 1);
    reject_next(&mut client, queue);
    let delivery = client.await_message(1, dead);
    let keys = ["a.b", "copy", "other"];
    assert_eq!(
        deaths(&delivery),
        [death(1, "rejected", queue, exchange, &keys)]
    );
    first_death(&delivery, "rejected", queue, exchange);
}

#[test]
fn deaths_are_counted_by_queue_and_reason_the_newest_first() {
    let mut client = Client::with_channel();
    let (work, wait) = (unique("work"), unique("wait"));
    for (queue, arguments) in [
        (work, dead_letters_to(wait).to_vec()),
        (
            wait,
            [
                &dead_letters_to(work)[..],
                &[("x-message-ttl", FieldValue::I32(20))],
            ]
            .concat(),
        ),
    ] {
        let declare = QueueDeclare {
            queue,
            exclusive: true,
            arguments: table(&arguments),
            ..QueueDeclare::default()
        };
        client.declare(1, &declare);
    }
    client.fill(work, &["again and again"]);
    client.consume(1, work, false);
    for round in 0..4 {
        let delivery = client.delivery(1);
        assert_eq!(delivery.text(), "again and again");
        assert!(!delivery.redelivered);
        if round == 0 {
            assert_eq!(delivery.header("x-death"), None);
        } else {
            let due = [
                death(round, "expired", wait, "", &[wait]),
                death(round, "rejected", work, "", &[work]),
            ];
            assert_eq!(deaths(&delivery), due);
            first_death(&delivery, "rejected", work, "");
        }
        reject(&mut client, delivery.tag);
    }
}

#[test]
fn two_reasons_in_one_queue_are_two_deaths() {
    let (mut client, queue, dead) = pair(&[("x-message-ttl", FieldValue::I32(500))]);
    client.fill(queue, &["x"]);
    reject_next(&mut client, queue);
    let first = client.await_message(1, dead);
    client.put(queue, &first.content.properties, "x");
    let second = client.await_message(1, dead);
    let due = [
        death(1, "expired", queue, "", &[queue]),
        death(1, "rejected", queue, "", &[queue]),
    ];
    assert_eq!(deaths(&second), due);
    first_death(&second, "rejected", queue, "");
}

#[test]
fn the_death_of_a_republished_message_goes_on_counting() {
    let (mut client, queue, dead) = pair(&[]);
    let mut properties = expiring("60000");
    for count in 1..=3 {
        client.put(queue, &properties, "x");
        reject_next(&mut client, queue);
        let delivery = client.await_message(1, dead);
        let mut due = death(count, "rejected", queue, "", &[queue]);
        due.insert("original-expiration", "60000");
        assert_eq!(deaths(&delivery), [sorted(&due)]);
        properties = delivery.content.properties;
    }
}

#[test]
fn a_known_death_that_happens_again_moves_to_the_front() {
    let mut client = Client::with_channel();
    let dead = client.temp_queue(1);
    let [one, other] = [(); 2].map(|()| client.queue_with(1, &dead_letters_to(dead)));
    let mut properties = Properties::default();
    for queue in [one, other, one] {
        client.put(queue, &properties, "x");
        reject_next(&mut client, queue);
        properties = client.await_message(1, dead).content.properties;
    }
    client.put(dead, &properties, "x");
    let delivery = client.await_message(1, dead);
    let due = [
        death(2, "rejected", one, "", &[one]),
        death(1, "rejected", other, "", &[other]),
    ];
    assert_eq!(deaths(&delivery), due);
    first_death(&delivery, "rejected", one, "");
}

#[test]
fn properties_headers_and_body_survive() {
    let (mut client, queue, dead) = pair(&[]);
    let properties = Properties {
        content_type: Some("text/plain".to_owned()),
        content_encoding: Some("identity".to_owned()),
        headers: Some(table(&[
            ("colour", "blue".into()),
            ("depth", FieldValue::U16(7)),
            ("nested", FieldValue::Table(table(&[("a", true.into())]))),
        ])),
        delivery_mode: Some(2),
        priority: Some(4),
        correlation_id: Some("c".to_owned()),
        reply_to: Some("r".to_owned()),
        expiration: None,
        message_id: Some("m".to_owned()),
        timestamp: Some(1_700_000_000),
        kind: Some("t".to_owned()),
        user_id: Some("guest".to_owned()),
        app_id: Some("a".to_owned()),
        cluster_id: Some("k".to_owned()),
    };
    client.put(queue, &properties, "the body");
    reject_next(&mut client, queue);
    let mut delivery = client.await_message(1, dead);
    assert_eq!(delivery.text(), "the body");
    let headers = delivery
        .content
        .properties
        .headers
        .as_mut()
        .expect("headers");
    for name in ["reason", "queue", "exchange"] {
        headers.remove(&format!("x-first-death-{name}"));
        headers.remove(&format!("x-last-death-{name}"));
    }
    headers.remove("x-death");
    assert_eq!(delivery.content.properties, properties);
}

#[test]
fn a_message_that_died_in_two_queues_dies_twice() {
    let mut client = Client::with_channel();
    let dead = client.temp_queue(1);
    let exchange = client.temp_exchange(1, "fanout");
    let mut queues = [(); 2].map(|()| client.queue_with(1, &dead_letters_to(dead)));
    for queue in queues {
        client.bind(1, queue, exchange, "");
    }
    client.publish_confirmed(&[(exchange, "k", "x")]);
    let mut died = Vec::new();
    for queue in queues {
        reject_next(&mut client, queue);
        let delivery = client.await_message(1, dead);
        let [only] = &deaths(&delivery)[..] else {
            panic!("one death each");
        };
        assert_eq!(*only, death(1, "rejected", queue, exchange, &["k"]));
        died.push(queue);
    }
    died.sort_unstable();
    queues.sort_unstable();
    assert_eq!(died, queues);
}

#[test]
fn odd_death_headers_of_a_publisher_are_put_right() {
    let (mut client, queue, dead) = pair(&[]);
    for odd in [
        "text".into(),
        FieldValue::I32(1),
        FieldValue::Table(FieldTable::new()),
    ] {
        client.put(queue, &with_headers(&[("x-death", odd)]), "x");
        reject_next(&mut client, queue);
        let delivery = client.await_message(1, dead);
        assert_eq!(
            deaths(&delivery),
            [death(1, "rejected", queue, "", &[queue])]
        );
    }
}

#[test]
fn no_death_header_of_a_publisher_stops_a_queue() {
    leveret_only!("RabbitMQ's queue process crashes");
    let (mut client, queue, dead) = pair(&[]);
    let known = |count| {
        let death = table(&[
            ("queue", queue.into()),
            ("reason", "rejected".into()),
            ("count", count),
        ]);
        FieldValue::Array(vec![death.into()])
    };
    for odd in [
        FieldValue::Array(vec![FieldValue::I32(1)]),
        known("many".into()),
        known(FieldValue::I64(i64::MAX)),
        known(FieldValue::I64(i64::MIN)),
    ] {
        client.put(queue, &with_headers(&[("x-death", odd)]), "x");
        reject_next(&mut client, queue);
        let delivery = client.await_message(1, dead);
        matched!(delivery.header("x-death"), Some(FieldValue::Array(_)) => ());
    }
}

#[test]
fn the_last_death_is_told_beside_the_first() {
    leveret_only!("RabbitMQ has x-last-death headers from 3.13 on");
    let mut client = Client::with_channel();
    let end = client.temp_queue(1);
    let exchange = client.temp_exchange(1, "fanout");
    let short = [("x-message-ttl", FieldValue::I32(20))];
    let wait = client.queue_with(1, &[&dead_letters_to(end)[..], &short].concat());
    client.bind(1, wait, exchange, "");
    let work = client.queue_with(1, &[("x-dead-letter-exchange", exchange.into())]);
    client.fill(work, &["x"]);
    reject_next(&mut client, work);
    let delivery = client.await_message(1, end);
    first_death(&delivery, "rejected", work, "");
    for (name, value) in [
        ("x-last-death-reason", "expired"),
        ("x-last-death-queue", wait),
        ("x-last-death-exchange", exchange),
    ] {
        assert_eq!(delivery.header(name), Some(&value.into()), "{name}");
    }
}
