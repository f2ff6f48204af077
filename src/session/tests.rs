//! Scripted conversations: octets in, requests and octets out, no socket.

use bytes::Bytes;
use leveret_protocol::method::*;
use leveret_protocol::{FieldTable, FrameKind, Limits, Method, Properties, content, frame};

use super::{Delivered, Handed, Held, Request, Session, SessionSettings, Settling};
use crate::model::{BrokerError, ConsumerTag, Message, QueueName, Ticket, VhostName};

mod confirms;

fn settings() -> SessionSettings {
    SessionSettings {
        limits: Limits::default(),
        channel_max: 3,
        heartbeat_seconds: 60,
        message_bytes_max: 100_000,
        server_properties: SessionSettings::server_properties("Leveret", "3.13.7", "test"),
    }
}

/// A client with the session at the other end.
struct Conversation {
    session: Session,
    input: Vec<u8>,
}

impl Conversation {
    fn new() -> Self {
        Self {
            session: Session::new(settings()),
            input: Vec::new(),
        }
    }

    fn deliver(&mut self, serial: u32, slot: Option<u32>, message: &Message) -> Delivered {
        let redelivered = false;
        let handed = Handed {
            slot,
            message,
            redelivered,
        };
        self.session.deliver(serial, [handed])
    }

    /// Past the handshake, channel 1 open.
    fn open() -> Self {
        Self::open_as(FieldTable::new())
    }

    /// The same for a client that says this of itself.
    fn open_as(client_properties: FieldTable) -> Self {
        let mut client = Self::new();
        client.input.extend_from_slice(&frame::PROTOCOL_HEADER);
        let start_ok = ConnectionStartOk {
            client_properties,
            mechanism: "PLAIN",
            response: b"\0guest\0guest",
            locale: "en_US",
        };
        client.send(0, &start_ok);
        client.run(|request, session| match request {
            Request::Login(_) => session.logged_in(),
            other => panic!("{other:?}"),
        });
        client.send(
            0,
            &ConnectionTuneOk {
                channel_max: 3,
                frame_max: 4096,
                heartbeat: 0,
            },
        );
        let open = ConnectionOpen {
            virtual_host: "/",
            capabilities: "",
            insist: false,
        };
        client.send(0, &open);
        client.run(|request, session| match request {
            Request::OpenVhost(name) => {
                assert_eq!(name, VhostName::from("/"));
                session.vhost_opened();
            }
            other => panic!("{other:?}"),
        });
        client.send(1, &ChannelOpen { out_of_band: "" });
        client.run(|request, _| panic!("{request:?}"));
        assert!(client.session.is_running());
        client.output();
        client
    }

    fn send(&mut self, channel: u16, method: &impl EncodeMethod) {
        frame::encode_method(&mut self.input, channel, method);
    }

    fn publish(&mut self, key: &str, body: &[u8]) {
        self.publish_on(1, key, body);
    }

    fn publish_on(&mut self, channel: u16, key: &str, body: &[u8]) {
        let method = BasicPublish {
            routing_key: key,
            ..BasicPublish::default()
        };
        let mut properties = Vec::new();
        Properties::default().encode(&mut properties);
        content::encode(&mut self.input, channel, &method, &properties, body, 4096);
    }

    /// Feeds all input; the octets that were not taken stay.
    fn run(&mut self, mut answer: impl FnMut(Request<'_>, &mut Session)) {
        let input = Bytes::from(std::mem::take(&mut self.input));
        let mut offset = 0;
        loop {
            // A second session reference while a request borrows only the input.
            let Some(request) = self.session.next(&input, &mut offset) else {
                break;
            };
            answer(request, &mut self.session);
        }
        self.input = input[offset..].to_vec();
    }

    /// What was written since the last look, as methods' debug forms; content
    /// frames by kind and size.
    fn output(&mut self) -> Vec<String> {
        let mut octets = Vec::new();
        let output = self.session.output();
        while !output.is_empty() {
            let mut slices = [std::io::IoSlice::new(&[]); 8];
            let used = output.slices(&mut slices);
            let piece: Vec<u8> = slices[..used]
                .iter()
                .flat_map(|slice| slice.to_vec())
                .collect();
            output.advance(piece.len());
            octets.extend(piece);
        }
        let mut rest = octets.as_slice();
        let mut seen = Vec::new();
        while let Some((frame, size)) = frame::decode(rest, 1 << 20).unwrap() {
            seen.push(match frame.kind {
                FrameKind::Method => {
                    let method = Method::decode(frame.payload, &Limits::default()).unwrap();
                    match method {
                        Method::ChannelClose(close) => {
                            format!("{}: close {}", frame.channel, close.reply_text)
                        }
                        Method::ConnectionClose(close) => format!("close {}", close.reply_text),
                        Method::BasicAck(ack) => {
                            confirm(frame.channel, "ack", ack.delivery_tag, ack.multiple)
                        }
                        Method::BasicNack(nack) => {
                            confirm(frame.channel, "nack", nack.delivery_tag, nack.multiple)
                        }
                        Method::ConnectionBlocked(blocked) => format!("blocked {}", blocked.reason),
                        method => format!("{}: {}", frame.channel, method.name()),
                    }
                }
                kind => format!("{}: {kind:?} {}", frame.channel, frame.payload.len()),
            });
            rest = &rest[size..];
        }
        assert!(rest.is_empty(), "whole frames only");
        seen
    }
}

#[test]
fn a_publish_is_the_same_in_one_piece_and_in_single_octets() {
    let body = vec![7; 10_000];
    for step in [1, 3, 4095, 1 << 20] {
        let mut client = Conversation::open();
        for (key, size) in [("small", 3), ("empty", 0), ("large", 10_000)] {
            client.publish(key, &body[..size]);
        }
        let all = std::mem::take(&mut client.input);
        let mut seen = Vec::new();
        for piece in all.chunks(step) {
            client.input.extend_from_slice(piece);
            client.run(|request, _| match request {
                Request::Publish(publish) => {
                    seen.push((
                        publish.routing_key().to_owned(),
                        publish.body.as_body().len(),
                    ));
                }
                other => panic!("{other:?}"),
            });
        }
        let wanted = [("small", 3), ("empty", 0), ("large", 10_000)];
        let wanted: Vec<_> = wanted
            .iter()
            .map(|(key, size)| ((*key).to_owned(), *size))
            .collect();
        assert_eq!(seen, wanted, "in steps of {step}");
    }
}

#[test]
fn confirms_are_gathered_into_one_ack_per_batch() {
    let mut client = Conversation::open();
    client.send(1, &ConfirmSelect { nowait: false });
    for _ in 0..3 {
        client.publish("k", b"x");
    }
    client.run(|request, _| assert!(matches!(request, Request::Publish(_))));
    client.session.confirm_published(Ticket(0));
    client.session.confirm_published(Ticket(0));
    assert_eq!(client.output(), ["1: confirm.select-ok", "1: ack ..3"]);
}

#[test]
fn a_refused_publish_is_not_confirmed_but_those_before_it_are() {
    let mut client = Conversation::open();
    client.send(1, &ConfirmSelect { nowait: true });
    client.publish("k", b"x");
    client.publish("k", b"x");
    let mut count = 0;
    client.run(|request, session| match request {
        Request::Publish(_) => {
            count += 1;
            if count == 2 {
                session.refuse_publish(1, &BrokerError::Forbidden("no".to_owned()));
            }
        }
        Request::CloseChannel(channel) => {
            session.confirm_published(Ticket(0));
            session.channel_released(channel);
        }
        other => panic!("{other:?}"),
    });
    assert_eq!(
        client.output(),
        ["1: ack 1", "1: close ACCESS_REFUSED - no"]
    );
}

#[test]
fn a_closing_channel_ignores_all_but_the_answer_and_then_its_number_is_free() {
    let mut client = Conversation::open();
    client.send(
        1,
        &BasicAck {
            delivery_tag: 9,
            multiple: false,
        },
    );
    client.publish("late", b"x");
    client.send(
        1,
        &BasicAck {
            delivery_tag: 1,
            multiple: false,
        },
    );
    client.send(1, &ChannelCloseOk {});
    client.send(1, &ChannelOpen { out_of_band: "" });
    client.run(|request, session| match request {
        Request::CloseChannel(channel) => session.channel_released(channel),
        other => panic!("{other:?}"),
    });
    assert_eq!(
        client.output(),
        [
            "1: close PRECONDITION_FAILED - unknown delivery tag 9",
            "1: channel.open-ok"
        ]
    );
}

#[test]
fn both_sides_closing_a_channel_get_their_close_ok() {
    let mut client = Conversation::open();
    client.session.refuse(
        1,
        (50, 10),
        &BrokerError::no_queue(&QueueName::from("q"), &VhostName::from("/")),
    );
    client.run(|request, session| match request {
        Request::CloseChannel(channel) => session.channel_released(channel),
        other => panic!("{other:?}"),
    });
    client.send(1, &ChannelClose::default());
    client.send(1, &ChannelCloseOk {});
    client.send(1, &ChannelOpen { out_of_band: "" });
    client.run(|request, _| panic!("{request:?}"));
    assert_eq!(
        client.output(),
        [
            "1: close NOT_FOUND - no queue 'q' in vhost '/'",
            "1: channel.close-ok",
            "1: channel.open-ok"
        ]
    );
}

#[test]
fn deliveries_are_settled_by_tag_and_go_to_their_queue() {
    let mut client = Conversation::open();
    let serial = client
        .session
        .add_consumer(1, &ConsumerTag::from("c"), 5, false);
    let message = Message::single("", "q", &header(1), b"x");
    for slot in 10..13 {
        let delivered = client.deliver(serial, Some(slot), &message);
        assert_eq!(delivered, Delivered::Held(5));
    }
    assert_eq!(client.output().len(), 9, "method, header and body each");
    client.send(
        1,
        &BasicNack {
            delivery_tag: 2,
            multiple: true,
            requeue: true,
        },
    );
    client.send(
        1,
        &BasicAck {
            delivery_tag: 3,
            multiple: false,
        },
    );
    client.run(|request, _| panic!("{request:?}"));
    let settled: Vec<_> = client
        .session
        .settlements()
        .iter()
        .map(|one| (one.queue, one.slot, one.settling))
        .collect();
    assert_eq!(
        settled,
        [
            (5, 10, Settling::Requeue),
            (5, 11, Settling::Requeue),
            (5, 12, Settling::Ack)
        ]
    );
}

#[test]
fn a_rollback_makes_settled_deliveries_unsettled_again() {
    let mut client = Conversation::open();
    let serial = client
        .session
        .add_consumer(1, &ConsumerTag::from("c"), 5, false);
    let message = Message::single("", "q", &header(1), b"x");
    client.deliver(serial, Some(1), &message);
    client.output();
    client.send(1, &TxSelect {});
    client.publish("k", b"x");
    client.send(
        1,
        &BasicAck {
            delivery_tag: 1,
            multiple: false,
        },
    );
    client.send(1, &TxRollback {});
    client.run(|request, session| match request {
        Request::Stage(publish) => session.stage(publish),
        other => panic!("{other:?}"),
    });
    assert!(client.session.settlements().is_empty());
    assert_eq!(client.session.take_held(1), [Held { queue: 5, slot: 1 }]);

    client.send(1, &TxCommit {});
    client.run(|request, _| match request {
        Request::Commit { publishes, .. } => assert!(publishes.is_empty(), "rolled back"),
        other => panic!("{other:?}"),
    });
}

#[test]
fn a_large_body_is_framed_for_the_client_that_gets_it() {
    let mut client = Conversation::open();
    let serial = client
        .session
        .add_consumer(1, &ConsumerTag::from("c"), 0, true);
    let message = Message::single("", "q", &header(9_000), &vec![1; 9_000]);
    assert_eq!(client.deliver(serial, None, &message), Delivered::Done);
    assert_eq!(
        client.output(),
        [
            "1: basic.deliver",
            "1: Header 14",
            "1: Body 4088",
            "1: Body 4088",
            "1: Body 824"
        ]
    );
}

#[test]
fn frames_that_are_not_due_end_the_connection() {
    type Script = fn(&mut Conversation);
    let scripts: [(&str, Script, &str); 6] = [
        (
            "a body without a publish",
            |client| frame::encode(&mut client.input, FrameKind::Body, 1, b"x"),
            "close UNEXPECTED_FRAME - expected method frame, got non method frame instead",
        ),
        (
            "a method where a header is due",
            |client| {
                client.send(1, &BasicPublish::default());
                client.send(1, &BasicPublish::default());
            },
            "close UNEXPECTED_FRAME - expected content header for class 60, got non content header \
             frame instead",
        ),
        (
            "a channel that is not open",
            |client| client.send(2, &TxSelect {}),
            "close CHANNEL_ERROR - expected 'channel.open'",
        ),
        (
            "a channel opened twice",
            |client| client.send(1, &ChannelOpen { out_of_band: "" }),
            "close CHANNEL_ERROR - second 'channel.open' seen",
        ),
        (
            "more channels than agreed",
            |client| (2..=4).for_each(|n| client.send(n, &ChannelOpen { out_of_band: "" })),
            "close NOT_ALLOWED - number of channels opened (3) has reached the negotiated \
             channel_max (3)",
        ),
        (
            "a body longer than announced",
            |client| {
                client.send(1, &BasicPublish::default());
                frame::encode(&mut client.input, FrameKind::Header, 1, &header(2));
                frame::encode(&mut client.input, FrameKind::Body, 1, b"xyz");
            },
            "close FRAME_ERROR - content body exceeds the announced size",
        ),
    ];
    for (shows, script, close) in scripts {
        let mut client = Conversation::open();
        script(&mut client);
        client.run(|request, session| match request {
            Request::CloseConnection => session.connection_released(),
            other => panic!("{shows}: {other:?}"),
        });
        assert_eq!(
            client.output().last().map(String::as_str),
            Some(close),
            "{shows}"
        );
        client.send(0, &ConnectionCloseOk {});
        client.run(|request, _| panic!("{shows}: {request:?}"));
        assert!(client.session.is_closed(), "{shows}");
    }
}

#[test]
fn a_stranger_is_told_the_protocol_and_named_in_the_log() {
    for (said, guess) in [
        (&b"GET / HTTP/1.1\r\n"[..], "an HTTP request"),
        (&[0x16, 0x03, 0x01, 0, 5, 1, 0, 0], "a TLS handshake"),
        (b"AMQP\x00\x01\x00\x00", "an AMQP version other than 0-9-1"),
    ] {
        let mut client = Conversation::new();
        client.input.extend_from_slice(said);
        client.run(|request, _| panic!("{request:?}"));
        assert!(client.session.is_closed());
        assert!(client.session.end_reason().unwrap().contains(guess));
    }
}

/// A header payload for a body of that size, without properties.
fn header(body_bytes: u64) -> Vec<u8> {
    let mut header = Vec::new();
    let content = leveret_protocol::ContentHeader {
        class_id: 60,
        body_bytes,
        properties: &[0, 0],
    };
    content.encode(&mut header);
    header
}

/// A confirm as tests write it: `1: ack 3`, or `1: ack ..3` with `multiple`.
fn confirm(channel: u16, answer: &str, tag: u64, multiple: bool) -> String {
    let all = if multiple { ".." } else { "" };
    format!("{channel}: {answer} {all}{tag}")
}

#[test]
fn only_a_client_that_wants_to_know_is_told_that_it_is_blocked() {
    let capabilities: FieldTable = [("connection.blocked", true)].into_iter().collect();
    let knowing: FieldTable = [("capabilities", capabilities)].into_iter().collect();
    for (properties, told) in [
        (
            knowing,
            &["blocked low on disk", "0: connection.unblocked"][..],
        ),
        (FieldTable::new(), &[]),
    ] {
        let mut client = Conversation::open_as(properties);
        client.session.blocked("low on disk");
        client.session.unblocked();
        assert_eq!(client.output(), told);
        client.session.force_close("shutdown");
        client.session.blocked("low on disk");
        assert_eq!(client.output(), [""; 0], "it has other worries");
    }
}
