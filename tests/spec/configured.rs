//! What Leveret's configuration changes on the wire; no RabbitMQ takes part.

use leveret_protocol::frame::{FrameKind, PROTOCOL_HEADER};
use leveret_protocol::method::*;
use leveret_protocol::{FieldValue, Properties};

use crate::support::broker::leveret_with;
use crate::support::client::{Client, PATIENCE};
use crate::support::handshake::Login;
use crate::support::leveret_only;

#[test]
fn a_dripping_handshake_has_one_deadline_for_all_of_it() {
    // RELIABILITY.md, bug museum 40: each octet must not renew the time.
    leveret_only!("needs a short handshake timeout");
    let address = leveret_with("[amqp]\nhandshake_timeout = \"400 ms\"\n");
    let began = std::time::Instant::now();
    let mut client = Client::dial_at(address);
    for octet in PROTOCOL_HEADER.iter().cycle().take(20) {
        client.send_bytes(&[*octet]);
        std::thread::sleep(std::time::Duration::from_millis(50));
        if began.elapsed() > PATIENCE {
            break;
        }
    }
    client.expect_end();
    assert!(
        began.elapsed() < std::time::Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    // A connection that is open is not bound by it.
    Client::connect_at(address, &Login::default()).open_channel(1);
}

#[test]
fn a_silent_handshake_is_ended() {
    leveret_only!("needs a short handshake timeout");
    let address = leveret_with("[amqp]\nhandshake_timeout = \"200 ms\"\n");
    let mut open = Client::connect_at(address, &Login::default());
    let mut silent = Client::dial_at(address);
    silent.expect_silent_end();
    let mut greeted = Client::dial_at(address);
    greeted.greet();
    greeted.expect_end();
    open.open_channel(1);
}

#[test]
fn tune_proposes_what_is_configured() {
    leveret_only!("needs its own tune values");
    let address =
        leveret_with("[amqp]\nframe_max = \"8 KiB\"\nchannel_max = 10\nheartbeat = \"30 s\"\n");
    let mut client = Client::dial_at(address);
    client.greet();
    let tune = client.log_in(&Login::default());
    assert_eq!(
        tune,
        ConnectionTune {
            channel_max: 10,
            frame_max: 8_192,
            heartbeat: 30
        }
    );
}

#[test]
fn the_server_calls_itself_what_is_configured() {
    leveret_only!("needs its own names");
    let address = leveret_with(
        "[server]\nproduct = \"Hare\"\nversion = \"4.1.0\"\ncluster_name = \"field\"\n",
    );
    let start = Client::dial_at(address).greet();
    for (name, text) in [
        ("product", "Hare"),
        ("version", "4.1.0"),
        ("cluster_name", "field"),
    ] {
        assert_eq!(
            start.server_properties.get(name),
            Some(&FieldValue::from(text))
        );
    }
}

#[test]
fn a_message_one_octet_above_the_limit_is_406() {
    leveret_only!("needs a small message limit");
    let address = leveret_with("[limits]\nmessage_size_max = \"1 KiB\"\n");
    let mut client = Client::connect_at(address, &Login::default());
    client.open_channel(1);
    let queue = client.temp_queue(1);
    client.fill(queue, &[&"x".repeat(1_024)]);
    client.publish(1, "", queue, &"x".repeat(1_025));
    let text = "PRECONDITION_FAILED - message size 1025 is larger than configured max size 1024";
    assert_eq!(client.expect_channel_close(1, 406, text), (60, 40));
    client.open_channel(1);
    assert_eq!(client.look_up(queue), Some((1, 0)));

    // Announced and never sent: nothing is reserved for it.
    client.send(
        1,
        &BasicPublish {
            routing_key: queue,
            ..BasicPublish::default()
        },
    );
    client.send_header(1, &Properties::default(), u64::MAX);
    client.expect_channel_close(
        1,
        406,
        "PRECONDITION_FAILED - message size 18446744073709551615 is larger than *",
    );
}

#[test]
fn users_log_in_by_their_own_passwords_and_open_their_own_virtual_hosts() {
    leveret_only!("needs users and virtual hosts");
    let address = leveret_with(
        "[[vhost]]\nname = \"orders\"\n\
         [[user]]\nname = \"anna\"\npassword = \"secret\"\nvhosts = [\"orders\"]\n",
    );
    let anna = Login {
        user: "anna",
        password: "secret",
        vhost: "orders",
        ..Login::default()
    };
    let mut client = Client::connect_at(address, &anna);
    client.open_channel(1);
    client.refused(
        1,
        &QueueDeclare {
            queue: "q",
            passive: true,
            ..QueueDeclare::default()
        },
        404,
        "NOT_FOUND - no queue 'q' in vhost 'orders'",
    );

    let mut client = Client::dial_at(address);
    client.greet();
    client.log_in(&anna);
    client.tune_ok(2047, 131_072, 0);
    client.send(
        0,
        &ConnectionOpen {
            virtual_host: "/",
            ..ConnectionOpen::default()
        },
    );
    client.expect_connection_close(
        530,
        "NOT_ALLOWED - access to vhost '/' refused for user 'anna'",
    );

    // Users of one's own replace the guest.
    let mut client = Client::dial_at(address);
    client.greet();
    client.start_ok(&Login::default(), "PLAIN", &Login::default().plain());
    client.expect_connection_close(403, "ACCESS_REFUSED - *");
}

#[test]
fn virtual_hosts_are_worlds_of_their_own() {
    leveret_only!("needs virtual hosts");
    let address = leveret_with(
        "[[vhost]]\nname = \"b\"\n\
         [[user]]\nname = \"guest\"\npassword = \"guest\"\nvhosts = [\"/\", \"b\"]\n",
    );
    let mut one = Client::connect_at(address, &Login::default());
    let mut other = Client::connect_at(
        address,
        &Login {
            vhost: "b",
            ..Login::default()
        },
    );
    for client in [&mut one, &mut other] {
        client.open_channel(1);
        client.declare(
            1,
            &QueueDeclare {
                queue: "same",
                ..QueueDeclare::default()
            },
        );
        client.bind(1, "same", "amq.fanout", "");
    }
    one.publish_confirmed(&[("amq.fanout", "", "in one only")]);
    assert_eq!(one.look_up("same"), Some((1, 0)));
    assert_eq!(other.look_up("same"), Some((0, 0)));
}

#[test]
fn a_connection_above_a_limit_is_530() {
    leveret_only!("needs a small connection limit");
    for limit in ["connections_per_user_max", "connections_per_vhost_max"] {
        let address = leveret_with(&format!("[limits]\n{limit} = 1\n"));
        let first = Client::connect_at(address, &Login::default());
        let mut second = Client::dial_at(address);
        second.greet();
        second.log_in(&Login::default());
        second.tune_ok(2047, 131_072, 0);
        second.send(
            0,
            &ConnectionOpen {
                virtual_host: "/",
                ..ConnectionOpen::default()
            },
        );
        second.expect_connection_close(530, "NOT_ALLOWED - *");
        first.close();
    }
}

#[test]
fn tables_beyond_configured_limits_are_502() {
    leveret_only!("needs small table limits");
    let address = leveret_with("[limits]\ntable_entries_max = 10\n");
    let mut client = Client::connect_at(address, &Login::default());
    client.open_channel(1);
    let queue = client.temp_queue(1);
    let arguments = (0..11).map(|at| (at.to_string(), true)).collect();
    client.send(
        1,
        &QueueBind {
            queue,
            exchange: "amq.headers",
            arguments,
            ..QueueBind::default()
        },
    );
    client.expect_connection_close(502, "SYNTAX_ERROR - *");
}

#[test]
fn frames_are_bound_by_the_configured_size() {
    leveret_only!("needs its own frame size");
    let address = leveret_with("[amqp]\nframe_max = \"1 MiB\"\n");
    let mut client = Client::connect_at(address, &Login::default());
    client.open_channel(1);
    let queue = client.temp_queue(1);
    let body = "x".repeat(1_000_000);
    client.fill(queue, &[&body]);
    let delivery = client.get(1, queue, true).expect("a message");
    assert_eq!(delivery.content.frame_sizes, [1_000_000]);
    client.send_frame(FrameKind::Body, 1, &vec![b'x'; (1 << 20) + 1]);
    client.expect_connection_close(501, "FRAME_ERROR - *");
}

#[test]
fn a_bound_on_handshakes_is_none_on_open_connections() {
    leveret_only!("needs a small number of handshakes");
    let address = leveret_with("[amqp]\nhandshakes_max = 1\n");
    let mut open: Vec<_> = (0..5)
        .map(|_| Client::connect_at(address, &Login::default()))
        .collect();
    for client in &mut open {
        client.open_channel(1);
    }
}
