//! A blocking AMQP client over one socket: frames out, frames in, sorted by
//! channel. It keeps no protocol state, so that a test can break every rule.

use std::collections::{HashMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use leveret_protocol::method::{EncodeMethod, *};
use leveret_protocol::{ContentHeader, FrameKind, Limits, Method, Properties, content, frame};

use super::broker::broker;

/// How long any expectation waits before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(8);

/// A method that came in, with its content if it has one.
#[derive(Debug)]
pub struct Incoming {
    pub channel: u16,
    pub method: Method<'static>,
    pub content: Option<Content>,
}

/// A message's properties and body as they came in.
#[derive(Clone, Debug, Default)]
pub struct Content {
    pub properties: Properties,
    /// Property flags and list, octet for octet.
    pub raw_properties: Vec<u8>,
    pub body: Vec<u8>,
    /// Payload octets of each body frame.
    pub frame_sizes: Vec<usize>,
}

/// Why nothing more can be read.
#[derive(Debug, Eq, PartialEq)]
pub enum Ended {
    Closed,
    TimedOut,
}

/// A connection to the broker under test.
pub struct Client {
    stream: TcpStream,
    /// Octets read, and how many of them are taken apart already.
    inbound: Vec<u8>,
    taken: usize,
    /// What came for channels that nobody has asked about yet.
    stashed: VecDeque<Incoming>,
    /// Content methods whose header or body is still due, and the octets missing.
    assembling: HashMap<u16, (Incoming, Option<u64>)>,
    /// Negotiated; bodies are cut to it.
    pub frame_max: u32,
    /// Heartbeat frames that have come.
    pub heartbeats: usize,
}

impl Client {
    /// A TCP connection to the broker under test on which nothing was sent.
    pub fn dial() -> Self {
        Self::dial_at(broker())
    }

    /// The same to another address.
    pub fn dial_at(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the broker accepts connections");
        stream.set_nodelay(true).expect("a connected socket");
        Self {
            stream,
            inbound: Vec::new(),
            taken: 0,
            stashed: VecDeque::new(),
            assembling: HashMap::new(),
            frame_max: 131_072,
            heartbeats: 0,
        }
    }

    /// Sends octets as they are. A peer that has closed meanwhile is no failure
    /// here: what it said before is still to be read.
    pub fn send_bytes(&mut self, octets: &[u8]) {
        if let Err(error) = self.stream.write_all(octets) {
            let kind = error.kind();
            assert!(
                matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset),
                "writing failed: {error}"
            );
        }
    }

    /// Sends octets; whether the peer still took them.
    pub fn try_send_bytes(&mut self, octets: &[u8]) -> bool {
        self.stream.write_all(octets).is_ok()
    }

    /// The same socket once more, to send from another thread.
    pub fn second_handle(&self) -> TcpStream {
        self.stream.try_clone().expect("a connected socket")
    }

    /// Sends one frame with any payload.
    pub fn send_frame(&mut self, kind: FrameKind, channel: u16, payload: &[u8]) {
        let mut wire = Vec::new();
        frame::encode(&mut wire, kind, channel, payload);
        self.send_bytes(&wire);
    }

    /// Sends a method and waits for nothing.
    pub fn send(&mut self, channel: u16, method: &impl EncodeMethod) {
        let mut wire = Vec::new();
        frame::encode_method(&mut wire, channel, method);
        self.send_bytes(&wire);
    }

    /// Sends a content header and no body.
    pub fn send_header(&mut self, channel: u16, properties: &Properties, body_bytes: u64) {
        let mut encoded = Vec::new();
        properties.encode(&mut encoded);
        let mut wire = Vec::new();
        content::encode_header(&mut wire, channel, &encoded, body_bytes);
        self.send_bytes(&wire);
    }

    /// Publishes a message with any method fields and properties.
    pub fn publish_with(
        &mut self,
        channel: u16,
        method: &BasicPublish<'_>,
        properties: &Properties,
        body: &[u8],
    ) {
        let mut encoded = Vec::new();
        properties.encode(&mut encoded);
        let mut wire = Vec::new();
        content::encode(&mut wire, channel, method, &encoded, body, self.frame_max);
        self.send_bytes(&wire);
    }

    /// Sends a method and returns the next one that comes on that channel.
    #[track_caller]
    pub fn call(&mut self, channel: u16, method: &impl EncodeMethod) -> Method<'static> {
        self.send(channel, method);
        self.next_method(channel)
    }

    /// The next method on that channel.
    #[track_caller]
    pub fn next_method(&mut self, channel: u16) -> Method<'static> {
        self.next(channel).method
    }

    /// The next method on that channel with its content. A connection that the
    /// server closes meanwhile fails the test at once and says why.
    #[track_caller]
    pub fn next(&mut self, channel: u16) -> Incoming {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = self.stashed.iter().position(|one| one.channel == channel) {
                return self.stashed.remove(found).expect("position() found it");
            }
            match self.read(deadline) {
                Ok(incoming) => {
                    let closes = matches!(incoming.method, Method::ConnectionClose(_));
                    assert!(
                        channel == 0 || !closes,
                        "waiting on channel {channel}: {:?}",
                        incoming.method
                    );
                    self.stashed.push_back(incoming);
                }
                Err(ended) => panic!("waiting on channel {channel}: {ended:?}"),
            }
        }
    }

    /// Takes out the next method on that channel that fits; what comes before
    /// it stays for later.
    #[track_caller]
    pub fn next_where(&mut self, channel: u16, fits: impl Fn(&Method<'_>) -> bool) -> Incoming {
        let deadline = Instant::now() + PATIENCE;
        let mut passed_over = VecDeque::new();
        let found = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "it never came, but {passed_over:?}");
            let incoming = self.next(channel);
            if fits(&incoming.method) {
                break incoming;
            }
            passed_over.push_back(incoming);
        };
        passed_over.append(&mut self.stashed);
        self.stashed = passed_over;
        found
    }

    /// Asserts that nothing has come on that channel so far. Only of use after
    /// a round trip that comes behind what must not come.
    #[track_caller]
    pub fn expect_nothing(&mut self, channel: u16) {
        if let Some(one) = self.stashed.iter().find(|one| one.channel == channel) {
            panic!("nothing was due on channel {channel}, but {one:?}");
        }
    }

    /// Asserts that no octet waits to be read. As [`Client::expect_nothing`],
    /// only of use behind what shows that it would have come.
    #[track_caller]
    pub fn expect_no_octets(&mut self) {
        assert!(self.stashed.is_empty(), "{:?}", self.stashed);
        assert_eq!(self.taken, self.inbound.len(), "octets were read");
        self.stream
            .set_nonblocking(true)
            .expect("a connected socket");
        let peeked = self.stream.peek(&mut [0]);
        self.stream
            .set_nonblocking(false)
            .expect("a connected socket");
        let error = peeked.expect_err("something waits to be read");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }

    /// Waits until the server has closed the socket; what comes before is
    /// dropped, but a `connection.close` is answered.
    #[track_caller]
    pub fn expect_end(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.read(deadline) {
                Ok(incoming) if matches!(incoming.method, Method::ConnectionClose(_)) => {
                    self.send(0, &ConnectionCloseOk {});
                }
                Ok(_) => {}
                Err(ended) => return assert_eq!(ended, Ended::Closed),
            }
        }
    }

    /// Waits until the server has closed the socket, and fails if it says
    /// anything before.
    #[track_caller]
    pub fn expect_silent_end(&mut self) {
        match self.read(Instant::now() + PATIENCE) {
            Err(ended) => assert_eq!(ended, Ended::Closed),
            Ok(incoming) => panic!("the socket was to be closed, but {incoming:?}"),
        }
    }

    /// Everything the server sends until it closes the socket, unparsed.
    #[track_caller]
    pub fn bytes_until_end(&mut self) -> Vec<u8> {
        let deadline = Instant::now() + PATIENCE;
        while self.fill_inbound(deadline).map_err(|ended| {
            assert_eq!(ended, Ended::Closed, "the socket was to be closed");
        }) == Ok(())
        {}
        self.inbound.split_off(self.taken)
    }

    /// Waits for one more heartbeat frame.
    #[track_caller]
    pub fn expect_heartbeat(&mut self, within: Duration) {
        let deadline = Instant::now() + within;
        let before = self.heartbeats;
        while self.heartbeats == before {
            self.take_apart();
            if self.heartbeats == before
                && let Err(ended) = self.fill_inbound(deadline)
            {
                panic!("no heartbeat: {ended:?}");
            }
        }
    }

    /// Ends the connection without a word: dropping closes the socket.
    pub fn drop_socket(self) {}

    /// Ends the connection by a TCP reset.
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream)
            .set_linger(Some(Duration::ZERO))
            .expect("a connected socket");
    }

    fn read(&mut self, deadline: Instant) -> Result<Incoming, Ended> {
        loop {
            if let Some(incoming) = self.take_apart() {
                return Ok(incoming);
            }
            self.fill_inbound(deadline)?;
        }
    }

    fn fill_inbound(&mut self, deadline: Instant) -> Result<(), Ended> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Ended::TimedOut);
        }
        self.stream
            .set_read_timeout(Some(left))
            .expect("a positive timeout");
        let mut chunk = [0; 65_536];
        match self.stream.read(&mut chunk) {
            Ok(0) => Err(Ended::Closed),
            Ok(count) => {
                self.inbound.drain(..self.taken);
                self.taken = 0;
                self.inbound.extend_from_slice(&chunk[..count]);
                Ok(())
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => Err(Ended::TimedOut),
                ErrorKind::Interrupted => Ok(()),
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Err(Ended::Closed),
                _ => panic!("reading failed: {error}"),
            },
        }
    }

    /// Takes whole frames off the buffer until a method is complete with its content.
    fn take_apart(&mut self) -> Option<Incoming> {
        loop {
            let (kind, channel, payload, size) = {
                let (frame, size) = frame::decode(&self.inbound[self.taken..], self.frame_max)
                    .unwrap_or_else(|error| panic!("{error}: {:?}", self.inbound))?;
                (frame.kind, frame.channel, frame.payload.to_vec(), size)
            };
            self.taken += size;
            let complete = match kind {
                FrameKind::Heartbeat => {
                    self.heartbeats += 1;
                    None
                }
                FrameKind::Method => self.method_came(channel, payload),
                FrameKind::Header => self.header_came(channel, &payload),
                FrameKind::Body => self.body_came(channel, &payload),
            };
            if complete.is_some() {
                return complete;
            }
        }
    }

    fn method_came(&mut self, channel: u16, payload: Vec<u8>) -> Option<Incoming> {
        // Leaked, so that a method outlives its frame without an owned twin of
        // every struct; a test receives little.
        let payload: &'static [u8] = Box::leak(payload.into_boxed_slice());
        let method = Method::decode(payload, &Limits::default())
            .unwrap_or_else(|error| panic!("{error}: {payload:?}"));
        let has_content = method.has_content();
        let incoming = Incoming {
            channel,
            method,
            content: None,
        };
        if has_content {
            let earlier = self.assembling.insert(channel, (incoming, None));
            assert!(earlier.is_none(), "a method in the midst of {earlier:?}");
            return None;
        }
        assert!(
            !self.assembling.contains_key(&channel),
            "{incoming:?} in the midst of a message"
        );
        Some(incoming)
    }

    fn header_came(&mut self, channel: u16, payload: &[u8]) -> Option<Incoming> {
        let header = ContentHeader::decode(payload).expect("a whole content header");
        let properties = Properties::decode(header.properties, &Limits::default())
            .unwrap_or_else(|error| panic!("{error}: {payload:?}"));
        let (incoming, missing) = self
            .assembling
            .get_mut(&channel)
            .expect("a header frame follows a content method");
        assert_eq!(*missing, None, "two headers for {incoming:?}");
        *missing = Some(header.body_bytes);
        incoming.content = Some(Content {
            properties,
            raw_properties: header.properties.to_vec(),
            ..Content::default()
        });
        self.complete(channel)
    }

    fn body_came(&mut self, channel: u16, payload: &[u8]) -> Option<Incoming> {
        let Some((
            Incoming {
                content: Some(content),
                ..
            },
            Some(missing),
        )) = self.assembling.get_mut(&channel)
        else {
            panic!("a body frame without a header on channel {channel}");
        };
        assert!(!payload.is_empty(), "an empty body frame says nothing");
        *missing = missing
            .checked_sub(payload.len() as u64)
            .expect("a body is not longer than announced");
        content.body.extend_from_slice(payload);
        content.frame_sizes.push(payload.len());
        self.complete(channel)
    }

    fn complete(&mut self, channel: u16) -> Option<Incoming> {
        let (_, missing) = self.assembling.get(&channel)?;
        if *missing != Some(0) {
            return None;
        }
        self.assembling
            .remove(&channel)
            .map(|(incoming, _)| incoming)
    }
}
