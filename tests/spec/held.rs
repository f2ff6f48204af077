//! Answers that promise something durable wait for it (DESIGN.md section 6):
//! over a store that a test holds up.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use leveret::broker::{Access, ConnectionLimits, Durability, Node, Waiters};
use leveret::config::Users;
use leveret::gateway::amqp::{AmqpSettings, Listener};
use leveret::model::{Progress, Ticket, TicketRange, Verdict, VhostName};
use leveret::session::SessionSettings;
use leveret_protocol::method::*;
use leveret_protocol::{Limits, Method, Properties, frame};

use crate::support::broker::{runtime, unique};
use crate::support::client::Client;
use crate::support::handshake::Login;
use crate::support::{leveret_only, matched};

/// A store that has been given as many changes as a test says, and has written
/// as many.
#[derive(Debug, Default)]
struct SlowStore {
    given: AtomicU64,
    progress: Mutex<Progress>,
    waiters: Waiters,
}

impl Durability for SlowStore {
    fn progress(&self) -> Progress {
        Progress::default()
    }

    fn definitions_ticket(&self) -> Ticket {
        Ticket(self.given.load(Ordering::SeqCst))
    }

    fn definitions_verdict(&self, ticket: Ticket) -> Verdict {
        self.progress.lock().expect("no panic").verdict(ticket)
    }

    fn is_behind(&self) -> bool {
        false
    }

    fn memory_is_short(&self) -> bool {
        false
    }

    fn handed_out(&self) -> u64 {
        0
    }

    fn waiters(&self) -> &Waiters {
        &self.waiters
    }
}

impl SlowStore {
    /// The last change so far is not written until a test says so.
    fn give(&self) {
        self.given.fetch_add(1, Ordering::SeqCst);
    }

    /// All that was given is written, or has failed.
    fn decide(&self, fails: bool) {
        let last = self.definitions_ticket();
        let mut progress = self.progress.lock().expect("no panic");
        let first = Ticket(progress.durable.0 + 1);
        progress.durable = last;
        if fails {
            progress.failed = [TicketRange { first, last }].into();
        }
        drop(progress);
        self.waiters.wake();
    }
}

/// A broker over such a store.
fn broker() -> (SocketAddr, Arc<SlowStore>) {
    let store = Arc::new(SlowStore::default());
    let limits = ConnectionLimits::default();
    let node = Node::new(
        Access::new(Users::default()),
        limits,
        [VhostName::from("/")],
        Arc::clone(&store) as Arc<dyn Durability>,
    );
    let settings = AmqpSettings {
        session: SessionSettings {
            limits: Limits::default(),
            channel_max: 2047,
            heartbeat_seconds: 0,
            message_bytes_max: 1 << 20,
            server_properties: SessionSettings::server_properties("Leveret", "3.13.7", "test"),
        },
        handshake_timeout: Duration::from_secs(10),
        handshakes_max: 10,
        unsettled_max: 0,
    };
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        runtime().block_on(async {
            let listener = Listener::bind(([127, 0, 0, 1], 0).into(), node, settings.into())
                .expect("a free port");
            let address = listener.address().expect("it is bound");
            tell.send(address).expect("the test waits");
            listener.serve().await;
        });
    });
    (told.recv().expect("it listens"), store)
}

/// A client with channel 1, and an observer with channel 1 in confirm mode.
fn clients(address: SocketAddr) -> (Client, Client) {
    let [client, mut observer] = [(); 2].map(|()| {
        let mut client = Client::connect_at(address, &Login::default());
        client.open_channel(1);
        client
    });
    observer.ok(1, &ConfirmSelect::default());
    (client, observer)
}

fn declare(queue: &str) -> QueueDeclare<'_> {
    QueueDeclare {
        queue,
        durable: true,
        ..QueueDeclare::default()
    }
}

/// Publishes to the queue until it is there to take a message: whatever its
/// declaration has to say is on its way then.
fn wait_for_queue(observer: &mut Client, queue: &str) {
    let publish = BasicPublish {
        routing_key: queue,
        mandatory: true,
        ..BasicPublish::default()
    };
    loop {
        observer.publish_with(1, &publish, &Properties::default(), b"there?");
        match observer.next_method(1) {
            Method::BasicAck(_) => break,
            Method::BasicReturn(_) => observer.expect_ack(1),
            other => panic!("{other:?}"),
        }
    }
    // One more round trip, in which what was to be written is.
    observer.publish_with(1, &publish, &Properties::default(), b"there!");
    observer.expect_ack(1);
}

#[test]
fn a_row_of_declares_is_worked_on_and_answered_once_it_is_durable() {
    leveret_only!("holds up the store");
    let (address, store) = broker();
    let (mut client, mut observer) = clients(address);
    let queues = [(); 3].map(|()| unique("held"));
    store.give();
    for queue in queues {
        client.send(1, &declare(queue));
    }
    wait_for_queue(&mut observer, queues[2]);
    client.expect_no_octets();
    store.decide(false);
    for queue in queues {
        matched!(client.next_method(1), Method::QueueDeclareOk(ok) => assert_eq!(ok.queue, queue));
    }
    // Nothing is under way any more, and nothing held.
    client.declare(1, &declare(unique("at-once")));
}

#[test]
fn what_was_to_be_written_before_is_and_what_comes_after_waits() {
    leveret_only!("holds up the store");
    let (address, store) = broker();
    let (mut client, mut observer) = clients(address);
    let queue = unique("held");
    store.give();
    let mut octets = Vec::new();
    frame::encode_method(&mut octets, 1, &BasicQos::default());
    frame::encode_method(&mut octets, 1, &declare(queue));
    frame::encode_method(&mut octets, 1, &BasicQos::default());
    client.send_bytes(&octets);
    matched!(client.next_method(1), Method::BasicQosOk(_) => ());
    wait_for_queue(&mut observer, queue);
    client.expect_no_octets();
    store.decide(false);
    matched!(client.next_method(1), Method::QueueDeclareOk(_) => ());
    matched!(client.next_method(1), Method::BasicQosOk(_) => ());
}

#[test]
fn a_change_that_cannot_be_stored_ends_the_connection() {
    leveret_only!("holds up the store");
    let (address, store) = broker();
    let (mut client, mut observer) = clients(address);
    let queue = unique("held");
    store.give();
    client.send(1, &declare(queue));
    wait_for_queue(&mut observer, queue);
    store.decide(true);
    let ids = client.expect_connection_close(541, "INTERNAL_ERROR - *");
    assert_eq!(ids, (50, 10));
    // An old failure is nobody's who changes nothing.
    let passive = QueueDeclare {
        passive: true,
        ..declare(queue)
    };
    observer.declare(1, &passive);
}

#[test]
fn a_close_waits_for_what_came_before_it() {
    leveret_only!("holds up the store");
    let (address, store) = broker();
    let (mut client, mut observer) = clients(address);
    let queue = unique("held");
    store.give();
    client.send(1, &declare(queue));
    client.send(0, &ConnectionClose::default());
    wait_for_queue(&mut observer, queue);
    client.expect_no_octets();
    store.decide(false);
    matched!(client.next_method(1), Method::QueueDeclareOk(_) => ());
    matched!(client.next_method(0), Method::ConnectionCloseOk(_) => ());
}

#[test]
fn deliveries_beyond_what_may_wait_are_held_and_then_come() {
    leveret_only!("holds up the store");
    let (address, store) = broker();
    let (mut client, mut observer) = clients(address);
    let (consumed, queue) = (client.shared_queue(1), unique("held"));
    client.consume(1, consumed, true);
    store.give();
    client.send(1, &declare(queue));
    wait_for_queue(&mut observer, queue);
    let body = "x".repeat(16 * 1024);
    for _ in 0..200 {
        observer.publish(1, "", consumed, &body);
    }
    // Answered last: all of it has been taken.
    observer.send(1, &BasicQos::default());
    observer.next_where(1, |method| matches!(method, Method::BasicQosOk(_)));
    client.expect_no_octets();
    store.decide(false);
    matched!(client.next_method(1), Method::QueueDeclareOk(_) => ());
    for _ in 0..200 {
        assert_eq!(client.delivery(1).text().len(), body.len());
    }
}
