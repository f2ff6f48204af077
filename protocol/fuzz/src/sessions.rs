//! Whole sessions: a script of frames, some right, some broken, against a
//! session and a broker that says yes to nearly everything.
//!
//! Whatever comes in, nothing panics, what goes out is whole frames, and it is
//! the same however the octets were cut into reads, and whether whole publishes
//! were looked for first or not.

use bytes::Bytes;
use leveret::model::{BrokerError, ConsumerTag, Message};
use leveret::session::{Handed, Request, Session, SessionSettings};
use leveret_protocol::method::*;
use leveret_protocol::{ContentHeader, FieldTable, FrameKind, Limits, Method, content, frame};

/// Runs one input: an octet that says how it is cut, then the script.
pub fn run(data: &[u8]) {
    let Some((&cut, script)) = data.split_first() else {
        return;
    };
    let input = wire(script);
    let whole = converse(&input, input.len().max(1), true);
    let plodding = converse(&input, input.len().max(1), false);
    assert_eq!(whole, plodding, "how a publish is taken shows");
    // Long inputs in single octets would only be slow.
    let step = (usize::from(cut) + 1).max(input.len() / 2_000);
    let pieces = converse(&input, step, true);
    assert_eq!(whole, pieces, "the cut into reads shows");
    let mut rest = whole.as_slice();
    if rest.starts_with(b"AMQP") {
        return;
    }
    while let Some((frame, size)) = frame::decode(rest, u32::MAX - 8).expect("whole frames go out")
    {
        if frame.kind == FrameKind::Method {
            Method::decode(frame.payload, &Limits::default()).expect("methods go out");
        }
        rest = &rest[size..];
    }
    assert!(rest.is_empty(), "a frame was cut off");
}

/// What the session writes when it reads `input` in pieces of `step`; whole
/// publishes are taken first if they are `wanted`.
fn converse(input: &[u8], step: usize, wanted: bool) -> Vec<u8> {
    let mut session = Session::new(SessionSettings {
        limits: Limits {
            frame_max: 8_192,
            table_depth_max: 8,
            table_entries_max: 64,
        },
        channel_max: 4,
        heartbeat_seconds: 10,
        message_bytes_max: 100_000,
        server_properties: FieldTable::new(),
    });
    let mut written = Vec::new();
    let mut buffer = Vec::new();
    for piece in input.chunks(step) {
        buffer.extend_from_slice(piece);
        let octets = Bytes::from(std::mem::take(&mut buffer));
        let mut offset = 0;
        loop {
            while wanted && let Some(publish) = session.next_publish(&octets, &mut offset) {
                answer(&mut session, Request::Publish(publish));
            }
            let Some(request) = session.next(&octets, &mut offset) else {
                break;
            };
            answer(&mut session, request);
        }
        buffer.extend_from_slice(octets.get(offset..).unwrap_or_default());
        drain(&mut session, &mut written);
        if session.is_closed() {
            break;
        }
    }
    written
}

fn answer(session: &mut Session, request: Request<'_>) {
    match request {
        Request::Login(login) if login.user.as_str() == "bad" => {
            session.login_failed(login.mechanism)
        }
        Request::Login(_) => session.logged_in(),
        Request::OpenVhost(name) if name.as_str() == "bad" => {
            session.vhost_refused(&BrokerError::NotAllowed("vhost bad not found".to_owned()));
        }
        Request::OpenVhost(_) => session.vhost_opened(),
        Request::Publish(publish) => match publish.routing_key() {
            "refused" => {
                let error = BrokerError::Forbidden("no".to_owned());
                session.refuse_publish(publish.channel, &error);
            }
            _ if publish.mandatory => session.return_unroutable(&publish),
            _ => {}
        },
        Request::Stage(publish) => session.stage(publish),
        Request::Commit { channel, publishes } => {
            assert!(publishes.iter().all(|publish| publish.channel == channel));
            session.reply(channel, &TxCommitOk {});
        }
        Request::Call { channel, method } => call(session, channel, method),
        Request::CloseChannel(channel) => {
            session.take_held(channel);
            session.channel_released(channel);
        }
        Request::CloseConnection => {
            for channel in session.channels() {
                session.take_held(channel);
            }
            session.connection_released();
        }
    }
    session.settlements().clear();
}

/// A consumer gets two messages at once; an odd method is refused.
fn call(session: &mut Session, channel: u16, method: Method<'_>) {
    match method {
        Method::BasicConsume(consume) => {
            let tag = ConsumerTag::from(consume.consumer_tag);
            let serial = session.add_consumer(channel, &tag, 0, consume.no_ack);
            session.reply(
                channel,
                &BasicConsumeOk {
                    consumer_tag: tag.as_str(),
                },
            );
            let mut header = Vec::new();
            ContentHeader {
                class_id: 60,
                body_bytes: 10_000,
                properties: &[0, 0],
            }
            .encode(&mut header);
            let message = Message::single("x", "k", &header, &[7; 10_000]);
            let handed = (0..2).map(|slot| Handed {
                slot: Some(slot),
                message: &message,
                redelivered: false,
            });
            session.deliver(serial, handed);
        }
        Method::BasicRecover(_) => {
            session.take_unsettled(channel);
            session.reply(channel, &BasicRecoverOk {});
        }
        Method::QueueDelete(_) => {
            let error = BrokerError::NotImplemented("no".to_owned());
            session.refuse(channel, (50, 40), &error);
        }
        method => session.refuse(channel, method.ids(), &BrokerError::NoPreviousQueue),
    }
}

fn drain(session: &mut Session, written: &mut Vec<u8>) {
    let output = session.output();
    while !output.is_empty() {
        let mut slices = [std::io::IoSlice::new(&[]); 4];
        let used = output.slices(&mut slices);
        let count = slices[..used].iter().map(|slice| slice.len()).sum();
        slices[..used]
            .iter()
            .for_each(|slice| written.extend_from_slice(slice));
        output.advance(count);
    }
}

/// Turns a script into octets: each step is an octet that chooses and a few
/// that fill in.
fn wire(script: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut script = script.iter().copied();
    if script.next().is_some_and(|choice| choice % 8 != 0) {
        handshake(&mut out);
    }
    while let Some(choice) = script.next() {
        let mut octet = || script.next().unwrap_or(0);
        let channel = u16::from(octet() % 6);
        match choice % 20 {
            0 => frame::encode_method(&mut out, channel, &ChannelOpen { out_of_band: "" }),
            1 => publish(&mut out, channel, octet(), octet()),
            2 => frame::encode_method(
                &mut out,
                channel,
                &ConfirmSelect {
                    nowait: octet() & 1 == 1,
                },
            ),
            3 => frame::encode_method(&mut out, channel, &TxSelect {}),
            4 => frame::encode_method(&mut out, channel, &TxCommit {}),
            5 => frame::encode_method(&mut out, channel, &TxRollback {}),
            6 => {
                let (delivery_tag, multiple) = (u64::from(octet() % 4), octet() & 1 == 1);
                frame::encode_method(
                    &mut out,
                    channel,
                    &BasicAck {
                        delivery_tag,
                        multiple,
                    },
                );
            }
            7 => {
                let (delivery_tag, bits) = (u64::from(octet() % 4), octet());
                let (multiple, requeue) = (bits & 1 == 1, bits & 2 == 2);
                frame::encode_method(
                    &mut out,
                    channel,
                    &BasicNack {
                        delivery_tag,
                        multiple,
                        requeue,
                    },
                );
            }
            8 => {
                let consume = BasicConsume {
                    no_ack: octet() & 1 == 1,
                    ..BasicConsume::default()
                };
                frame::encode_method(&mut out, channel, &consume);
            }
            9 => frame::encode_method(&mut out, channel, &ChannelClose::default()),
            10 => frame::encode_method(&mut out, channel, &ChannelCloseOk {}),
            11 => frame::encode_method(&mut out, 0, &ConnectionClose::default()),
            12 => frame::encode_method(&mut out, 0, &ConnectionCloseOk {}),
            13 => frame::encode_method(&mut out, channel, &BasicRecover { requeue: true }),
            14 => frame::encode_method(&mut out, channel, &QueueDelete::default()),
            15 => frame::encode_method(
                &mut out,
                channel,
                &ChannelFlow {
                    active: octet() & 1 == 1,
                },
            ),
            16 => out.extend_from_slice(&frame::HEARTBEAT),
            17 => {
                let kind = [FrameKind::Method, FrameKind::Header, FrameKind::Body]
                    [usize::from(octet() % 3)];
                let payload: Vec<u8> = (0..octet() % 32).map(|_| octet()).collect();
                frame::encode(&mut out, kind, channel, &payload);
            }
            18 => {
                let place = usize::from(octet());
                let length = out.len();
                if let Some(last) = out.get_mut(length.saturating_sub(place + 1)) {
                    *last = octet();
                }
            }
            _ => out.extend((0..octet() % 32).map(|_| octet())),
        }
    }
    out
}

fn handshake(out: &mut Vec<u8>) {
    out.extend_from_slice(&frame::PROTOCOL_HEADER);
    let start_ok = ConnectionStartOk {
        mechanism: "PLAIN",
        response: b"\0guest\0guest",
        ..ConnectionStartOk::default()
    };
    frame::encode_method(out, 0, &start_ok);
    let tune_ok = ConnectionTuneOk {
        channel_max: 4,
        frame_max: 4_096,
        heartbeat: 0,
    };
    frame::encode_method(out, 0, &tune_ok);
    frame::encode_method(
        out,
        0,
        &ConnectionOpen {
            virtual_host: "/",
            ..ConnectionOpen::default()
        },
    );
}

fn publish(out: &mut Vec<u8>, channel: u16, bits: u8, size: u8) {
    let routing_key = if bits & 4 == 4 { "refused" } else { "k" };
    let method = BasicPublish {
        routing_key,
        mandatory: bits & 1 == 1,
        immediate: bits & 64 == 64,
        ..BasicPublish::default()
    };
    let body = vec![7; usize::from(size) * if bits & 2 == 2 { 300 } else { 1 }];
    content::encode(out, channel, &method, &[0, 0], &body, 4_096);
}
