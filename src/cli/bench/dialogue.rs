//! Connections by the hundred from one thread: each follows the same script, and a poll says
//! which may go on.
//!
//! A script is lines of what to say and the method that answers it, encoded once. It names
//! nothing that differs between connections: the queue's name is the broker's to choose, and
//! an empty name stands for it afterwards.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use leveret_protocol::method::{
    BasicConsume, BasicConsumeOk, ChannelOpen, ChannelOpenOk, ConnectionClose, ConnectionCloseOk,
    ConnectionOpen, ConnectionOpenOk, ConnectionStart, ConnectionTune, ConnectionTuneOk,
    EncodeMethod, QueueDeclare, QueueDeclareOk,
};
use leveret_protocol::{FieldTable, FrameKind, Limits, Method, ReplyCode, frame};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::client::{self, ClientError, Connection};
use super::repeat::Turn;
use super::uri::AmqpUri;

/// What is said on a connection, and what answers it.
#[derive(Debug, Default)]
pub struct Script(Vec<Line>);

#[derive(Debug)]
struct Line {
    say: Vec<u8>,
    /// Class and method id of the answer.
    answer: [u8; 4],
}

impl Script {
    /// Logs in and opens the virtual host, with the limits that the broker has offered to
    /// another connection.
    pub fn log_in(uri: &AmqpUri, model: &Connection, name: &str) -> Self {
        let mut start_ok = Vec::new();
        client::encode_start_ok(&mut start_ok, uri, name);
        let mut open = Vec::new();
        let tune_ok = ConnectionTuneOk {
            channel_max: model.channel_max(),
            frame_max: model.frame_max(),
            heartbeat: 0,
        };
        frame::encode_method(&mut open, 0, &tune_ok);
        let vhost = ConnectionOpen {
            virtual_host: &uri.vhost,
            ..ConnectionOpen::default()
        };
        frame::encode_method(&mut open, 0, &vhost);
        Self::default()
            .line(
                frame::PROTOCOL_HEADER.to_vec(),
                ConnectionStart::CLASS_ID,
                ConnectionStart::METHOD_ID,
            )
            .line(
                start_ok,
                ConnectionTune::CLASS_ID,
                ConnectionTune::METHOD_ID,
            )
            .line(
                open,
                ConnectionOpenOk::CLASS_ID,
                ConnectionOpenOk::METHOD_ID,
            )
    }

    /// Then opens a channel with an exclusive queue and a consumer.
    pub fn then_consume(self, arguments: &FieldTable) -> Self {
        let declare = QueueDeclare {
            exclusive: true,
            arguments: arguments.clone(),
            ..QueueDeclare::default()
        };
        let consume = BasicConsume {
            no_ack: true,
            ..BasicConsume::default()
        };
        self.line(
            encoded(1, &ChannelOpen { out_of_band: "" }),
            ChannelOpenOk::CLASS_ID,
            ChannelOpenOk::METHOD_ID,
        )
        .line(
            encoded(1, &declare),
            QueueDeclareOk::CLASS_ID,
            QueueDeclareOk::METHOD_ID,
        )
        .line(
            encoded(1, &consume),
            BasicConsumeOk::CLASS_ID,
            BasicConsumeOk::METHOD_ID,
        )
    }

    /// Then closes the connection.
    pub fn then_close(self) -> Self {
        let close = ConnectionClose {
            reply_code: ReplyCode::Success.code(),
            reply_text: "done",
            ..ConnectionClose::default()
        };
        self.line(
            encoded(0, &close),
            ConnectionCloseOk::CLASS_ID,
            ConnectionCloseOk::METHOD_ID,
        )
    }

    fn line(mut self, say: Vec<u8>, class_id: u16, method_id: u16) -> Self {
        let ids = u32::from(class_id) << 16 | u32::from(method_id);
        let answer = ids.to_be_bytes();
        self.0.push(Line { say, answer });
        self
    }
}

/// A connection that follows a script.
#[derive(Debug)]
pub struct Dialogue {
    stream: TcpStream,
    line: usize,
    /// Octets of the line that are written.
    said_bytes: usize,
    /// What was read of frames that are not whole.
    heard: Vec<u8>,
    /// When it was dialled, by the caller's clock.
    pub began_ns: u64,
}

impl Dialogue {
    /// Connects if the turn has another operation, without waiting for it.
    ///
    /// # Errors
    /// If the machine has no more sockets or ports, or no way there.
    pub fn dial_in(turn: &mut Turn<'_>, address: SocketAddr) -> io::Result<Option<Self>> {
        let began_ns = turn.begin();
        began_ns
            .map(|began_ns| Self::dial(address, began_ns))
            .transpose()
    }

    fn dial(address: SocketAddr, began_ns: u64) -> io::Result<Self> {
        let kind = Type::STREAM;
        let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&address.into()) {
            Err(error) if error.raw_os_error() == Some(IN_PROGRESS) => {}
            connected => connected?,
        }
        Ok(Self {
            stream: socket.into(),
            line: 0,
            said_bytes: 0,
            heard: Vec::new(),
            began_ns,
        })
    }

    /// Begins with the first line of another script.
    pub fn turn_over(&mut self) {
        (self.line, self.said_bytes) = (0, 0);
    }

    /// Drops a closed connection and its port: thousands that waited out their time would
    /// leave none for others.
    ///
    /// # Errors
    /// If the socket has failed.
    pub fn forget(self) -> io::Result<()> {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))
    }

    /// Says and hears as much as is possible without waiting; whether the script is done.
    fn go_on(&mut self, script: &Script, room: &mut [u8]) -> Result<bool, ClientError> {
        while let Some(line) = script.0.get(self.line) {
            while let Some(rest) = line.say.get(self.said_bytes..)
                && !rest.is_empty()
            {
                match self.stream.write(rest) {
                    Ok(count) => self.said_bytes += count,
                    Err(error) if client::timed_out(&error) => return Ok(false),
                    Err(error) => return Err(error.into()),
                }
            }
            while !self.hear(line.answer)? {
                match self.stream.read(room) {
                    Ok(0) => return Err(ClientError::Dropped),
                    Ok(count) => {
                        let read = room.get(..count).unwrap_or_default();
                        self.heard.extend_from_slice(read);
                    }
                    Err(error) if client::timed_out(&error) => return Ok(false),
                    Err(error) => return Err(error.into()),
                }
            }
            (self.line, self.said_bytes) = (self.line + 1, 0);
        }
        Ok(true)
    }

    /// Whether the answer is among the frames that were read; drops them up to it.
    fn hear(&mut self, answer: [u8; 4]) -> Result<bool, ClientError> {
        let limits = Limits::default();
        let mut rest = self.heard.as_slice();
        let mut found = false;
        while !found && let Some((frame, size)) = frame::decode(rest, limits.frame_max)? {
            rest = rest.get(size..).unwrap_or_default();
            found = frame.kind == FrameKind::Method && frame.payload.starts_with(&answer);
            if !found && frame.kind != FrameKind::Heartbeat {
                let method = Method::decode(frame.payload, &limits)?;
                client::check_unasked(&method, &mut self.stream)?;
            }
        }
        let taken = self.heard.len() - rest.len();
        self.heard.drain(..taken);
        Ok(found)
    }

    fn awaits(&self, script: &Script) -> PollFlags {
        match script.0.get(self.line) {
            Some(line) if self.said_bytes < line.say.len() => PollFlags::OUT,
            _ => PollFlags::IN,
        }
    }
}

/// Where dialogues come from and go to.
pub trait Crowd {
    /// The next one, if there is another.
    ///
    /// # Errors
    /// If it cannot begin.
    fn next(&mut self) -> io::Result<Option<Dialogue>>;

    /// Takes one that has gone through the script.
    ///
    /// # Errors
    /// If it cannot be put away.
    fn done(&mut self, dialogue: Dialogue) -> io::Result<()>;
}

/// Leads all dialogues of the crowd through the script, so many at once.
///
/// # Errors
/// The first that goes wrong, or if nothing is answered for the `patience`.
pub fn lead(
    script: &Script,
    window: usize,
    patience: Duration,
    crowd: &mut impl Crowd,
) -> Result<(), ClientError> {
    let patience = Timespec::try_from(patience).ok();
    let mut room = vec![0; ROOM_BYTES];
    let mut under_way: Vec<Dialogue> = Vec::new();
    loop {
        while under_way.len() < window
            && let Some(dialogue) = crowd.next()?
        {
            under_way.push(dialogue);
        }
        if under_way.is_empty() {
            return Ok(());
        }
        let mut polls: Vec<_> = under_way
            .iter()
            .map(|one| PollFd::new(&one.stream, one.awaits(script)))
            .collect();
        match poll(&mut polls, patience.as_ref()) {
            Ok(0) => return Err(ClientError::Silent),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
        let ready: Vec<bool> = polls.iter().map(|one| !one.revents().is_empty()).collect();
        // From the back, so that what takes the place of one that is done was looked at.
        for (index, _) in ready.iter().enumerate().rev().filter(|(_, ready)| **ready) {
            let done = match under_way.get_mut(index) {
                Some(dialogue) => dialogue.go_on(script, &mut room)?,
                None => false,
            };
            if done {
                crowd.done(under_way.swap_remove(index))?;
            }
        }
    }
}

fn encoded(channel: u16, method: &impl EncodeMethod) -> Vec<u8> {
    let mut octets = Vec::new();
    frame::encode_method(&mut octets, channel, method);
    octets
}

const IN_PROGRESS: i32 = rustix::io::Errno::INPROGRESS.raw_os_error();
const ROOM_BYTES: usize = 64 * 1_024;
