//! Clients that are slow, silent, broken off or restless: they cost a bounded
//! amount and disturb nobody (RELIABILITY.md). Others' liveness is shown by
//! round trips that are answered, never by how fast.

#[path = "../support/mod.rs"]
mod support;

mod restless;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use leveret_protocol::frame::{self, HEARTBEAT, PROTOCOL_HEADER};
use leveret_protocol::method::*;
use leveret_protocol::{ContentHeader, FrameKind, Method, Properties};

use support::broker::{leveret_with, unique};
use support::client::{Client, PATIENCE};
use support::handshake::Login;
use support::matched;
use support::witness::Witness;

/// A queue that outlives its connection.
#[track_caller]
fn lasting_queue(client: &mut Client) -> &'static str {
    let queue = unique("lasting");
    client.declare(
        1,
        &QueueDeclare {
            queue,
            ..QueueDeclare::default()
        },
    );
    queue
}

/// Sends `consume` and reads nothing.
fn consume_blindly(client: &mut Client, queue: &str) {
    client.send(
        1,
        &BasicConsume {
            queue,
            no_ack: true,
            ..BasicConsume::default()
        },
    );
}

/// A body that begins with its number.
fn numbered(number: usize, size: usize) -> String {
    format!("{number:<size$}")
}

#[test]
fn a_consumer_that_does_not_read_takes_a_bounded_amount() {
    const COUNT: usize = 6_000;
    const SIZE: usize = 10_000;
    /// Outbox, what waits to be written, and what the system buffers for two
    /// sockets; far less than the backlog.
    const COST_BYTES: usize = 24 * 1024 * 1024;
    let mut witness = Witness::new();
    let mut watcher = Client::confirming();
    let queue = lasting_queue(&mut watcher);
    let mut stuck = Client::with_channel();
    consume_blindly(&mut stuck, queue);
    watcher.await_queue(queue, |found| {
        found.is_some_and(|(_, consumers)| consumers == 1)
    });
    for number in 0..COUNT {
        watcher.publish(1, "", queue, &numbered(number, SIZE));
        if number % 1_000 == 0 {
            witness.undisturbed();
        }
    }
    watcher.expect_acks(1, COUNT as u64);
    let (ready, _) = watcher.look_up(queue).expect("it exists");
    assert!(
        ready as usize >= COUNT - COST_BYTES / SIZE,
        "only {ready} of {COUNT} messages are still in the queue"
    );
    // Others of the same queue are served meanwhile.
    let other = watcher.get(1, queue, true).expect("a message");
    let taken: usize = other.text().trim().parse().expect("a number");
    witness.undisturbed();

    // And when it reads, it gets everything else in order.
    matched!(stuck.next_method(1), Method::BasicConsumeOk(_) => ());
    for number in (0..COUNT).filter(|number| *number != taken) {
        assert_eq!(stuck.delivery(1).text(), numbered(number, SIZE));
    }
    watcher.delete_queue(1, queue);
}

#[test]
fn a_client_that_does_not_read_but_beats_stays() {
    let mut witness = Witness::new();
    let mut watcher = Client::confirming();
    let queue = lasting_queue(&mut watcher);
    let body = "x".repeat(1024 * 1024);
    for _ in 0..24 {
        watcher.publish(1, "", queue, &body);
    }
    watcher.expect_acks(1, 24);
    let mut slow = Client::connect_with(&Login {
        heartbeat: 1,
        ..Login::default()
    });
    slow.open_channel(1);
    consume_blindly(&mut slow, queue);
    // Two intervals and a half of silence end a connection; time is counted in
    // heartbeats that the broker sends to somebody else.
    let mut clock = Client::connect_with(&Login {
        heartbeat: 1,
        ..Login::default()
    });
    for _ in 0..10 {
        clock.expect_heartbeat(PATIENCE);
        clock.send_bytes(&HEARTBEAT);
        slow.send_bytes(&HEARTBEAT);
    }
    matched!(slow.next_method(1), Method::BasicConsumeOk(_) => ());
    for _ in 0..24 {
        assert_eq!(slow.delivery(1).content.body.len(), body.len());
    }
    slow.sync(1);
    witness.undisturbed();
    watcher.delete_queue(1, queue);
}

#[test]
fn a_client_that_never_stops_sending_gets_heartbeats() {
    let mut flood = Client::connect_with(&Login {
        heartbeat: 1,
        ..Login::default()
    });
    flood.open_channel(1);
    let mut burst = Vec::new();
    for _ in 0..2_000 {
        frame::encode_method(
            &mut burst,
            1,
            &BasicPublish {
                routing_key: "nowhere",
                ..BasicPublish::default()
            },
        );
        frame::encode(&mut burst, FrameKind::Header, 1, &header(1));
        frame::encode(&mut burst, FrameKind::Body, 1, b"x");
    }
    let mut sender = flood.second_handle();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                sender.write_all(&burst).expect("the broker reads");
            }
        });
        for _ in 0..3 {
            flood.expect_heartbeat(PATIENCE);
        }
        done.store(true, Ordering::Relaxed);
    });
    flood.sync(1);
}

#[test]
fn a_consumer_with_a_backlog_is_heard() {
    const COUNT: u64 = 60_000;
    let mut client = Client::confirming();
    let queue = client.temp_queue(1);
    let body = numbered(0, 500);
    for _ in 0..COUNT {
        client.publish(1, "", queue, &body);
    }
    client.expect_acks(1, COUNT);
    let tag = client.consume(1, queue, true);
    let mut seen = 0;
    client.send(
        1,
        &BasicCancel {
            consumer_tag: tag,
            nowait: false,
        },
    );
    while !matches!(client.next_method(1), Method::BasicCancelOk(_)) {
        seen += 1;
    }
    assert!(seen < COUNT, "the whole backlog came before the answer");
    let (ready, consumers) = client.look_up(queue).expect("it exists");
    assert_eq!((u64::from(ready), consumers), (COUNT - seen, 0));
}

/// RELIABILITY.md, bug museum 40.
#[test]
fn half_open_connections_are_dropped_in_time() {
    const COUNT: usize = 2_000;
    let address = leveret_with("[amqp]\nhandshake_timeout = \"1500ms\"\nhandshakes_max = 4096\n");
    let mut witness = Witness::at(address);
    let mut silent = Vec::new();
    let mut dripping = Vec::new();
    for number in 0..COUNT {
        let stream = TcpStream::connect(address).expect("the broker accepts");
        stream.set_nodelay(true).expect("a connected socket");
        match number % 2 {
            0 => silent.push(stream),
            _ => dripping.push(stream),
        }
        if number % 250 == 0 {
            witness.undisturbed();
        }
    }
    // One octet of the protocol header at a time, for as long as they live: no
    // single wait is long, and the whole header never comes.
    let deadline = Instant::now() + 3 * PATIENCE;
    let mut octets = PROTOCOL_HEADER[..7].iter();
    while !dripping.is_empty() {
        assert!(Instant::now() < deadline, "{} still drip", dripping.len());
        witness.undisturbed();
        if let Some(octet) = octets.next() {
            dripping.retain_mut(|stream| stream.write_all(&[*octet]).is_ok());
        }
        let pause = Duration::from_millis(100) / dripping.len().max(1) as u32;
        dripping.retain_mut(|stream| !has_ended(stream, pause));
    }
    for mut stream in silent {
        assert!(has_ended(&mut stream, PATIENCE), "a silent one stays");
    }
    witness.undisturbed();
    Client::connect_at(address, &Login::default()).close();
}

/// Whether the peer closes the socket within that time.
fn has_ended(stream: &mut TcpStream, within: Duration) -> bool {
    let within = within.max(Duration::from_micros(10));
    stream
        .set_read_timeout(Some(within))
        .expect("more than nothing");
    match stream.read(&mut [0; 64]) {
        Ok(count) => count == 0,
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}

/// RELIABILITY.md, bug museum 8.
#[test]
fn a_large_message_that_breaks_off_does_not_exist() {
    const SIZE: usize = 4 * 1024 * 1024;
    let mut witness = Witness::new();
    let mut watcher = Client::with_channel();
    let exchange = watcher.temp_exchange(1, "fanout");
    let queues = [(); 3].map(|()| watcher.bound_queue(1, exchange, ""));
    watcher.consume(1, queues[0], true);
    let mut message = Vec::new();
    frame::encode_method(
        &mut message,
        1,
        &BasicPublish {
            exchange,
            ..BasicPublish::default()
        },
    );
    frame::encode(&mut message, FrameKind::Header, 1, &header(SIZE as u64));
    let body_starts = message.len();
    for _ in 0..SIZE / 65_536 {
        frame::encode(&mut message, FrameKind::Body, 1, &[b'x'; 65_536]);
    }
    let length = message.len();
    for cut in [
        body_starts,
        body_starts + 1,
        body_starts + 8,
        body_starts + 65_543,
        body_starts + 65_544,
        length / 3,
        length / 2,
        length - 65_544,
        length - 2,
        length - 1,
    ] {
        let mut client = Client::with_channel();
        let alive = client.temp_queue(1);
        client.send_bytes(&message[..cut]);
        client.reset();
        watcher.await_gone(alive);
        witness.undisturbed();
    }
    for queue in queues {
        assert_eq!(watcher.look_up(queue).map(|(ready, _)| ready), Some(0));
    }
    watcher.expect_nothing(1);
    watcher.publish_confirmed(&[(exchange, "", "whole")]);
    assert_eq!(watcher.delivery(1).text(), "whole");
    assert_eq!(watcher.drain(1, queues[1]), ["whole"]);
}

/// RELIABILITY.md, bug museum 42.
#[test]
fn all_that_a_reset_connection_held_comes_back_in_order() {
    const COUNT: usize = 20_000;
    let mut witness = Witness::new();
    let mut watcher = Client::confirming();
    let queue = lasting_queue(&mut watcher);
    for number in 0..COUNT {
        watcher.publish(1, "", queue, &number.to_string());
    }
    watcher.expect_acks(1, COUNT as u64);
    let mut client = Client::with_channel();
    client.open_channel(2);
    for channel in [1, 2] {
        client.qos(channel, (COUNT / 2) as u16, false);
        client.consume(channel, queue, false);
    }
    let mut held: Vec<usize> = [1, 2]
        .into_iter()
        .flat_map(|channel| client.texts(channel, COUNT / 2))
        .map(|text| text.parse().expect("a number"))
        .collect();
    held.sort_unstable();
    assert!(held.iter().copied().eq(0..COUNT), "each once");
    assert_eq!(watcher.look_up(queue), Some((0, 2)));
    witness.undisturbed();
    client.reset();
    watcher.await_queue(queue, |found| found == Some((COUNT as u32, 0)));
    witness.undisturbed();
    watcher.consume(1, queue, true);
    for number in 0..COUNT {
        let delivery = watcher.delivery(1);
        assert_eq!(delivery.text(), number.to_string());
        assert!(delivery.redelivered);
    }
    watcher.delete_queue(1, queue);
}

/// RELIABILITY.md, bug museum 7.
#[test]
fn large_bodies_are_whole_for_every_frame_size() {
    const SIZE: usize = 140_000;
    let with_frame_max = |frame_max| {
        let mut client = Client::connect_with(&Login {
            frame_max: Some(frame_max),
            ..Login::default()
        });
        client.open_channel(1);
        client
    };
    let mut publisher = with_frame_max(8_192);
    let exchange = publisher.temp_exchange(1, "fanout");
    let mut consumers: Vec<(u32, Client)> = [4_096, 50_000, 131_072]
        .into_iter()
        .map(|frame_max| (frame_max, with_frame_max(frame_max)))
        .collect();
    for (_, consumer) in &mut consumers {
        let queue = consumer.bound_queue(1, exchange, "");
        consumer.consume(1, queue, true);
    }
    let bodies: Vec<Vec<u8>> = (0..10)
        .map(|number| {
            (0..SIZE + number)
                .map(|at| (at * 31 / 7 + number) as u8)
                .collect()
        })
        .collect();
    for body in &bodies {
        let publish = BasicPublish {
            exchange,
            ..BasicPublish::default()
        };
        publisher.publish_with(1, &publish, &Properties::default(), body);
    }
    for (frame_max, consumer) in &mut consumers {
        for body in &bodies {
            let content = consumer.delivery(1).content;
            assert!(
                content.body == *body,
                "another body with frame_max {frame_max}"
            );
            let largest = content
                .frame_sizes
                .iter()
                .max()
                .copied()
                .unwrap_or_default();
            assert!(
                largest + 8 <= *frame_max as usize,
                "{largest} > {frame_max}"
            );
        }
    }
}

/// A content header without properties.
fn header(body_bytes: u64) -> Vec<u8> {
    let mut payload = vec![0, 60, 0, 0];
    payload.extend(body_bytes.to_be_bytes());
    payload.extend([0, 0]);
    assert!(ContentHeader::decode(&payload).is_ok_and(|header| header.body_bytes == body_bytes));
    payload
}
