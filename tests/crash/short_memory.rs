//! Other queues take all the memory that waiting messages may have. What is due
//! in a queue that nobody reads is due all the same, although its messages are
//! in pages.

use std::fs;

use leveret_protocol::Properties;
use leveret_protocol::method::*;
use tempfile::TempDir;

use super::process::Broker;
use super::support::client::Client;
use super::support::features::{Arguments, dead_letters_to, expiring, with_headers};

/// Messages of the queue that is watched, a few pages of them.
const COUNT: u32 = 3_000;
/// Octets of each.
const BODY_BYTES: usize = 1_024;
/// Long enough for pages to be written meanwhile.
const LATER_MS: i64 = 4_000;

/// A broker without memory to spare.
struct Scene {
    broker: Broker,
    client: Client,
    _directory: TempDir,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let config = directory.path().join("leveret.toml");
        fs::write(&config, "[store]\nhot_size = \"1MiB\"\n").expect("it can be written");
        let broker = Broker::configured(&directory.path().join("data"), &config);
        let mut scene = Self {
            client: broker.client(),
            broker,
            _directory: directory,
        };
        scene.queue("others", &[]);
        // What is delivered next stays in memory, and that is all there is.
        scene.fill("others", 2 * COUNT, &Properties::default());
        scene
    }

    fn queue(&mut self, queue: &str, arguments: Arguments<'_>) {
        let declare = QueueDeclare {
            queue,
            durable: true,
            arguments: arguments.iter().cloned().collect(),
            ..QueueDeclare::default()
        };
        self.client.declare(1, &declare);
    }

    fn fill(&mut self, queue: &str, count: u32, properties: &Properties) {
        let mut client = self.broker.client();
        client.ok(1, &ConfirmSelect::default());
        let body = vec![b'x'; BODY_BYTES];
        let publish = BasicPublish {
            routing_key: queue,
            ..BasicPublish::default()
        };
        for _ in 0..count {
            client.publish_with(1, &publish, properties, &body);
        }
        client.expect_acks(1, count.into());
    }

    fn finish(self) {
        drop(self.client);
        self.broker.stop();
    }
}

#[test]
fn scheduled_messages_come_in_their_time() {
    let mut scene = Scene::new();
    scene.queue("later", &[]);
    let later = with_headers(&[("x-delay", LATER_MS.into())]);
    scene.fill("later", COUNT, &later);
    scene.client.await_ready("later", COUNT);
    scene.finish();
}

#[test]
fn messages_die_by_their_own_time() {
    let mut scene = Scene::new();
    scene.queue("dead", &[]);
    scene.queue("brief", &dead_letters_to("dead"));
    scene.fill("brief", COUNT, &expiring(&LATER_MS.to_string()));
    scene.client.await_ready("dead", COUNT);
    scene.finish();
}

#[test]
fn messages_die_by_their_queues_time() {
    let mut scene = Scene::new();
    scene.queue("dead", &[]);
    let [exchange, key] = dead_letters_to("dead");
    let ttl = ("x-message-ttl", LATER_MS.into());
    scene.queue("brief", &[exchange, key, ttl]);
    scene.fill("brief", COUNT, &Properties::default());
    scene.client.await_ready("dead", COUNT);
    scene.finish();
}

#[test]
fn a_queue_that_is_too_long_lets_its_oldest_go() {
    let mut scene = Scene::new();
    let length = COUNT / 2;
    scene.queue("short", &[("x-max-length", i64::from(length).into())]);
    scene.fill("short", 2 * COUNT, &Properties::default());
    scene.client.await_ready("short", length);
    scene.finish();
}
