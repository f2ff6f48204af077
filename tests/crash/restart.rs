//! What survives a restart and what does not, one thing at a time.

use std::time::Duration;

use leveret_protocol::method::*;
use leveret_protocol::{Method, Properties};
use tempfile::TempDir;

use super::disk::Disk;
use super::process::Broker;
use super::wire::{Event, Gone, Wire};
use super::written::ACK_SURVIVES_AFTER;
use crate::support::actions::Delivery;
use crate::support::client::Client;
use crate::support::matched;

/// A data directory, and how its broker ends: all tests try both.
struct Restarts {
    directory: TempDir,
    killed: bool,
}

impl Restarts {
    /// Runs a test once with a clean stop between its parts and once with SIGKILL.
    #[track_caller]
    fn both(test: impl Fn(&Self)) {
        for killed in [false, true] {
            let directory = tempfile::tempdir().expect("a directory");
            test(&Self { directory, killed });
        }
    }

    fn start(&self) -> Broker {
        Broker::listening(&self.directory.path().join("data"))
    }

    fn end(&self, broker: Broker) {
        if self.killed {
            broker.kill();
        } else {
            broker.stop();
        }
    }

    /// One life of a broker, with a client.
    #[track_caller]
    fn life<T>(&self, part: impl FnOnce(&mut Client) -> T) -> T {
        let broker = self.start();
        let mut client = broker.client();
        let result = part(&mut client);
        self.end(broker);
        result
    }
}

fn declare(client: &mut Client, queue: &str) -> u32 {
    let declare = QueueDeclare {
        queue,
        durable: true,
        ..QueueDeclare::default()
    };
    client.declare(1, &declare).1
}

fn declare_exchange(client: &mut Client, exchange: &str, kind: &str, durable: bool) {
    let declare = ExchangeDeclare {
        exchange,
        kind,
        durable,
        ..ExchangeDeclare::default()
    };
    client.ok(1, &declare);
}

/// Publishes texts on channel 2 and waits for their confirms.
fn publish(
    client: &mut Client,
    exchange: &str,
    routing_key: &str,
    persistent: bool,
    texts: &[&str],
) {
    client.open_channel(2);
    client.ok(2, &ConfirmSelect::default());
    let properties = Properties {
        delivery_mode: Some(if persistent { 2 } else { 1 }),
        ..Properties::default()
    };
    for text in texts {
        client.publish_properties(2, exchange, routing_key, &properties, text);
    }
    client.expect_acks(2, texts.len() as u64);
    client.close_channel(2);
}

/// Everything in a queue, taken: text and `redelivered`.
fn take(client: &mut Client, queue: &str) -> Vec<(String, bool)> {
    std::iter::from_fn(|| client.get(1, queue, true))
        .map(|delivery: Delivery| (delivery.text().to_owned(), delivery.redelivered))
        .collect()
}

fn texts(client: &mut Client, queue: &str) -> Vec<String> {
    take(client, queue)
        .into_iter()
        .map(|(text, _)| text)
        .collect()
}

fn exchange_exists(client: &mut Client, exchange: &str) -> bool {
    client.open_channel(3);
    let passive = ExchangeDeclare {
        exchange,
        passive: true,
        ..ExchangeDeclare::default()
    };
    match client.call(3, &passive) {
        Method::ExchangeDeclareOk(_) => {
            client.close_channel(3);
            true
        }
        Method::ChannelClose(close) if close.reply_code == 404 => {
            client.send(3, &ChannelCloseOk {});
            false
        }
        other => panic!("expected exchange.declare-ok or 404, got {other:?}"),
    }
}

/// Acks and purges are promised to survive only when they are that old.
fn let_acks_age() {
    std::thread::sleep(ACK_SURVIVES_AFTER + Duration::from_millis(20));
}

#[test]
fn durable_definitions_survive_and_others_do_not() {
    Restarts::both(|restarts| {
        restarts.life(|client| {
            declare(client, "kept");
            client.declare(
                1,
                &QueueDeclare {
                    queue: "transient",
                    ..QueueDeclare::default()
                },
            );
            client.declare(
                1,
                &QueueDeclare {
                    queue: "exclusive",
                    exclusive: true,
                    durable: true,
                    ..QueueDeclare::default()
                },
            );
            for kind in ["direct", "fanout", "topic", "headers"] {
                declare_exchange(client, kind, kind, true);
                client.bind(1, "kept", kind, "key.#");
            }
            declare_exchange(client, "transient", "direct", false);
            client.bind(1, "kept", "transient", "key.#");
            client.bind_exchange(1, "fanout", "direct", "onwards");
        });
        restarts.life(|client| {
            assert_eq!(client.look_up("kept"), Some((0, 0)));
            assert_eq!(client.look_up("transient"), None);
            assert_eq!(client.look_up("exclusive"), None);
            assert!(!exchange_exists(client, "transient"));
            for kind in ["direct", "fanout", "topic", "headers"] {
                assert!(exchange_exists(client, kind), "{kind}");
                // The same again is no conflict: kind and flags survived, too.
                declare_exchange(client, kind, kind, true);
            }
            assert_eq!(declare(client, "kept"), 0);
            for (exchange, routing_key, count) in [
                ("direct", "key.#", 1),
                ("direct", "key.other", 0),
                ("direct", "onwards", 1),
                ("fanout", "anything", 1),
                ("topic", "key.of.three", 1),
                ("topic", "other", 0),
                ("headers", "", 1),
            ] {
                publish(client, exchange, routing_key, true, &[exchange]);
                let found = texts(client, "kept");
                assert_eq!(found, vec![exchange; count], "{exchange}, {routing_key}");
            }
        });
    });
}

#[test]
fn what_was_deleted_and_unbound_stays_so() {
    Restarts::both(|restarts| {
        restarts.life(|client| {
            for queue in ["deleted", "redeclared", "unbound"] {
                declare(client, queue);
                publish(client, "", queue, true, &["old"]);
            }
            declare_exchange(client, "deleted", "direct", true);
            declare_exchange(client, "kept", "direct", true);
            client.bind(1, "unbound", "kept", "key");
            client.bind(1, "redeclared", "kept", "key");
        });
        restarts.life(|client| {
            assert_eq!(client.delete_queue(1, "deleted"), 1);
            assert_eq!(client.delete_queue(1, "redeclared"), 1);
            assert_eq!(declare(client, "redeclared"), 0);
            client.delete_exchange(1, "deleted");
            client.ok(
                1,
                &QueueUnbind {
                    queue: "unbound",
                    exchange: "kept",
                    routing_key: "key",
                    ..QueueUnbind::default()
                },
            );
        });
        for _ in 0..2 {
            restarts.life(|client| {
                assert_eq!(client.look_up("deleted"), None);
                assert_eq!(client.look_up("redeclared"), Some((0, 0)));
                assert_eq!(client.look_up("unbound"), Some((1, 0)));
                assert!(!exchange_exists(client, "deleted"));
                publish(client, "kept", "key", true, &["to nobody"]);
                assert_eq!(client.look_up("redeclared"), Some((0, 0)));
                assert_eq!(client.look_up("unbound"), Some((1, 0)));
            });
        }
    });
}

#[test]
fn persistent_messages_survive_in_order_and_transient_ones_do_not() {
    Restarts::both(|restarts| {
        let names: Vec<String> = (0..200).map(|at| format!("message {at}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        restarts.life(|client| {
            declare(client, "queue");
            publish(client, "", "queue", true, &names[..100]);
            publish(client, "", "queue", false, &["transient"; 10]);
            publish(client, "", "queue", true, &names[100..]);
            client.await_ready("queue", 210);
        });
        restarts.life(|client| {
            client.await_ready("queue", 200);
            // Whoever was never sent a message is not told that it was. After
            // SIGKILL the flag may err to true.
            let found = take(client, "queue");
            for ((text, redelivered), name) in found.iter().zip(&names) {
                assert_eq!(text, name);
                assert!(restarts.killed || !redelivered, "{text}");
            }
            assert_eq!(found.len(), names.len());
        });
    });
}

#[test]
fn large_and_empty_bodies_and_properties_survive() {
    Restarts::both(|restarts| {
        let large = "x".repeat(3 * 1024 * 1024);
        let properties = Properties {
            delivery_mode: Some(2),
            message_id: Some("id".into()),
            content_type: Some("text/plain".into()),
            ..Properties::default()
        };
        restarts.life(|client| {
            for queue in ["one", "two"] {
                declare(client, queue);
                client.bind(1, queue, "amq.fanout", "");
            }
            client.ok(1, &ConfirmSelect::default());
            for text in [large.as_str(), "", "small"] {
                client.publish_properties(1, "amq.fanout", "key", &properties, text);
            }
            client.expect_acks(1, 3);
        });
        restarts.life(|client| {
            for queue in ["one", "two"] {
                for text in [large.as_str(), "", "small"] {
                    let delivery = client.get(1, queue, true).expect("a message");
                    assert!(delivery.text() == text, "another body in {queue}");
                    assert_eq!(delivery.content.properties, properties);
                    assert_eq!(delivery.exchange, "amq.fanout");
                    assert_eq!(delivery.routing_key, "key");
                }
                assert!(client.get(1, queue, true).is_none());
            }
        });
    });
}

#[test]
fn unsettled_messages_come_back_in_their_place_and_flagged() {
    Restarts::both(|restarts| {
        restarts.life(|client| {
            declare(client, "queue");
            publish(client, "", "queue", true, &["a", "b", "c", "d", "e"]);
            client.qos(1, 3, false);
            client.consume(1, "queue", false);
            assert_eq!(client.texts(1, 3), ["a", "b", "c"]);
            // "b" is settled, "d" comes in its place.
            client.ack(1, 2, false);
            assert_eq!(client.texts(1, 1), ["d"]);
            let_acks_age();
        });
        restarts.life(|client| {
            let found: Vec<_> = std::iter::from_fn(|| client.get(1, "queue", false)).collect();
            for (delivery, text) in found.iter().zip(["a", "c", "d", "e"]) {
                assert_eq!(delivery.text(), text);
                // "e" was sent to nobody. After SIGKILL the flag may err to true.
                let exact = text != "e" || !restarts.killed;
                assert!(!exact || delivery.redelivered == (text != "e"), "{text}");
            }
            assert_eq!(found.len(), 4);
        });
        // By now it was; and the flags of the others survive a second restart.
        for _ in 0..2 {
            restarts.life(|client| {
                let found: Vec<_> = std::iter::from_fn(|| client.get(1, "queue", false))
                    .map(|delivery| (delivery.text().to_owned(), delivery.redelivered))
                    .collect();
                assert_eq!(found, flagged(&["a", "c", "d", "e"]));
            });
        }
    });
}

fn flagged(texts: &[&str]) -> Vec<(String, bool)> {
    texts
        .iter()
        .map(|text| ((*text).to_owned(), true))
        .collect()
}

#[test]
fn settled_and_purged_messages_stay_away() {
    Restarts::both(|restarts| {
        restarts.life(|client| {
            for queue in ["acked", "rejected", "got", "purged"] {
                declare(client, queue);
                publish(client, "", queue, true, &["1", "2", "3", "4"]);
            }
            for queue in ["acked", "rejected"] {
                for _ in 0..3 {
                    client.get(1, queue, false).expect("a message");
                }
            }
            client.ack(1, 3, true);
            client.nack(1, 6, true, false);
            assert_eq!(client.get(1, "got", true).expect("a message").text(), "1");
            let purge = QueuePurge {
                queue: "purged",
                ..QueuePurge::default()
            };
            matched!(client.call(1, &purge), Method::QueuePurgeOk(ok) => {
                assert_eq!(ok.message_count, 4);
            });
            publish(client, "", "purged", true, &["after"]);
            let_acks_age();
        });
        for _ in 0..2 {
            restarts.life(|client| {
                for (queue, ready) in [("acked", 1), ("rejected", 1), ("got", 3), ("purged", 1)] {
                    client.await_ready(queue, ready);
                }
            });
        }
        restarts.life(|client| {
            assert_eq!(texts(client, "acked"), ["4"]);
            assert_eq!(texts(client, "rejected"), ["4"]);
            assert_eq!(texts(client, "got"), ["2", "3", "4"]);
            assert_eq!(texts(client, "purged"), ["after"]);
        });
    });
}

#[test]
fn auto_deleted_ones_do_not_come_back() {
    Restarts::both(|restarts| {
        restarts.life(|client| {
            client.declare(
                1,
                &QueueDeclare {
                    queue: "auto",
                    durable: true,
                    auto_delete: true,
                    ..QueueDeclare::default()
                },
            );
            let exchange = ExchangeDeclare {
                exchange: "auto",
                kind: "direct",
                durable: true,
                auto_delete: true,
                ..ExchangeDeclare::default()
            };
            client.ok(1, &exchange);
            client.bind(1, "auto", "auto", "key");
            publish(client, "auto", "key", true, &["gone"]);
            let tag = client.consume(1, "auto", false);
            client.cancel(1, tag);
            client.await_gone("auto");
            assert!(!exchange_exists(client, "auto"));
            // Nobody asked for the deletion, so nobody was answered.
            let_acks_age();
        });
        restarts.life(|client| {
            assert_eq!(client.look_up("auto"), None);
            assert!(!exchange_exists(client, "auto"));
        });
    });
}

#[test]
fn a_restored_queue_takes_and_serves_at_once() {
    Restarts::both(|restarts| {
        restarts.life(|client| {
            declare(client, "queue");
            publish(client, "", "queue", true, &["old"]);
        });
        restarts.life(|client| {
            publish(client, "", "queue", true, &["new"]);
            let delivery = client.get(1, "queue", false).expect("a message");
            assert_eq!((delivery.text(), delivery.message_count), ("old", Some(1)));
            client.ack(1, delivery.tag, false);
            client.consume(1, "queue", false);
            assert_eq!(client.delivery(1).text(), "new");
        });
    });
}

#[test]
fn a_directory_in_use_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let data_dir = directory.path().join("data");
    let holder = Broker::listening(&data_dir);
    let mut second = Broker::start(&data_dir);
    let status = second.await_exit();
    let said = second.log().whole();
    assert_ne!(status.code(), Some(0), "{said}");
    let data_dir_text = data_dir.to_str().expect("a path of letters");
    assert!(said.contains(data_dir_text), "no directory in:\n{said}");
    let holder_id = holder.id().to_string();
    assert!(
        said.contains(&holder_id),
        "not held by {holder_id}:\n{said}"
    );
    holder.client().sync(1);
    // Nobody is in the way of the next one, however the holder ended.
    holder.kill();
    Broker::listening(&data_dir).stop();
    Broker::listening(&data_dir).stop();
}

/// RELIABILITY.md, bug museum 21: a failed sync is no success, not even when
/// tried again.
#[test]
fn a_failed_disk_confirms_nothing_and_ends_the_broker() {
    let Some(mut disk) = Disk::new() else {
        return;
    };
    let data_dir = disk.path().join("data");
    let mut broker = Broker::listening(&data_dir);
    let mut client = broker.client();
    declare(&mut client, "queue");
    publish(&mut client, "", "queue", true, &["before"]);
    client.drop_socket();
    let mut wire = Wire::open(broker.address()).expect("a connection");
    wire.ok(&ConfirmSelect::default()).expect("confirms");
    disk.cut();
    wire.put_publish("", "queue", true, b"after");
    // A nack may come before the end, a confirm must not.
    let gone = loop {
        match wire.await_next() {
            Ok(Event::Confirm { acked: false, .. }) => {}
            Ok(other) => panic!("{other:?} from a broker whose disk has failed"),
            Err(gone) => break gone,
        }
    };
    assert!(!matches!(gone, Gone::Silent(_)), "{gone}");
    let status = broker.await_exit();
    assert_ne!(status.code(), Some(0), "{}", broker.log().tail());
    disk.power_up();
    let broker = Broker::listening(&data_dir);
    assert_eq!(texts(&mut broker.client(), "queue"), ["before"]);
    broker.stop();
}

/// Without definitions nobody knows whose the messages are: they must not be
/// taken for nobody's.
#[test]
fn without_its_definitions_a_broker_does_not_start_and_removes_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let data_dir = directory.path().join("data");
    let broker = Broker::listening(&data_dir);
    let mut client = broker.client();
    declare(&mut client, "queue");
    publish(&mut client, "", "queue", true, &["message"]);
    broker.kill();
    let definitions = data_dir.join("metadata.redb");
    let whole = std::fs::read(&definitions).expect("definitions");
    for damage in [None, Some("")] {
        std::fs::remove_file(&definitions).expect("they are there");
        if let Some(content) = damage {
            std::fs::write(&definitions, content).expect("there is room");
        }
        let mut broker = Broker::start(&data_dir);
        assert_ne!(broker.await_exit().code(), Some(0));
        let log = broker.log().whole();
        assert!(log.contains("metadata.redb is missing or empty"), "{log}");
        std::fs::write(&definitions, &whole).expect("there is room");
    }
    let broker = Broker::listening(&data_dir);
    assert_eq!(texts(&mut broker.client(), "queue"), ["message"]);
    broker.stop();
}
