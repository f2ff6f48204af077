//! Requests and replies over direct reply-to: how long a round trip takes, and how many there
//! are of them.
//!
//! ```text
//! requester ─▶ queue ─▶ responder ─▶ amq.rabbitmq.reply-to ─▶ requester
//! ```
//! Every requester waits for its reply before it asks again.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use leveret_protocol::method::{BasicConsume, BasicPublish};
use leveret_protocol::{
    ContentHeader, Frame, FrameKind, Limits, Method, Properties, PropertyScan, content,
};

use super::client::{self, ClientError, Connection};
use super::delivery::{Assembly, Delivery, Event};
use super::input::Input;
use super::mode_report::ModeReport;
use super::process;
use super::repeat::{self, Turn, Worker};
use super::scenario::Scenario;
use super::shared;
use super::stamp::{STAMP_BYTES, Stamp};
use super::topology;

/// Runs it.
///
/// # Errors
/// If the broker cannot be reached or refuses queues and consumers. What goes wrong later is
/// in the report.
pub fn execute(scenario: &Scenario) -> anyhow::Result<ModeReport> {
    let process = process::of(scenario)?;
    let mut control = Connection::control(&scenario.uri)?;
    topology::set_up(&mut control, scenario)?;
    let responders = (0..scenario.consumers)
        .map(|number| Responder::open(scenario, number))
        .collect::<Result<Vec<_>, _>>()?;
    let mut requesters = (0..scenario.producers)
        .map(|number| Requester::open(scenario, number))
        .collect::<Result<Vec<_>, _>>()?;
    let finish = AtomicBool::new(false);
    let measured = thread::scope(|scope| {
        let responding: Vec<_> = responders
            .into_iter()
            .map(|one| scope.spawn(|| one.run(&finish)))
            .collect();
        let measured = repeat::run(&mut requesters, scenario, process.as_ref());
        shared::raise(&finish);
        let mut measured = measured?;
        for thread in responding {
            let ended = thread
                .join()
                .map_err(|_| anyhow::anyhow!("a thread panicked"))?;
            let error = ended.err().map(|error| error.to_string());
            measured.errors.extend(error);
        }
        anyhow::Ok(measured)
    })?;
    if measured.errors.is_empty() {
        requesters.into_iter().for_each(Requester::close);
    }
    topology::tear_down(&mut control, scenario)?;
    let report = ModeReport::new(scenario, &control, measured);
    control.close();
    Ok(report)
}

/// Asks, one request after the other.
#[derive(Debug)]
struct Requester {
    stream: TcpStream,
    input: Input,
    limits: Limits,
    assembly: Assembly,
    number: u16,
    queue: String,
    properties: Vec<u8>,
    body: Vec<u8>,
    out: Vec<u8>,
    asked: u64,
}

impl Requester {
    fn open(scenario: &Scenario, number: u16) -> Result<Self, ClientError> {
        let name = format!("leveret bench requester {number}");
        let mut connection = Connection::open(&scenario.uri, &name)?;
        // The assembly wants a number.
        consume(&mut connection, REPLY_TO, "0")?;
        let mut properties = Vec::new();
        Properties {
            reply_to: Some(REPLY_TO.to_owned()),
            ..Properties::default()
        }
        .encode(&mut properties);
        let (stream, input, limits) = connection.into_parts();
        stream.set_read_timeout(Some(scenario.drain_timeout))?;
        Ok(Self {
            stream,
            input,
            limits,
            assembly: Assembly::default(),
            number,
            queue: scenario.queue_name(number % scenario.queues),
            properties,
            body: vec![0; scenario.body_bytes],
            out: Vec::new(),
            asked: 0,
        })
    }

    fn ask(&mut self, stamp: &Stamp) -> Result<(), ClientError> {
        if let Some(place) = self.body.first_chunk_mut::<STAMP_BYTES>() {
            *place = stamp.encode();
        }
        let publish = BasicPublish {
            routing_key: &self.queue,
            ..BasicPublish::default()
        };
        let frame_max = self.limits.frame_max;
        let (properties, body) = (&self.properties, &self.body);
        self.out.clear();
        content::encode(&mut self.out, 1, &publish, properties, body, frame_max);
        Ok(self.stream.write_all(&self.out)?)
    }

    fn reply(&mut self) -> Result<Delivery, ClientError> {
        loop {
            while let Some(frame) = self.input.next_frame()? {
                match self.assembly.take(frame, &self.limits)? {
                    Some(Event::Delivery(delivery)) => return Ok(delivery),
                    Some(Event::Method(method)) => {
                        client::check_unasked(&method, &mut self.stream)?;
                    }
                    None => {}
                }
            }
            client::read(&mut self.stream, &mut self.input)?;
        }
    }

    fn close(mut self) {
        client::say_goodbye(&mut self.stream, &mut self.input);
    }
}

impl Worker for Requester {
    fn work(&mut self, turn: &mut Turn<'_>) -> Result<(), ClientError> {
        while let Some(began_ns) = turn.begin() {
            let stamp = Stamp {
                producer: self.number,
                sequence: self.asked,
                due_ns: began_ns,
            };
            self.asked += 1;
            self.ask(&stamp)?;
            let reply = self.reply()?;
            if reply.stamp != Some(stamp) || reply.body_bytes != self.body.len() as u64 {
                return Err(ClientError::Unexpected(
                    "reply to another request".to_owned(),
                ));
            }
            turn.end(began_ns);
        }
        Ok(())
    }
}

/// Sends every request back to where its reply is wanted.
#[derive(Debug)]
struct Responder {
    stream: TcpStream,
    input: Input,
    limits: Limits,
    request: Request,
    out: Vec<u8>,
}

impl Responder {
    fn open(scenario: &Scenario, number: u16) -> Result<Self, ClientError> {
        let name = format!("leveret bench responder {number}");
        let mut connection = Connection::open(&scenario.uri, &name)?;
        for queue in scenario.queues_of(number) {
            let tag = queue.to_string();
            consume(&mut connection, &scenario.queue_name(queue), &tag)?;
        }
        let (stream, input, limits) = connection.into_parts();
        stream.set_read_timeout(Some(IDLE))?;
        Ok(Self {
            stream,
            input,
            limits,
            request: Request::default(),
            out: Vec::new(),
        })
    }

    fn run(mut self, finish: &AtomicBool) -> Result<(), ClientError> {
        while !shared::raised(finish) {
            match client::read(&mut self.stream, &mut self.input) {
                Err(ClientError::Silent) => continue,
                read => read?,
            }
            self.answer()?;
        }
        client::say_goodbye(&mut self.stream, &mut self.input);
        Ok(())
    }

    /// Answers what was read, in one write.
    fn answer(&mut self) -> Result<(), ClientError> {
        self.out.clear();
        while let Some(frame) = self.input.next_frame()? {
            if frame.kind == FrameKind::Method {
                let method = Method::decode(frame.payload, &self.limits)?;
                if !matches!(method, Method::BasicDeliver(_)) {
                    client::check_unasked(&method, &mut self.stream)?;
                }
                continue;
            }
            if self.request.take(frame)? {
                let publish = BasicPublish {
                    routing_key: &self.request.reply_to,
                    ..BasicPublish::default()
                };
                let body = &self.request.body;
                let frame_max = self.limits.frame_max;
                content::encode(&mut self.out, 1, &publish, &NO_PROPERTIES, body, frame_max);
            }
        }
        Ok(self.stream.write_all(&self.out)?)
    }
}

/// A request as far as it has come; the buffers are used again for the next.
#[derive(Debug, Default)]
struct Request {
    reply_to: String,
    body: Vec<u8>,
    missing_bytes: u64,
}

impl Request {
    /// Takes a header or a piece of the body; whether the request is whole.
    fn take(&mut self, frame: Frame<'_>) -> Result<bool, ClientError> {
        match frame.kind {
            FrameKind::Header => {
                let header = ContentHeader::decode(frame.payload)?;
                let properties = PropertyScan::new(header.properties)?;
                self.reply_to.clear();
                self.reply_to
                    .push_str(properties.reply_to.unwrap_or_default());
                self.body.clear();
                self.missing_bytes = header.body_bytes;
            }
            FrameKind::Body => {
                let octets = frame.payload.len() as u64;
                self.missing_bytes = (self.missing_bytes.checked_sub(octets))
                    .ok_or_else(|| ClientError::Unexpected("end of a body".to_owned()))?;
                self.body.extend_from_slice(frame.payload);
            }
            _ => return Ok(false),
        }
        Ok(self.missing_bytes == 0)
    }
}

/// Consumes without acks.
fn consume(
    connection: &mut Connection,
    queue: &str,
    consumer_tag: &str,
) -> Result<(), ClientError> {
    let consume = BasicConsume {
        queue,
        consumer_tag,
        no_ack: true,
        ..BasicConsume::default()
    };
    connection.call(1, &consume, |method| {
        matches!(method, Method::BasicConsumeOk(_)).then_some(())
    })
}

const REPLY_TO: &str = "amq.rabbitmq.reply-to";
const NO_PROPERTIES: [u8; 2] = [0, 0];
/// How often a responder looks whether it is over.
const IDLE: Duration = Duration::from_millis(20);
