//! SIGTERM and SIGINT: connections are closed with 320, and whoever does not
//! answer is not waited for long.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use leveret_protocol::Properties;
use leveret_protocol::method::*;

use super::process::Serve;
use crate::support::client::{Client, PATIENCE};
use crate::support::handshake::Login;

const REASON: &str = "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'";

/// Longer than any connection is waited for.
const DRAIN_LIMIT: Duration = Duration::from_secs(12);

#[test]
fn connections_are_closed_with_320() {
    for signal in ["TERM", "INT"] {
        let mut serve = Serve::new(&[]);
        let mut busy = serve.client();
        let queue = busy.temp_queue(1);
        busy.consume(1, queue, false);
        busy.publish(1, "", queue, "unsettled");
        assert_eq!(busy.delivery(1).text(), "unsettled");
        let mut idle = serve.client();
        serve.signal(signal);
        assert_eq!(idle.expect_connection_close(320, REASON), (0, 0));
        assert_eq!(busy.expect_connection_close(320, REASON), (0, 0));
        let status = serve.await_exit(PATIENCE);
        assert_eq!(status.code(), Some(0), "{}", serve.log_so_far());
    }
}

#[test]
fn handshakes_are_broken_off() {
    let mut serve = Serve::new(&[]);
    let mut silent = Client::dial_at(serve.address());
    let mut greeted = Client::dial_at(serve.address());
    greeted.greet();
    let mut logged_in = Client::dial_at(serve.address());
    logged_in.greet();
    logged_in.log_in(&Login::default());
    serve.signal("TERM");
    silent.expect_end();
    greeted.expect_end();
    logged_in.expect_end();
    assert_eq!(serve.await_exit(PATIENCE).code(), Some(0));
}

#[test]
fn nobody_is_accepted_any_more() {
    let mut serve = Serve::new(&[]);
    let address = serve.address();
    let silent = serve.client();
    serve.signal("TERM");
    serve.await_log("shutting down");
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(address).is_ok() {
        assert!(Instant::now() < deadline, "it still accepts connections");
    }
    silent.drop_socket();
    assert_eq!(serve.await_exit(PATIENCE).code(), Some(0));
}

#[test]
fn a_client_that_never_answers_does_not_hold_it() {
    let mut serve = Serve::new(&[]);
    let silent = serve.client();
    let mut stuck = serve.client();
    let queue = stuck.temp_queue(1);
    // More than fits between it and a client that does not read.
    let consume = BasicConsume {
        queue,
        no_ack: true,
        ..BasicConsume::default()
    };
    stuck.send(1, &consume);
    let body = vec![b'x'; 1024 * 1024];
    let publish = BasicPublish {
        routing_key: queue,
        ..BasicPublish::default()
    };
    for _ in 0..12 {
        stuck.publish_with(1, &publish, &Properties::default(), &body);
    }
    serve.signal("TERM");
    let status = serve.await_exit(DRAIN_LIMIT);
    assert_eq!(status.code(), Some(0), "{}", serve.log_so_far());
    let log = serve.whole_log();
    assert!(!log.contains("did not close in time"), "{log}");
    drop((silent, stuck));
}

#[test]
fn a_client_that_keeps_sending_does_not_hold_it() {
    let mut serve = Serve::new(&[]);
    let mut flood = serve.client();
    let (tell, told) = std::sync::mpsc::channel();
    let flooding = std::thread::spawn(move || {
        let mut bursts = 0u64;
        // Ends when the broker closes the socket: octets do not go out any more.
        while flood.try_send_bytes(&[8, 0, 0, 0, 0, 0, 0, 0xce].repeat(20_000)) {
            bursts += 1;
            if bursts == 3 {
                tell.send(()).expect("the test waits");
            }
        }
    });
    told.recv().expect("it sends");
    serve.signal("TERM");
    let status = serve.await_exit(DRAIN_LIMIT);
    assert_eq!(status.code(), Some(0), "{}", serve.log_so_far());
    let log = serve.whole_log();
    assert!(!log.contains("did not close in time"), "{log}");
    flooding.join().expect("no panic");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for (first, second) in [("TERM", "TERM"), ("INT", "TERM")] {
        let mut serve = Serve::new(&[]);
        let silent = serve.client();
        serve.signal(first);
        serve.await_log("shutting down");
        let began = Instant::now();
        serve.signal(second);
        let status = serve.await_exit(PATIENCE);
        assert_ne!(status.code(), Some(0), "{status}");
        // A silent client alone would have held it for longer.
        assert!(began.elapsed() < Duration::from_secs(4));
        drop(silent);
    }
}
