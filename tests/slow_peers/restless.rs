//! Clients that come, go and change their minds all the time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use leveret_protocol::Method;
use leveret_protocol::method::{EncodeMethod, *};

use super::lasting_queue;
use crate::support::broker::{leak, leveret_with, unique};
use crate::support::client::{Client, PATIENCE};
use crate::support::handshake::Login;

/// RELIABILITY.md, bug museum 34.
#[test]
fn a_tag_that_is_used_again_and_again_gets_deliveries() {
    let mut publisher = Client::confirming();
    let queue = lasting_queue(&mut publisher);
    let mut client = Client::with_channel();
    client.qos(1, 2, false);
    let consume = BasicConsume {
        queue,
        consumer_tag: "the-same",
        ..BasicConsume::default()
    };
    let mut settled = Vec::new();
    for round in 0..400 {
        publisher.publish(1, "", queue, &round.to_string());
        assert_eq!(client.consume_with(1, &consume), "the-same");
        if round % 3 == 0 {
            // Cancelled at once: what is under way still comes, and is settled.
            client.send(
                1,
                &BasicCancel {
                    consumer_tag: "the-same",
                    nowait: false,
                },
            );
            loop {
                let incoming = client.next(1);
                match (incoming.method, incoming.content) {
                    (Method::BasicDeliver(deliver), Some(content)) => {
                        client.ack(1, deliver.delivery_tag, false);
                        settled.push(text_of(&content.body));
                    }
                    (Method::BasicCancelOk(_), None) => break,
                    other => panic!("{other:?}"),
                }
            }
            continue;
        }
        let delivery = client.delivery(1);
        assert_eq!(delivery.consumer_tag, "the-same");
        settled.push(delivery.text().to_owned());
        if round % 2 == 0 {
            client.ack(1, delivery.tag, false);
            cancel_and_requeue(&mut client);
        } else {
            cancel_and_requeue(&mut client);
            client.ack(1, delivery.tag, false);
        }
    }
    publisher.expect_acks(1, 400);
    client.sync(1);
    settled.extend(publisher.drain(1, queue));
    let mut numbers: Vec<usize> = settled
        .iter()
        .map(|text| text.parse().expect("a number"))
        .collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..400), "each settled once");
    // It is still alive.
    client.consume_with(1, &consume);
    publisher.fill(queue, &["last"]);
    assert_eq!(client.delivery(1).text(), "last");
    publisher.delete_queue(1, queue);
}

/// Ends the consumer; what comes before the answer goes back to the queue.
#[track_caller]
fn cancel_and_requeue(client: &mut Client) {
    client.send(
        1,
        &BasicCancel {
            consumer_tag: "the-same",
            nowait: false,
        },
    );
    loop {
        match client.next_method(1) {
            Method::BasicDeliver(deliver) => client.nack(1, deliver.delivery_tag, false, true),
            Method::BasicCancelOk(_) => return,
            other => panic!("{other:?}"),
        }
    }
}

/// RELIABILITY.md, bug museum 31.
#[test]
fn an_exclusive_queue_is_not_deleted_with_its_namesake() {
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let queue = unique("exclusive");
                for _ in 0..100 {
                    let mut client = Client::with_channel();
                    let declare = QueueDeclare {
                        queue,
                        exclusive: true,
                        ..QueueDeclare::default()
                    };
                    await_accepted(&mut client, &declare);
                    client.consume(1, queue, true);
                    for _ in 0..3 {
                        client.publish(1, "", queue, "still mine");
                        assert_eq!(client.delivery(1).text(), "still mine");
                    }
                    client.reset();
                }
            });
        }
    });
}

/// Repeats a declare until the connection that has the name is gone.
#[track_caller]
fn await_accepted(client: &mut Client, declare: &QueueDeclare<'_>) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match client.call(1, declare) {
            Method::QueueDeclareOk(_) => return,
            Method::ChannelClose(close) if close.reply_code == 405 => {
                assert!(Instant::now() < deadline, "{}", close.reply_text);
                client.send(1, &ChannelCloseOk {});
                client.open_channel(1);
            }
            other => panic!("{other:?}"),
        }
    }
}

/// RELIABILITY.md, bug museum 25 and 27.
#[test]
fn churn_leaves_a_broker_that_works() {
    let address = leveret_with("");
    let names: Vec<&'static str> = (0..4).map(|index| leak(format!("churn-{index}"))).collect();
    let stop = AtomicBool::new(false);
    let restless = |seed: usize, act: &dyn Fn(&mut Client, usize, &'static str)| {
        let mut client = Client::connect_at(address, &Login::default());
        client.open_channel(1);
        let mut turn = seed;
        while !stop.load(Ordering::Relaxed) {
            turn += 1;
            act(&mut client, turn, names[turn * 7 % names.len()]);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            restless(0, &|client, turn, queue| {
                let delete = QueueDelete {
                    queue,
                    if_unused: turn.is_multiple_of(3),
                    if_empty: turn.is_multiple_of(5),
                    ..QueueDelete::default()
                };
                attempt(
                    client,
                    &QueueDeclare {
                        queue,
                        ..QueueDeclare::default()
                    },
                );
                attempt(client, &bind(queue));
                attempt(client, &delete);
            });
        });
        scope.spawn(|| {
            restless(1, &|client, _, queue| {
                attempt(
                    client,
                    &QueueDeclare {
                        queue,
                        ..QueueDeclare::default()
                    },
                );
                attempt(client, &bind(queue));
                attempt(
                    client,
                    &QueuePurge {
                        queue,
                        ..QueuePurge::default()
                    },
                );
            });
        });
        scope.spawn(|| {
            restless(2, &|client, turn, queue| {
                for _ in 0..50 {
                    let exchange = if turn.is_multiple_of(2) {
                        "amq.fanout"
                    } else {
                        ""
                    };
                    client.publish(1, exchange, queue, "x");
                }
                client.sync(1);
            });
        });
        for no_ack in [false, true] {
            scope.spawn(move || {
                restless(3, &|client, turn, queue| {
                    let consume = BasicConsume {
                        queue,
                        no_ack,
                        consumer_tag: "churn",
                        ..BasicConsume::default()
                    };
                    attempt(client, &consume);
                    if turn.is_multiple_of(4) {
                        client.ack(1, 0, true);
                    }
                    // Closing the channel gives back what it held.
                    client.close_channel(1);
                    client.open_channel(1);
                });
            });
        }
        std::thread::sleep(CHURN);
        stop.store(true, Ordering::Relaxed);
    });
    // It still does what it did before.
    let mut client = Client::connect_at(address, &Login::default());
    client.open_channel(1);
    for &queue in &names {
        client.declare(
            1,
            &QueueDeclare {
                queue,
                ..QueueDeclare::default()
            },
        );
        client.await_queue(queue, |found| {
            found.is_some_and(|(_, consumers)| consumers == 0)
        });
        client.drain(1, queue);
        let tag = client.consume(1, queue, false);
        client.publish_confirmed(&[("", queue, "last")]);
        let delivery = client.delivery(1);
        assert_eq!(delivery.text(), "last");
        client.ack(1, delivery.tag, false);
        client.cancel(1, tag);
        assert_eq!(client.look_up(queue), Some((0, 0)));
        assert_eq!(client.delete_queue(1, queue), 0);
    }
}

fn bind(queue: &str) -> QueueBind<'_> {
    QueueBind {
        queue,
        exchange: "amq.fanout",
        ..QueueBind::default()
    }
}

/// Sends a method that may be refused with a soft error, and takes the answer;
/// deliveries are dropped.
fn attempt(client: &mut Client, method: &impl EncodeMethod) {
    client.send(1, method);
    loop {
        match client.next_method(1) {
            Method::BasicDeliver(_) | Method::BasicCancel(_) => {}
            Method::ChannelClose(close) => {
                assert!([404, 405, 406].contains(&close.reply_code), "{close:?}");
                client.send(1, &ChannelCloseOk {});
                client.open_channel(1);
                return;
            }
            answer => return assert!(answer.name().ends_with("-ok"), "{answer:?}"),
        }
    }
}

fn text_of(body: &[u8]) -> String {
    String::from_utf8(body.to_vec()).expect("it was sent as text")
}

const CHURN: Duration = Duration::from_secs(3);
