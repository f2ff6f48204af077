//! A client that expects its broker to die: nothing panics, every wait is
//! bounded, and what came before the end is still read. One channel, number 1.

use std::collections::VecDeque;
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use leveret_protocol::frame::PROTOCOL_HEADER;
use leveret_protocol::method::{EncodeMethod, *};
use leveret_protocol::{
    ContentHeader, FieldTable, FieldValue, FrameKind, Limits, Method, Properties,
};
use leveret_protocol::{content, frame};

/// How long an answer may take before the broker counts as stuck.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(20);

const FRAME_MAX: u32 = 131_072;

/// A connection with channel 1 open.
pub struct Wire {
    stream: TcpStream,
    /// Octets read, and how many of them are taken apart already.
    inbound: Vec<u8>,
    taken: usize,
    /// Octets that [`Self::flush`] sends.
    outbound: Vec<u8>,
    /// What came while an answer was waited for.
    stashed: VecDeque<Event>,
    /// A message whose header or body is still due, and the octets missing.
    assembling: Option<(Event, Option<u64>)>,
}

/// What a broker says on channel 1.
#[derive(Debug)]
pub enum Event {
    Confirm {
        tag: u64,
        multiple: bool,
        acked: bool,
    },
    /// By `basic.deliver` or `basic.get-ok`.
    Delivery {
        tag: u64,
        redelivered: bool,
        body: Vec<u8>,
    },
    GetEmpty,
    Returned {
        routing_key: String,
        body: Vec<u8>,
    },
    QueueOk {
        messages: u32,
    },
    /// Only for [`Wire::open_informed`].
    Blocked,
    Unblocked,
    /// Any other `-ok`.
    Ok(&'static str),
    ChannelClose {
        code: u16,
        #[expect(dead_code, reason = "failures show it")]
        text: String,
    },
}

/// Why a connection is over.
#[derive(Debug)]
pub enum Gone {
    /// The socket ended.
    Closed(String),
    /// An answer took longer than [`ANSWER_LIMIT`].
    Silent(String),
    /// The broker closed the connection or answered what it must not.
    Refused(String),
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(how) => write!(f, "the socket closed: {how}"),
            Self::Silent(what) => write!(f, "the broker is stuck: {what}"),
            Self::Refused(what) => write!(f, "the broker refused or answered wrongly: {what}"),
        }
    }
}

impl Event {
    fn body_mut(&mut self) -> Option<&mut Vec<u8>> {
        match self {
            Self::Delivery { body, .. } | Self::Returned { body, .. } => Some(body),
            _ => None,
        }
    }

    fn has_content(&self) -> bool {
        matches!(self, Self::Delivery { .. } | Self::Returned { .. })
    }

    fn is_answer(&self) -> bool {
        matches!(
            self,
            Self::QueueOk { .. } | Self::Ok(_) | Self::ChannelClose { .. }
        )
    }
}

impl Wire {
    /// Logs in as guest and opens channel 1.
    pub fn open(address: SocketAddr) -> Result<Self, Gone> {
        Self::open_with(address, FieldTable::new())
    }

    /// The same, and wants to be told when it is blocked.
    pub fn open_informed(address: SocketAddr) -> Result<Self, Gone> {
        let capabilities: FieldTable = [("connection.blocked", true)].into_iter().collect();
        let properties = [("capabilities", FieldValue::from(capabilities))];
        Self::open_with(address, properties.into_iter().collect())
    }

    fn open_with(address: SocketAddr, client_properties: FieldTable) -> Result<Self, Gone> {
        let stream = TcpStream::connect_timeout(&address, ANSWER_LIMIT).map_err(closed)?;
        stream.set_nodelay(true).map_err(closed)?;
        stream
            .set_write_timeout(Some(ANSWER_LIMIT))
            .map_err(closed)?;
        let mut wire = Self {
            stream,
            inbound: Vec::new(),
            taken: 0,
            outbound: PROTOCOL_HEADER.to_vec(),
            stashed: VecDeque::new(),
            assembling: None,
        };
        wire.expect("connection.start")?;
        let start_ok = ConnectionStartOk {
            client_properties,
            mechanism: "PLAIN",
            response: b"\0guest\0guest",
            locale: "en_US",
        };
        wire.put(0, &start_ok);
        wire.expect("connection.tune")?;
        let tune_ok = ConnectionTuneOk {
            channel_max: 16,
            frame_max: FRAME_MAX,
            heartbeat: 0,
        };
        wire.put(0, &tune_ok);
        let open = ConnectionOpen {
            virtual_host: "/",
            ..ConnectionOpen::default()
        };
        wire.put(0, &open);
        wire.expect("connection.open-ok")?;
        wire.open_channel()?;
        Ok(wire)
    }

    /// Opens channel 1, after a refusal also again.
    pub fn open_channel(&mut self) -> Result<(), Gone> {
        self.put(1, &ChannelOpen::default());
        self.expect("channel.open-ok")
    }

    /// Closes channel 1: what was not settled goes back to its queue.
    pub fn close_channel(&mut self) -> Result<(), Gone> {
        self.put(1, &ChannelClose::default());
        self.expect("channel.close-ok")
    }

    /// Lays a method out to be sent.
    pub fn put(&mut self, channel: u16, method: &impl EncodeMethod) {
        frame::encode_method(&mut self.outbound, channel, method);
    }

    /// Lays a publish out to be sent, mandatory.
    pub fn put_publish(
        &mut self,
        exchange: &str,
        routing_key: &str,
        persistent: bool,
        body: &[u8],
    ) {
        let properties = Properties {
            delivery_mode: Some(if persistent { 2 } else { 1 }),
            ..Properties::default()
        };
        self.put_publish_with(exchange, routing_key, &properties, body);
    }

    /// The same with any properties.
    pub fn put_publish_with(
        &mut self,
        exchange: &str,
        routing_key: &str,
        properties: &Properties,
        body: &[u8],
    ) {
        let method = BasicPublish {
            exchange,
            routing_key,
            mandatory: true,
            ..BasicPublish::default()
        };
        let mut encoded = Vec::new();
        properties.encode(&mut encoded);
        content::encode(&mut self.outbound, 1, &method, &encoded, body, FRAME_MAX);
    }

    /// Lays a publish straight to a queue out, persistent and with a name.
    pub fn put_named(&mut self, queue: &str, message_id: String, body: &[u8]) {
        self.put_named_to("", queue, message_id, body);
    }

    /// The same through an exchange.
    pub fn put_named_to(
        &mut self,
        exchange: &str,
        routing_key: &str,
        message_id: String,
        body: &[u8],
    ) {
        let method = BasicPublish {
            exchange,
            routing_key,
            ..BasicPublish::default()
        };
        let properties = Properties {
            delivery_mode: Some(2),
            message_id: Some(message_id),
            ..Properties::default()
        };
        let mut encoded = Vec::new();
        properties.encode(&mut encoded);
        content::encode(&mut self.outbound, 1, &method, &encoded, body, FRAME_MAX);
    }

    /// Sends what was laid out.
    pub fn flush(&mut self) -> Result<(), Gone> {
        let written = self.stream.write_all(&self.outbound);
        self.outbound.clear();
        written.map_err(|error| match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                Gone::Silent("the broker does not read".to_owned())
            }
            _ => closed(error),
        })
    }

    /// Sends a method and returns its answer; deliveries and confirms that come
    /// meanwhile are kept for [`Self::next`].
    pub fn call(&mut self, method: &impl EncodeMethod) -> Result<Event, Gone> {
        self.put(1, method);
        self.answer()
    }

    /// The same, and anything but an `-ok` is a refusal.
    pub fn ok(&mut self, method: &impl EncodeMethod) -> Result<(), Gone> {
        match self.call(method)? {
            Event::Ok(_) | Event::QueueOk { .. } => Ok(()),
            other => Err(Gone::Refused(format!("{other:?}"))),
        }
    }

    /// Ready messages of a queue, or nothing if there is no such queue: then
    /// the channel is a new one.
    pub fn look_up(&mut self, queue: &str) -> Result<Option<u32>, Gone> {
        let passive = QueueDeclare {
            queue,
            passive: true,
            ..QueueDeclare::default()
        };
        match self.call(&passive)? {
            Event::QueueOk { messages } => Ok(Some(messages)),
            other => self.gone_404(other).map(|()| None),
        }
    }

    /// Whether that exchange exists; if not, the channel is a new one.
    pub fn has_exchange(&mut self, exchange: &str) -> Result<bool, Gone> {
        let passive = ExchangeDeclare {
            exchange,
            passive: true,
            ..ExchangeDeclare::default()
        };
        match self.call(&passive)? {
            Event::Ok(_) => Ok(true),
            other => self.gone_404(other).map(|()| false),
        }
    }

    /// The next event within that time, or nothing.
    pub fn next(&mut self, within: Duration) -> Result<Option<Event>, Gone> {
        if let Some(event) = self.stashed.pop_front() {
            return Ok(Some(event));
        }
        self.flush()?;
        self.read(Instant::now() + within)
    }

    /// The next event, which must come.
    pub fn await_next(&mut self) -> Result<Event, Gone> {
        self.next(ANSWER_LIMIT)?
            .ok_or_else(|| Gone::Silent(format!("no answer within {ANSWER_LIMIT:?}")))
    }

    /// Drops what came while an answer was waited for.
    pub fn forget(&mut self) {
        self.stashed.clear();
    }

    /// Takes a refusal with 404 and opens the channel again.
    fn gone_404(&mut self, answer: Event) -> Result<(), Gone> {
        match answer {
            Event::ChannelClose { code: 404, .. } => {
                self.put(1, &ChannelCloseOk {});
                self.open_channel()
            }
            other => Err(Gone::Refused(format!("{other:?}"))),
        }
    }

    fn answer(&mut self) -> Result<Event, Gone> {
        self.flush()?;
        let deadline = Instant::now() + ANSWER_LIMIT;
        loop {
            match self.read(deadline)? {
                Some(event) if event.is_answer() => return Ok(event),
                Some(event) => self.stashed.push_back(event),
                None => return Err(Gone::Silent(format!("no answer within {ANSWER_LIMIT:?}"))),
            }
        }
    }

    fn expect(&mut self, name: &str) -> Result<(), Gone> {
        match self.answer()? {
            Event::Ok(came) if came == name => Ok(()),
            other => Err(Gone::Refused(format!("{other:?} instead of {name}"))),
        }
    }

    /// Reads until an event is whole, at least once.
    fn read(&mut self, deadline: Instant) -> Result<Option<Event>, Gone> {
        loop {
            if let Some(event) = self.take_apart()? {
                return Ok(Some(event));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            self.stream
                .set_nonblocking(left.is_zero())
                .and_then(|()| {
                    let least = Duration::from_millis(1);
                    self.stream.set_read_timeout(Some(left.max(least)))
                })
                .map_err(closed)?;
            let mut chunk = [0; 65_536];
            let read = self.stream.read(&mut chunk);
            if left.is_zero() {
                self.stream.set_nonblocking(false).map_err(closed)?;
            }
            match read {
                Ok(0) => return Err(Gone::Closed("end of the stream".to_owned())),
                Ok(count) => {
                    self.inbound.drain(..self.taken);
                    self.taken = 0;
                    self.inbound.extend_from_slice(&chunk[..count]);
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut if left.is_zero() => {
                        return Ok(None);
                    }
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                    _ => return Err(closed(error)),
                },
            }
        }
    }

    /// Takes whole frames off the buffer until an event is complete.
    fn take_apart(&mut self) -> Result<Option<Event>, Gone> {
        loop {
            let rest = &self.inbound[self.taken..];
            let Some((frame, size)) = frame::decode(rest, FRAME_MAX)
                .map_err(|error| Gone::Refused(format!("a frame that is none: {error}")))?
            else {
                return Ok(None);
            };
            let complete = match frame.kind {
                FrameKind::Heartbeat => None,
                FrameKind::Method => match event_of(frame.payload)? {
                    Some(event) if event.has_content() => {
                        self.assembling = Some((event, None));
                        None
                    }
                    event => event,
                },
                FrameKind::Header => {
                    let header = ContentHeader::decode(frame.payload)
                        .map_err(|error| Gone::Refused(error.to_string()))?;
                    let (event, _) = self.assembling.take().ok_or_else(unasked)?;
                    self.assembling = Some((event, Some(header.body_bytes)));
                    whole(&mut self.assembling)
                }
                FrameKind::Body => {
                    let (event, missing) = self.assembling.as_mut().ok_or_else(unasked)?;
                    let left = missing.ok_or_else(unasked)?;
                    let bytes = frame.payload.len() as u64;
                    *missing = Some(left.checked_sub(bytes).ok_or_else(unasked)?);
                    let body = event.body_mut().ok_or_else(unasked)?;
                    body.extend_from_slice(frame.payload);
                    whole(&mut self.assembling)
                }
            };
            self.taken += size;
            if complete.is_some() {
                return Ok(complete);
            }
        }
    }
}

/// The message whose body has come as a whole.
fn whole(assembling: &mut Option<(Event, Option<u64>)>) -> Option<Event> {
    assembling
        .take_if(|(_, missing)| *missing == Some(0))
        .map(|(event, _)| event)
}

/// What a method says, nothing for what does not matter here.
fn event_of(payload: &[u8]) -> Result<Option<Event>, Gone> {
    let method = Method::decode(payload, &Limits::default())
        .map_err(|error| Gone::Refused(format!("a method that is none: {error}")))?;
    Ok(Some(match method {
        Method::BasicAck(ack) => Event::Confirm {
            tag: ack.delivery_tag,
            multiple: ack.multiple,
            acked: true,
        },
        Method::BasicNack(nack) => Event::Confirm {
            tag: nack.delivery_tag,
            multiple: nack.multiple,
            acked: false,
        },
        Method::BasicDeliver(deliver) => Event::Delivery {
            tag: deliver.delivery_tag,
            redelivered: deliver.redelivered,
            body: Vec::new(),
        },
        Method::BasicGetOk(ok) => Event::Delivery {
            tag: ok.delivery_tag,
            redelivered: ok.redelivered,
            body: Vec::new(),
        },
        Method::BasicGetEmpty(_) => Event::GetEmpty,
        Method::BasicReturn(returned) => Event::Returned {
            routing_key: returned.routing_key.to_owned(),
            body: Vec::new(),
        },
        Method::QueueDeclareOk(ok) => Event::QueueOk {
            messages: ok.message_count,
        },
        Method::ChannelClose(close) => Event::ChannelClose {
            code: close.reply_code,
            text: close.reply_text.to_owned(),
        },
        Method::ConnectionClose(close) => {
            let text = format!("{} {}", close.reply_code, close.reply_text);
            return Err(Gone::Refused(text));
        }
        Method::ConnectionBlocked(_) => Event::Blocked,
        Method::ConnectionUnblocked(_) => Event::Unblocked,
        other => Event::Ok(other.name()),
    }))
}

fn closed(error: std::io::Error) -> Gone {
    Gone::Closed(error.to_string())
}

fn unasked() -> Gone {
    Gone::Refused("content where none was due".to_owned())
}
