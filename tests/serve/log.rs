//! What the log says of connections, and what it never says.

use leveret_protocol::method::*;
use leveret_protocol::{FieldValue, Method};

use super::process::{Serve, Start};
use crate::support::client::{Client, PATIENCE};
use crate::support::handshake::Login;
use crate::support::matched;

/// Sends a login and takes the refusal.
#[track_caller]
fn refused(serve: &Serve, login: &Login) {
    let mut client = Client::dial_at(serve.address());
    client.greet();
    client.start_ok(login, "PLAIN", &login.plain());
    matched!(client.next_method(0), Method::ConnectionClose(close) => {
        assert_eq!(close.reply_code, 403, "{}", close.reply_text);
    });
}

#[test]
fn connections_have_a_line_when_they_open_and_when_they_close() {
    let mut serve = Serve::new(&[]);
    serve.client().close();
    let line = serve.await_log("connection opened");
    for part in [
        "INFO",
        "peer=127.0.0.1:",
        "user=\"guest\"",
        "vhost=\"/\"",
        "leveret-spec",
    ] {
        assert!(line.contains(part), "no {part} in {line}");
    }
    let line = serve.await_log("connection closed");
    for part in [
        "INFO",
        "peer=127.0.0.1:",
        "user=\"guest\"",
        "reason=",
        "200",
    ] {
        assert!(line.contains(part), "no {part} in {line}");
    }

    serve.client().drop_socket();
    let line = serve.await_log("connection closed");
    assert!(line.contains("the client closed the socket"), "{line}");

    let mut client = serve.client();
    client.send(0, &ChannelClose::default());
    client.expect_connection_close(504, "CHANNEL_ERROR - *");
    let line = serve.await_log("connection closed");
    assert!(line.contains("CHANNEL_ERROR"), "{line}");

    let open = serve.client();
    serve.signal("TERM");
    let line = serve.await_log("connection closed");
    assert!(line.contains("reason 'shutdown'"), "{line}");
    drop(open);
    let log = serve.whole_log();
    for (text, count) in [
        ("connection opened", 4),
        ("connection closed", 4),
        ("connection refused", 0),
    ] {
        assert_eq!(log.matches(text).count(), count, "{text}:\n{log}");
    }
}

#[test]
fn refused_connections_say_why() {
    let mut serve = Serve::with_file("[amqp]\nhandshake_timeout = \"300ms\"\n");
    refused(
        &serve,
        &Login {
            user: "somebody",
            password: "wrong",
            ..Login::default()
        },
    );
    let line = serve.await_log("login refused");
    for part in [
        "WARN",
        "peer=127.0.0.1:",
        "user=\"somebody\"",
        "invalid credentials",
    ] {
        assert!(line.contains(part), "no {part} in {line}");
    }
    let line = serve.await_log("connection refused");
    assert!(line.contains("ACCESS_REFUSED"), "{line}");

    Client::dial_at(serve.address()).expect_end();
    let line = serve.await_log("connection refused");
    assert!(line.contains("handshake timed out"), "{line}");

    let mut client = Client::dial_at(serve.address());
    client.send_bytes(b"GET / HTTP/1.1\r\n\r\n");
    client.bytes_until_end();
    let line = serve.await_log("connection refused");
    assert!(line.contains("peer=127.0.0.1:"), "{line}");

    let mut client = Client::dial_at(serve.address());
    client.greet();
    client.log_in(&Login::default());
    client.tune_ok(2047, 131_072, 0);
    matched!(client.open("nowhere"), Method::ConnectionClose(close) => {
        assert_eq!(close.reply_code, 530, "{}", close.reply_text);
    });
    client.send(0, &ConnectionCloseOk {});
    let line = serve.await_log("connection refused");
    for part in ["user=\"guest\"", "vhost nowhere not found"] {
        assert!(line.contains(part), "no {part} in {line}");
    }
    let log = serve.log_so_far();
    assert!(!log.contains("connection opened"), "{log}");
    assert!(!log.contains("connection closed"), "{log}");
}

#[test]
fn json_lines_have_the_same_fields() {
    let mut serve = Serve::new(&["--log-format=json"]);
    serve.client().close();
    refused(
        &serve,
        &Login {
            user: "some\"body\n",
            ..Login::default()
        },
    );
    serve.await_log("connection refused");
    serve.signal("TERM");
    let log = serve.whole_log();
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let line = |message: &str| {
        lines
            .iter()
            .find(|line| line["message"] == message)
            .unwrap_or_else(|| panic!("no {message} in\n{log}"))
    };
    for (message, field, value) in [
        ("connection opened", "level", "INFO"),
        ("connection opened", "user", "guest"),
        ("connection opened", "vhost", "/"),
        ("connection opened", "client", "leveret-spec"),
        ("connection closed", "user", "guest"),
        ("login refused", "level", "WARN"),
        ("login refused", "user", "some\"body\n"),
        ("login refused", "reason", "invalid credentials"),
    ] {
        assert_eq!(line(message)[field], value, "{message}");
    }
    for message in [
        "connection opened",
        "connection closed",
        "connection refused",
    ] {
        let peer = line(message)["peer"].as_str().unwrap_or_default();
        assert!(peer.starts_with("127.0.0.1:"), "{message}: {peer:?}");
    }
    let reason = line("connection refused")["reason"].as_str();
    assert!(reason.is_some_and(|reason| reason.contains("ACCESS_REFUSED")));
}

/// Whatever a client calls itself, its line is one line, and no escape sequence
/// reaches a terminal.
#[test]
fn names_do_not_forge_lines() {
    const FORGED: &str = "x\nINFO leveret: all is well\r\u{1b}[31m\u{9b}31m\u{2028}";
    let mut serve = Serve::new(&["--log-level=trace"]);
    refused(
        &serve,
        &Login {
            user: FORGED,
            ..Login::default()
        },
    );
    let mut client = Client::dial_at(serve.address());
    client.greet();
    let mut properties = Login::default().client_properties();
    properties.insert("connection_name", FieldValue::from(FORGED));
    properties.insert("product", FieldValue::from(FORGED));
    let login = Login::default();
    client.send(
        0,
        &ConnectionStartOk {
            client_properties: properties,
            mechanism: "PLAIN",
            response: &login.plain(),
            locale: "en_US",
        },
    );
    matched!(client.next_method(0), Method::ConnectionTune(_) => ());
    client.tune_ok(2047, 131_072, 0);
    matched!(client.open("/"), Method::ConnectionOpenOk(_) => ());
    client.open_channel(1);
    let missing = QueueDeclare {
        queue: FORGED,
        passive: true,
        ..QueueDeclare::default()
    };
    matched!(client.call(1, &missing), Method::ChannelClose(_) => ());
    client.send(
        0,
        &ConnectionClose {
            reply_code: 200,
            reply_text: FORGED,
            ..ConnectionClose::default()
        },
    );
    serve.await_log("connection closed");
    serve.signal("TERM");
    let log = serve.whole_log();
    for line in log.split('\n').filter(|line| !line.is_empty()) {
        assert!(line.starts_with("20"), "no time: {line:?}");
        assert!(
            !line.contains(|letter: char| letter.is_control() || letter == '\u{2028}'),
            "{line:?}"
        );
    }
}

/// RELIABILITY.md, bug museum 45.
#[test]
fn passwords_are_never_in_the_log() {
    let user = |password: &str| {
        format!("[[user]]\nname = \"operator\"\npassword = \"{password}\"\nvhosts = [\"/\"]\n")
    };
    let login = |password| Login {
        user: "operator",
        password,
        ..Login::default()
    };
    for format in ["text", "json"] {
        let mut serve = Start::new(&[
            "--amqp=127.0.0.1:0",
            "--config=leveret.toml",
            "--log-level=trace",
            "--log-format",
            format,
        ])
        .file(&user("canary-in-the-file"))
        .start();
        serve.client_with(&login("canary-in-the-file")).close();
        refused(&serve, &login("canary-that-is-wrong"));
        refused(
            &serve,
            &Login {
                user: "nobody",
                ..login("canary-of-nobody")
            },
        );
        amqplain(&serve, &login("canary-in-the-file"));
        amqplain(&serve, &login("canary-that-is-wrong"));
        broken_start_ok(&serve);
        for (text, said) in [
            (user("canary-new"), "users replaced"),
            (
                user("canary-unclosed").replace("unclosed\"", "unclosed"),
                "not applied",
            ),
            (
                "[[user]]\nname = \"x\"\npassword = [\"canary-list\"]\n".to_owned(),
                "not applied",
            ),
            (
                "[[user]]\nname = \"x\"\npassword_hash = \"canary-hash\"\n".to_owned(),
                "not applied",
            ),
            (
                "[[user]]\nname = \"x\"\npassword = canary-bare\n".to_owned(),
                "not applied",
            ),
            (
                "[[user]]\nname = \"x\"\npassword = \"\"\"\ncanary-lines\n".to_owned(),
                "not applied",
            ),
            (
                "[[user]]\nname = \"x\"\npassword = \"canary\\q-escape\"\n".to_owned(),
                "not applied",
            ),
        ] {
            serve.reload(&text);
            serve.await_log(said);
        }
        serve.signal("TERM");
        serve.await_exit(PATIENCE);
        let log = serve.whole_log();
        assert!(log.contains("connection opened"), "{log}");
        assert!(!log.contains("canary"), "{log}");
        // Nor as a list of octets.
        assert!(!log.contains("99, 97, 110, 97, 114, 121"), "{log}");
    }
}

fn amqplain(serve: &Serve, login: &Login) {
    let mut client = Client::dial_at(serve.address());
    client.greet();
    client.start_ok(login, "AMQPLAIN", &login.amqplain());
    client.next_method(0);
}

/// Logins that cannot be understood.
fn broken_start_ok(serve: &Serve) {
    let login = Login::default();
    for (mechanism, response) in [
        ("PLAIN", &b"canary-without-zeros"[..]),
        ("PLAIN", b"\0operator\0canary\0and-more"),
        ("PLAIN", b"\0operator\0canary-\xff"),
        ("AMQPLAIN", b"canary-that-is-no-table"),
        ("EXTERNAL", b"canary-of-another"),
    ] {
        let mut client = Client::dial_at(serve.address());
        client.greet();
        client.start_ok(&login, mechanism, response);
        client.next_method(0);
    }
}
