//! From the first octet to an open connection (WIRE.md section 1).

use leveret_protocol::frame::PROTOCOL_HEADER;
use leveret_protocol::method::*;
use leveret_protocol::{FieldTable, FieldValue, FrameKind, Method};

use crate::support::client::Client;
use crate::support::handshake::Login;
use crate::support::{leveret_only, matched};

const LOGIN_REFUSED: &str = "ACCESS_REFUSED - Login was refused using authentication mechanism \
                             PLAIN. For details see the broker logfile.";

#[test]
fn both_forms_of_the_protocol_header_start_a_connection() {
    for header in [PROTOCOL_HEADER, *b"AMQP\x01\x01\x00\x09"] {
        let mut client = Client::dial();
        client.send_bytes(&header);
        matched!(client.next_method(0), Method::ConnectionStart(start) => {
            assert_eq!((start.version_major, start.version_minor), (0, 9));
        });
    }
}

#[test]
fn a_protocol_header_may_arrive_octet_by_octet() {
    let mut client = Client::dial();
    for octet in PROTOCOL_HEADER {
        client.send_bytes(&[octet]);
    }
    matched!(client.next_method(0), Method::ConnectionStart(_) => ());
}

#[test]
fn any_other_header_is_told_the_right_one_and_closed() {
    for (shows, header) in [
        ("another protocol version", &b"AMQP\x00\x00\x09\x02"[..]),
        ("AMQP 0-10", b"AMQP\x01\x01\x00\x0a"),
        ("an HTTP request", b"GET / HTTP/1.1\r\n\r\n"),
        (
            "a TLS ClientHello",
            b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03",
        ),
        ("anything else", b"SSH-2.0-OpenSSH"),
    ] {
        let mut client = Client::dial();
        client.send_bytes(header);
        assert_eq!(client.bytes_until_end(), PROTOCOL_HEADER, "{shows}");
    }
}

#[test]
fn start_offers_the_mechanisms_and_the_locale_that_clients_look_for() {
    let start = Client::dial().greet();
    let mechanisms = std::str::from_utf8(start.mechanisms).expect("text");
    let mechanisms: Vec<_> = mechanisms.split(' ').collect();
    assert!(
        mechanisms.contains(&"PLAIN") && mechanisms.contains(&"AMQPLAIN"),
        "{mechanisms:?}"
    );
    assert_eq!(start.locales, b"en_US");
}

#[test]
fn start_describes_the_server_and_what_it_can_do() {
    let properties = Client::dial().greet().server_properties;
    for name in [
        "cluster_name",
        "copyright",
        "information",
        "platform",
        "product",
        "version",
    ] {
        let text = properties.get(name).and_then(FieldValue::as_str);
        assert!(
            text.is_some_and(|text| !text.is_empty()),
            "{name}: {text:?}"
        );
    }
    let capabilities =
        matched!(properties.get("capabilities"), Some(FieldValue::Table(table)) => table);
    for name in [
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "consumer_priorities",
        "authentication_failure_close",
        "per_consumer_qos",
        "direct_reply_to",
    ] {
        assert_eq!(
            capabilities.get(name),
            Some(&FieldValue::Bool(true)),
            "{name}"
        );
    }
}

#[test]
fn the_version_is_one_that_frameworks_take_for_a_recent_rabbitmq() {
    let properties = Client::dial().greet().server_properties;
    let version = properties
        .get("version")
        .and_then(FieldValue::as_str)
        .expect("a version");
    let mut parts = version
        .split('.')
        .map(|part| part.parse::<u32>().expect("numbers"));
    let major_minor = (parts.next().expect("major"), parts.next().expect("minor"));
    assert!(major_minor >= (3, 10), "{version}");
}

#[test]
fn plain_and_amqplain_log_in() {
    let login = Login::default();
    for (mechanism, response) in [("PLAIN", login.plain()), ("AMQPLAIN", login.amqplain())] {
        let mut client = Client::dial();
        client.greet();
        client.start_ok(&login, mechanism, &response);
        matched!(client.next_method(0), Method::ConnectionTune(_) => ());
    }
}

#[test]
fn a_client_without_properties_can_log_in() {
    let mut client = Client::dial();
    client.greet();
    let response = Login::default().plain();
    client.send(
        0,
        &ConnectionStartOk {
            client_properties: FieldTable::new(),
            mechanism: "PLAIN",
            response: &response,
            locale: "en_US",
        },
    );
    matched!(client.next_method(0), Method::ConnectionTune(_) => ());
}

#[test]
fn a_bad_login_is_told_so_if_the_client_can_hear_it() {
    for (shows, user, password) in [
        ("wrong password", "guest", "wrong"),
        ("empty password", "guest", ""),
        ("unknown user, the same text", "nobody", "guest"),
    ] {
        let login = Login {
            user,
            password,
            ..Login::default()
        };
        let mut client = Client::dial();
        client.greet();
        client.start_ok(&login, "PLAIN", &login.plain());
        assert_eq!(
            client.expect_connection_close(403, LOGIN_REFUSED),
            (0, 0),
            "{shows}"
        );
    }
}

#[test]
fn a_bad_login_without_the_capability_just_loses_the_socket() {
    let login = Login {
        password: "wrong",
        capabilities: &[],
        ..Login::default()
    };
    let mut client = Client::dial();
    client.greet();
    client.start_ok(&login, "PLAIN", &login.plain());
    client.expect_silent_end();
}

#[test]
fn a_bad_amqplain_login_names_its_mechanism() {
    let login = Login {
        password: "wrong",
        ..Login::default()
    };
    let mut client = Client::dial();
    client.greet();
    client.start_ok(&login, "AMQPLAIN", &login.amqplain());
    client.expect_connection_close(
        403,
        "ACCESS_REFUSED - Login was refused using authentication mechanism AMQPLAIN. For details \
         see the broker logfile.",
    );
}

#[test]
fn a_malformed_response_does_not_get_in() {
    let login = Login::default();
    std::thread::scope(|scope| {
        for (mechanism, response) in [
            ("PLAIN", &b""[..]),
            ("PLAIN", b"guest"),
            ("PLAIN", b"\0guest"),
            ("PLAIN", b"\0guest\0guest\0guest"),
            ("PLAIN", b"\0\xff\xfe\0guest"),
            ("AMQPLAIN", b""),
            ("AMQPLAIN", b"\x05LOGINS\xff\xff\xff\xff"),
            ("AMQPLAIN", b"\x05LOGINS\0\0\0\x05guest"),
        ] {
            let login = &login;
            scope.spawn(move || {
                let mut client = Client::dial();
                client.greet();
                client.start_ok(login, mechanism, response);
                client.expect_end();
            });
        }
    });
}

#[test]
fn an_unknown_mechanism_is_503() {
    leveret_only!("RabbitMQ closes the socket after a delay and says nothing before login");
    let mut client = Client::dial();
    client.greet();
    client.start_ok(&Login::default(), "KERBEROS_V4", b"");
    client.expect_connection_close(
        503,
        "COMMAND_INVALID - unknown authentication mechanism 'KERBEROS_V4'",
    );
}

#[test]
fn an_unknown_mechanism_does_not_get_in() {
    let mut client = Client::dial();
    client.greet();
    client.start_ok(&Login::default(), "KERBEROS_V4", b"");
    client.expect_end();
}

#[test]
fn a_missing_virtual_host_is_530() {
    let mut client = Client::dial();
    client.greet();
    client.log_in(&Login::default());
    client.tune_ok(2047, 131_072, 0);
    client.send(
        0,
        &ConnectionOpen {
            virtual_host: "nowhere",
            ..ConnectionOpen::default()
        },
    );
    client.expect_connection_close(530, "NOT_ALLOWED - vhost nowhere not found");
}

#[test]
fn tune_proposes_what_clients_are_used_to() {
    let mut client = Client::dial();
    client.greet();
    let tune = client.log_in(&Login::default());
    assert_eq!(
        tune,
        ConnectionTune {
            channel_max: 2047,
            frame_max: 131_072,
            heartbeat: 60
        }
    );
}

#[test]
fn tune_ok_may_ask_for_less() {
    let login = Login {
        channel_max: Some(10),
        frame_max: Some(4_096),
        ..Login::default()
    };
    let mut client = Client::connect_with(&login);
    client.open_channel(1);
    let queue = client.temp_queue(1);
    let body = "x".repeat(10_000);
    client.publish(1, "", queue, &body);
    client.consume(1, queue, true);
    let delivery = client.delivery(1);
    assert_eq!(delivery.text(), body);
    assert_eq!(delivery.content.frame_sizes, [4_088, 4_088, 1_824]);
}

#[test]
fn tune_ok_out_of_bounds_is_530() {
    leveret_only!("RabbitMQ closes the socket after a delay and says nothing before login");
    for (channel_max, frame_max, text) in [
        (
            2047,
            0,
            "NOT_ALLOWED - negotiated frame_max = 0 is higher than the maximum allowed value (131072)",
        ),
        (
            2047,
            131_073,
            "NOT_ALLOWED - negotiated frame_max = 131073 is higher than the maximum allowed value (131072)",
        ),
        (
            2047,
            4_095,
            "NOT_ALLOWED - negotiated frame_max = 4095 is lower than the minimum allowed value (*",
        ),
        (0, 131_072, "NOT_ALLOWED - negotiated channel_max = 0*"),
        (
            2048,
            131_072,
            "NOT_ALLOWED - negotiated channel_max = 2048 is higher than the maximum allowed value (2047)",
        ),
    ] {
        let mut client = Client::dial();
        client.greet();
        client.log_in(&Login::default());
        client.tune_ok(channel_max, frame_max, 0);
        client.expect_connection_close(530, text);
    }
}

#[test]
fn channel_max_bounds_how_many_are_open_and_not_their_numbers() {
    let mut client = Client::connect_with(&Login {
        channel_max: Some(2),
        ..Login::default()
    });
    client.open_channel(65_535);
    client.open_channel(7);
    client.close_channel(7);
    client.open_channel(8);
    client.send(9, &ChannelOpen::default());
    client.expect_connection_close(
        530,
        "NOT_ALLOWED - number of channels opened (2) has reached the negotiated channel_max (2)",
    );
}

#[test]
fn the_first_method_must_be_start_ok() {
    let mut client = Client::dial();
    client.greet();
    client.send(
        0,
        &ConnectionOpen {
            virtual_host: "/",
            ..ConnectionOpen::default()
        },
    );
    client.expect_end();
}

#[test]
fn a_channel_cannot_be_opened_before_the_connection_is() {
    let mut client = Client::dial();
    client.greet();
    client.log_in(&Login::default());
    client.send(1, &ChannelOpen::default());
    client.expect_end();
}

#[test]
fn frames_before_login_are_kept_small() {
    std::thread::scope(|scope| {
        for announced in [16_384, 1 << 20, 1 << 31] {
            scope.spawn(move || {
                let mut client = Client::dial();
                client.greet();
                let mut wire = Vec::new();
                leveret_protocol::frame::encode_header(&mut wire, FrameKind::Method, 0, announced);
                client.send_bytes(&wire);
                client.expect_end();
            });
        }
    });
}

#[test]
fn open_ok_answers_open_and_close_ok_answers_close() {
    let client = Client::connect();
    client.close();
}

#[test]
fn a_fresh_secret_is_taken() {
    let mut client = Client::connect();
    let update = ConnectionUpdateSecret {
        new_secret: b"guest",
        reason: "rotation",
    };
    matched!(client.call(0, &update), Method::ConnectionUpdateSecretOk(_) => ());
}
