//! Signs of life (WIRE.md section 1). These tests take real time, which is
//! counted in the server's own heartbeats.

use std::time::{Duration, Instant};

use leveret_protocol::FrameKind;
use leveret_protocol::frame::HEARTBEAT;

use crate::support::client::{Client, PATIENCE};
use crate::support::handshake::Login;

fn every_second() -> Client {
    let mut client = Client::connect_with(&Login {
        heartbeat: 1,
        ..Login::default()
    });
    client.open_channel(1);
    client
}

#[test]
fn any_octets_keep_a_client_alive_and_the_server_sends_its_own_heartbeats() {
    let mut client = every_second();
    let began = Instant::now();
    // One octet of a heartbeat frame for each of the server's: never a whole
    // frame within the two or three seconds after which a peer is given up.
    for octet in HEARTBEAT {
        client.expect_heartbeat(Duration::from_millis(2_500));
        client.send_bytes(&[octet]);
    }
    assert!(
        began.elapsed() > Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    client.sync(1);
}

#[test]
fn a_silent_client_is_dropped_and_one_without_heartbeats_is_not() {
    let mut without = Client::with_channel();
    let mut silent = every_second();
    let began = Instant::now();
    silent.expect_end();
    let elapsed = began.elapsed();
    assert!(
        elapsed > Duration::from_millis(1_500) && elapsed < PATIENCE,
        "{elapsed:?}"
    );
    without.sync(1);
    assert_eq!(without.heartbeats, 0);
}

#[test]
fn a_heartbeat_on_a_channel_is_505() {
    let mut client = Client::with_channel();
    client.send_frame(FrameKind::Heartbeat, 1, &[]);
    client.expect_connection_close(505, "UNEXPECTED_FRAME - *");
}

#[test]
fn heartbeats_are_welcome_even_if_none_were_agreed() {
    let mut client = Client::with_channel();
    client.send_bytes(&HEARTBEAT);
    client.sync(1);
}
