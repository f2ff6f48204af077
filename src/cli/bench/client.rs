//! A blocking AMQP 0-9-1 client: handshake, synchronous calls, graceful close. The hot loops
//! take the socket and the input buffer from it and go their own ways.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use anyhow::Context;
use leveret_protocol::method::{
    ChannelCloseOk, ChannelOpen, ConnectionClose, ConnectionCloseOk, ConnectionOpen,
    ConnectionStartOk, ConnectionTuneOk, EncodeMethod,
};
use leveret_protocol::{
    DecodeError, FieldTable, FieldValue, FrameKind, Limits, Method, ReplyCode, frame,
};

use super::input::Input;
use super::uri::AmqpUri;

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The broker closed the connection or the channel.
    #[error(
        "the broker closed the {scope}: {reply_code} {reply_text} (method {class_id}.{method_id})"
    )]
    Closed {
        /// `connection` or `channel`.
        scope: &'static str,
        /// Reply code.
        reply_code: u16,
        /// Reply text.
        reply_text: String,
        /// Class of the method that was refused.
        class_id: u16,
        /// The method that was refused.
        method_id: u16,
    },
    /// The broker cancelled a consumer.
    #[error("the broker cancelled consumer {0}")]
    Cancelled(String),
    /// The socket ended without a `connection.close`.
    #[error("the broker dropped the connection")]
    Dropped,
    /// The socket failed.
    #[error("the connection failed: {0}")]
    Io(io::Error),
    /// The broker's bytes are not AMQP 0-9-1.
    #[error("the broker sent what is no AMQP 0-9-1: {0}")]
    Malformed(DecodeError),
    /// The broker's bytes are AMQP 0-9-1 where they do not belong.
    #[error("the broker sent an unexpected {0}")]
    Unexpected(String),
    /// The broker allows fewer channels on a connection than the load needs.
    #[error("the broker allows {0} channels on a connection: --pipeline needs more")]
    TooFewChannels(u16),
    /// Nothing came for as long as the run was to wait.
    #[error("the broker did not answer in time")]
    Silent,
    /// A confirm that names no outstanding publish.
    #[error("the broker confirmed tag {0}, which is not outstanding")]
    UnknownTag(u64),
}

// Not as sources: their texts are part of ours already.
impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<DecodeError> for ClientError {
    fn from(error: DecodeError) -> Self {
        Self::Malformed(error)
    }
}

/// An open connection. Channel 1 is the only one that is ever used.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    input: Input,
    limits: Limits,
    server_properties: FieldTable,
    channel_max: u16,
    out: Vec<u8>,
}

impl Connection {
    /// The connection of a run that declares and deletes.
    ///
    /// # Errors
    /// As [`Self::open`], with the broker's address.
    pub fn control(uri: &AmqpUri) -> anyhow::Result<Self> {
        Self::open(uri, "leveret bench control")
            .with_context(|| format!("cannot connect to {}", uri.public()))
    }

    /// Connects, logs in and opens channel 1. The name shows up in the broker's listings.
    ///
    /// # Errors
    /// If the broker cannot be reached, refuses the login, or speaks another protocol.
    pub fn open(uri: &AmqpUri, name: &str) -> Result<Self, ClientError> {
        let stream = connect(uri)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(CALL_TIMEOUT))?;
        let limits = Limits::default();
        let mut connection = Self {
            stream,
            input: Input::new(limits.frame_max),
            limits,
            server_properties: FieldTable::new(),
            channel_max: 0,
            out: Vec::new(),
        };
        connection.stream.write_all(&frame::PROTOCOL_HEADER)?;
        connection.server_properties = connection.wait(|method| match method {
            Method::ConnectionStart(start) => Some(start.server_properties.clone()),
            _ => None,
        })?;
        connection.out.clear();
        encode_start_ok(&mut connection.out, uri, name);
        let sent = connection.stream.write_all(&connection.out);
        let (channel_max, frame_max) = connection.answer(sent, |method| match method {
            Method::ConnectionTune(tune) => Some((tune.channel_max, tune.frame_max)),
            _ => None,
        })?;
        let frame_max = match frame_max {
            0 => limits.frame_max,
            offered => offered.min(limits.frame_max),
        };
        connection.limits.frame_max = frame_max;
        connection.channel_max = match channel_max {
            0 => u16::MAX,
            offered => offered,
        };
        connection.input.set_frame_max(frame_max);
        let tune_ok = ConnectionTuneOk {
            channel_max,
            frame_max,
            // A producer that waits for its window writes nothing for as long as that takes.
            heartbeat: 0,
        };
        connection.send(0, &tune_ok)?;
        let open = ConnectionOpen {
            virtual_host: &uri.vhost,
            ..ConnectionOpen::default()
        };
        connection.call(0, &open, |method| {
            matches!(method, Method::ConnectionOpenOk(_)).then_some(())
        })?;
        connection.call(1, &ChannelOpen { out_of_band: "" }, |method| {
            matches!(method, Method::ChannelOpenOk(_)).then_some(())
        })?;
        Ok(connection)
    }

    /// Largest frame in octets, envelope included.
    pub fn frame_max(&self) -> u32 {
        self.limits.frame_max
    }

    /// The highest channel number.
    pub fn channel_max(&self) -> u16 {
        self.channel_max
    }

    /// The broker's product and version, as it says itself.
    pub fn broker(&self) -> (String, String) {
        let property = |name| match self.server_properties.get(name) {
            Some(value) => value.as_str().unwrap_or("?").to_owned(),
            None => "?".to_owned(),
        };
        (property("product"), property("version"))
    }

    /// Where the broker listens.
    ///
    /// # Errors
    /// If the connection ended.
    pub fn peer_address(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }

    /// Sends a method without waiting.
    ///
    /// # Errors
    /// If the connection ended.
    pub fn send(&mut self, channel: u16, method: &impl EncodeMethod) -> Result<(), ClientError> {
        Ok(self.write(channel, method)?)
    }

    /// Sends frames that were encoded before.
    ///
    /// # Errors
    /// If the connection ended.
    pub fn send_encoded(&mut self, frames: &[u8]) -> Result<(), ClientError> {
        Ok(self.stream.write_all(frames)?)
    }

    /// Sends a method and waits for the answer that `accept` takes.
    ///
    /// # Errors
    /// If the broker refuses, or the connection ended.
    pub fn call<T>(
        &mut self,
        channel: u16,
        method: &impl EncodeMethod,
        accept: impl FnMut(&Method<'_>) -> Option<T>,
    ) -> Result<T, ClientError> {
        let sent = self.write(channel, method);
        self.answer(sent, accept)
    }

    /// Gives up the connection for a loop of its own: socket, what was read, limits.
    pub fn into_parts(self) -> (TcpStream, Input, Limits) {
        (self.stream, self.input, self.limits)
    }

    /// Closes the connection and waits a little for the broker's consent.
    pub fn close(mut self) {
        say_goodbye(&mut self.stream, &mut self.input);
    }

    fn write(&mut self, channel: u16, method: &impl EncodeMethod) -> io::Result<()> {
        self.out.clear();
        frame::encode_method(&mut self.out, channel, method);
        self.stream.write_all(&self.out)
    }

    fn answer<T>(
        &mut self,
        sent: io::Result<()>,
        accept: impl FnMut(&Method<'_>) -> Option<T>,
    ) -> Result<T, ClientError> {
        match sent {
            // The broker may have said why before it stopped listening.
            Err(error) if !timed_out(&error) => self.wait(accept).map_err(|reason| match reason {
                ClientError::Closed { .. } => reason,
                _ => ClientError::Io(error),
            }),
            Err(error) => Err(error.into()),
            Ok(()) => self.wait(accept),
        }
    }

    fn wait<T>(
        &mut self,
        mut accept: impl FnMut(&Method<'_>) -> Option<T>,
    ) -> Result<T, ClientError> {
        loop {
            if self.input.unread().starts_with(b"AMQP") {
                let other = "protocol header: it speaks another version of AMQP";
                return Err(ClientError::Unexpected(other.to_owned()));
            }
            while let Some(frame) = self.input.next_frame()? {
                if frame.kind == FrameKind::Heartbeat {
                    continue;
                }
                if frame.kind != FrameKind::Method {
                    return Err(ClientError::Unexpected(format!("{:?} frame", frame.kind)));
                }
                let method = Method::decode(frame.payload, &self.limits)?;
                if let Some(accepted) = accept(&method) {
                    return Ok(accepted);
                }
                check_unasked(&method, &mut self.stream)?;
            }
            if self.input.fill(&mut self.stream)? == 0 {
                return Err(ClientError::Dropped);
            }
        }
    }
}

/// What to do about a method that nobody waits for: closes are answered and become errors,
/// notices are left to the caller, anything else does not belong.
///
/// # Errors
/// The close, or that the method was unexpected.
pub fn check_unasked(method: &Method<'_>, stream: &mut TcpStream) -> Result<(), ClientError> {
    let mut answer = Vec::new();
    let error = match method {
        Method::ConnectionClose(close) => {
            frame::encode_method(&mut answer, 0, &ConnectionCloseOk {});
            ClientError::Closed {
                scope: "connection",
                reply_code: close.reply_code,
                reply_text: close.reply_text.to_owned(),
                class_id: close.class_id,
                method_id: close.method_id,
            }
        }
        Method::ChannelClose(close) => {
            frame::encode_method(&mut answer, 1, &ChannelCloseOk {});
            ClientError::Closed {
                scope: "channel",
                reply_code: close.reply_code,
                reply_text: close.reply_text.to_owned(),
                class_id: close.class_id,
                method_id: close.method_id,
            }
        }
        Method::BasicCancel(cancel) => ClientError::Cancelled(cancel.consumer_tag.to_owned()),
        Method::ConnectionBlocked(_) | Method::ConnectionUnblocked(_) => return Ok(()),
        other => ClientError::Unexpected(other.name().to_owned()),
    };
    // The broker may be gone already; what it said is the better news.
    let _ = stream.write_all(&answer);
    Err(error)
}

/// Sends `connection.close` and reads on until the broker agrees, for a bounded time.
/// Whatever else comes in between is dropped.
pub fn say_goodbye(stream: &mut TcpStream, input: &mut Input) {
    let close = ConnectionClose {
        reply_code: ReplyCode::Success.code(),
        reply_text: "done",
        ..ConnectionClose::default()
    };
    let mut out = Vec::new();
    frame::encode_method(&mut out, 0, &close);
    let deadline = Instant::now() + GOODBYE_TIMEOUT;
    let ready = stream.set_nonblocking(false).is_ok()
        && stream.set_read_timeout(Some(GOODBYE_TIMEOUT)).is_ok()
        && stream.set_write_timeout(Some(GOODBYE_TIMEOUT)).is_ok()
        && stream.write_all(&out).is_ok();
    if !ready {
        return;
    }
    let [class0, class1] = ConnectionCloseOk::CLASS_ID.to_be_bytes();
    let [id0, id1] = ConnectionCloseOk::METHOD_ID.to_be_bytes();
    let close_ok = [class0, class1, id0, id1];
    while Instant::now() < deadline {
        while let Ok(Some(frame)) = input.next_frame() {
            if frame.kind == FrameKind::Method && frame.payload == close_ok {
                return;
            }
        }
        if !matches!(input.fill(stream), Ok(count) if count > 0) {
            return;
        }
    }
}

/// Whether an error only says that nothing came, or nothing could go, in time.
pub fn timed_out(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

fn connect(uri: &AmqpUri) -> io::Result<TcpStream> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in (uri.host.as_str(), uri.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Appends what logs in; the name shows up in the broker's listings.
pub fn encode_start_ok(out: &mut Vec<u8>, uri: &AmqpUri, name: &str) {
    let response = format!("\0{}\0{}", uri.user, uri.password);
    let start_ok = ConnectionStartOk {
        client_properties: client_properties(name),
        mechanism: "PLAIN",
        response: response.as_bytes(),
        locale: "en_US",
    };
    frame::encode_method(out, 0, &start_ok);
}

/// Reads once, within the socket's timeout.
///
/// # Errors
/// If nothing came in time, or the connection ended.
pub fn read(stream: &mut TcpStream, input: &mut Input) -> Result<(), ClientError> {
    match input.fill(stream) {
        Ok(0) => Err(ClientError::Dropped),
        Ok(_) => Ok(()),
        Err(error) if timed_out(&error) => Err(ClientError::Silent),
        Err(error) => Err(error.into()),
    }
}

fn client_properties(name: &str) -> FieldTable {
    let capabilities: FieldTable = [
        "publisher_confirms",
        "basic.nack",
        "connection.blocked",
        "consumer_cancel_notify",
        "authentication_failure_close",
    ]
    .into_iter()
    .map(|capability| (capability, true))
    .collect();
    [
        ("product", FieldValue::from("leveret bench")),
        ("version", FieldValue::from(env!("CARGO_PKG_VERSION"))),
        ("connection_name", FieldValue::from(name)),
        ("capabilities", FieldValue::from(capabilities)),
    ]
    .into_iter()
    .collect()
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Long, because a broker may take its time over ten thousand bindings.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(3);
