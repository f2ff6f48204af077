//! Conversations of a producer and a consumer with a scripted broker, for what a real one does
//! only when it is in trouble.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use bytes::BytesMut;
use leveret_protocol::method::{
    BasicAck, BasicCancel, BasicConsumeOk, BasicDeliver, BasicNack, ChannelOpenOk, ConfirmSelectOk,
    ConnectionBlocked, ConnectionClose, ConnectionOpenOk, ConnectionStart, ConnectionTune,
    ConnectionUnblocked, EncodeMethod,
};
use leveret_protocol::{ContentHeader, FrameKind, Limits, Method, OwnedFrame, content, frame};

use super::args::BenchArgs;
use super::client::ClientError;
use super::consumer::{Consumer, ConsumerOutcome};
use super::producer::{Producer, ProducerOutcome};
use super::scenario::Scenario;
use super::shared::{self, Clock, ConsumerCounters, ProducerCounters, Signals};
use super::stamp::Stamp;

/// The broker's side of one connection.
pub struct Script {
    stream: TcpStream,
    read: BytesMut,
}

impl Script {
    fn accept(listener: &TcpListener) -> Self {
        Self::accept_with(listener, 1)
    }

    /// Lets the tool open so many channels, of which it opens the first at once.
    pub fn accept_with(listener: &TcpListener, channel_max: u16) -> Self {
        let (stream, _) = listener.accept().expect("the tool connects");
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("it is a socket");
        let mut script = Self {
            stream,
            read: BytesMut::new(),
        };
        let mut header = [0; 8];
        script.stream.read_exact(&mut header).expect("a header");
        assert_eq!(header, frame::PROTOCOL_HEADER);
        script.say(
            0,
            &ConnectionStart {
                version_minor: 9,
                mechanisms: b"PLAIN",
                locales: b"en_US",
                ..ConnectionStart::default()
            },
        );
        script.expect("connection.start-ok");
        script.say(
            0,
            &ConnectionTune {
                channel_max,
                frame_max: 4_096,
                heartbeat: 60,
            },
        );
        script.expect("connection.tune-ok");
        script.expect("connection.open");
        script.say(0, &ConnectionOpenOk::default());
        script.expect("channel.open");
        script.say(1, &ChannelOpenOk::default());
        script
    }

    pub fn say(&mut self, channel: u16, method: &impl EncodeMethod) {
        let mut out = Vec::new();
        frame::encode_method(&mut out, channel, method);
        self.stream.write_all(&out).expect("the tool listens");
    }

    /// The next frame; `None` if nothing comes for a while.
    fn next(&mut self) -> Option<OwnedFrame> {
        loop {
            if let Some(frame) = frame::take(&mut self.read, 4_096).expect("frames are valid") {
                return Some(frame);
            }
            let mut piece = [0; 4_096];
            let count = self.stream.read(&mut piece).ok()?;
            assert_ne!(count, 0, "the tool hung up");
            self.read.extend_from_slice(&piece[..count]);
        }
    }

    /// The channel on which that method comes next.
    pub fn expect(&mut self, name: &str) -> u16 {
        let frame = self.next().expect("a frame");
        let method = Method::decode(&frame.payload, &Limits::default()).expect("a method");
        assert_eq!(method.name(), name);
        frame.channel
    }

    /// Skips whole messages until nothing comes for `quiet`; how many there were.
    fn publishes_until_quiet(&mut self, quiet: Duration) -> u64 {
        self.stream
            .set_read_timeout(Some(quiet))
            .expect("it is a socket");
        let mut messages = 0;
        while let Some(frame) = self.next() {
            messages += u64::from(frame.kind == FrameKind::Header);
        }
        self.stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("it is a socket");
        messages
    }

    /// The next message's body.
    pub fn publish(&mut self) -> Vec<u8> {
        self.expect("basic.publish");
        let header = self.next().expect("a header");
        let header = ContentHeader::decode(&header.payload).expect("a header");
        let body_bytes = header.body_bytes;
        let mut body = Vec::new();
        while (body.len() as u64) < body_bytes {
            body.extend_from_slice(&self.next().expect("a body").payload);
        }
        body
    }

    pub fn deliver(&mut self, delivery_tag: u64, body: &[u8]) {
        let deliver = BasicDeliver {
            consumer_tag: "0",
            delivery_tag,
            ..BasicDeliver::default()
        };
        let mut out = Vec::new();
        content::encode(&mut out, 1, &deliver, &[0, 0], body, 4_096);
        self.stream.write_all(&out).expect("the tool listens");
    }

    fn close(&mut self) {
        self.say(
            0,
            &ConnectionClose {
                reply_code: 320,
                reply_text: "CONNECTION_FORCED - enough",
                ..ConnectionClose::default()
            },
        );
        self.expect("connection.close-ok");
    }
}

pub fn scenario(listener: &TcpListener, options: &str) -> Scenario {
    let address = listener.local_addr().expect("it is bound");
    let line = format!("--uri=amqp://{address} {options}");
    let args = BenchArgs::from_line(&line).expect("they are known");
    Scenario::new(&args).expect("the options are fine")
}

fn run_producer(options: &str, script: impl FnOnce(Script, &Signals) + Send) -> ProducerOutcome {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let scenario = scenario(&listener, options);
    let (clock, signals) = (Clock::start(), Signals::new());
    let counters = ProducerCounters::default();
    thread::scope(|scope| {
        scope.spawn(|| script(Script::accept(&listener), &signals));
        let producer =
            Producer::open(&scenario, 0, clock, &signals, &counters).expect("it can start");
        producer.run(&scenario, clock.now_ns())
    })
}

fn run_consumer(options: &str, script: impl FnOnce(Script, &Signals) + Send) -> ConsumerOutcome {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let scenario = scenario(&listener, options);
    let (clock, signals) = (Clock::start(), Signals::new());
    let counters = ConsumerCounters::default();
    thread::scope(|scope| {
        scope.spawn(|| script(Script::accept(&listener), &signals));
        Consumer::open(&scenario, 0, clock, &signals, &counters)
            .expect("it can start")
            .run()
    })
}

fn closed_with(error: Option<ClientError>) -> Option<u16> {
    match error {
        Some(ClientError::Closed { reply_code, .. }) => Some(reply_code),
        _ => None,
    }
}

#[test]
fn a_blocked_producer_pauses_and_goes_on() {
    let outcome = run_producer("--rate 1000", |mut broker, _| {
        broker.publish();
        broker.say(
            0,
            &ConnectionBlocked {
                reason: "low on memory",
            },
        );
        broker.publishes_until_quiet(Duration::from_millis(150));
        let heartbeat = frame::HEARTBEAT;
        broker.stream.write_all(&heartbeat).expect("it listens");
        broker.say(0, &ConnectionUnblocked {});
        broker.publish();
        broker.say(
            0,
            &ConnectionBlocked {
                reason: "low on disk",
            },
        );
        broker.publishes_until_quiet(Duration::from_millis(150));
        broker.close();
    });
    assert_eq!(outcome.blocked_count, 2);
    assert!(outcome.blocked_ns >= 300_000_000, "{}", outcome.blocked_ns);
    assert_eq!(closed_with(outcome.error), Some(320));
}

#[test]
fn the_window_holds_until_it_is_confirmed() {
    let outcome = run_producer("--confirm 3 --count 5", |mut broker, signals| {
        broker.expect("confirm.select");
        broker.say(1, &ConfirmSelectOk {});
        assert_eq!(broker.publishes_until_quiet(Duration::from_millis(150)), 3);
        let ack = BasicAck {
            delivery_tag: 1,
            multiple: false,
        };
        broker.say(1, &ack);
        assert_eq!(broker.publishes_until_quiet(Duration::from_millis(150)), 1);
        let nack = BasicNack {
            delivery_tag: 3,
            multiple: true,
            requeue: false,
        };
        broker.say(1, &nack);
        assert_eq!(broker.publishes_until_quiet(Duration::from_millis(150)), 1);
        broker.say(
            1,
            &BasicAck {
                delivery_tag: 0,
                multiple: true,
            },
        );
        shared::raise(&signals.finish);
        broker.expect("connection.close");
    });
    assert_eq!((outcome.nacked, outcome.lanes), (2, vec![5]));
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
}

#[test]
fn a_confirm_too_many_is_a_fault() {
    let outcome = run_producer("--confirm 3 --count 1", |mut broker, _| {
        broker.expect("confirm.select");
        broker.say(1, &ConfirmSelectOk {});
        broker.publish();
        let ack = BasicAck {
            delivery_tag: 1,
            multiple: false,
        };
        broker.say(1, &ack);
        broker.say(1, &ack);
    });
    assert!(
        matches!(outcome.error, Some(ClientError::UnknownTag(1))),
        "{:?}",
        outcome.error
    );
}

#[test]
fn a_producer_at_full_speed_hears_the_close() {
    // The broker reads no publish: the socket is full, and the close is still heard.
    let outcome = run_producer("--size 5000", |mut broker, _| {
        let body = broker.publish();
        assert_eq!((body.len(), body.get(..8)), (5_000, Some(&[0; 8][..])));
        thread::sleep(Duration::from_millis(100));
        let close = ConnectionClose {
            reply_code: 320,
            ..ConnectionClose::default()
        };
        broker.say(0, &close);
        thread::sleep(Duration::from_millis(300));
    });
    assert_eq!(closed_with(outcome.error), Some(320));
}

#[test]
fn a_consumer_checks_acks_and_hears_the_close() {
    let outcome = run_consumer("--size 10000 --prefetch 5", |mut broker, signals| {
        broker.expect("basic.qos");
        broker.say(1, &leveret_protocol::method::BasicQosOk {});
        broker.expect("basic.consume");
        broker.say(1, &BasicConsumeOk { consumer_tag: "0" });
        for (tag, sequence) in [(1, 0), (2, 1), (3, 3)] {
            let stamp = Stamp {
                producer: 0,
                sequence,
                due_ns: 0,
            };
            let mut body = stamp.encode().to_vec();
            body.resize(10_000, 0);
            broker.deliver(tag, &body);
            broker.expect("basic.ack");
        }
        broker.deliver(4, b"a stranger's");
        broker.expect("basic.ack");
        assert_eq!(shared::read(&signals.attached), 1);
        broker.close();
    });
    assert_eq!(closed_with(outcome.error), Some(320));
    assert_eq!(outcome.foreign, 1);
}

#[test]
fn a_cancelled_consumer_fails() {
    let outcome = run_consumer("--auto-ack", |mut broker, _| {
        broker.expect("basic.consume");
        broker.say(
            1,
            &BasicCancel {
                consumer_tag: "0",
                nowait: true,
            },
        );
    });
    assert!(
        matches!(outcome.error, Some(ClientError::Cancelled(_))),
        "{:?}",
        outcome.error
    );
}
