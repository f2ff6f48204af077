//! One connection's task: reads, lets the session and the broker work, writes.
//!
//! One task does both directions, so the session needs no lock. It never waits
//! for one thing alone: a client that does not read is still heard, up to the
//! limit of what may wait to be written to it.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use foldhash::HashMap;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::WriteHalf;
use tokio::sync::OwnedSemaphorePermit;

use crate::broker::{Node, Outbox, Outgoing, Publisher, Requester, Vhost, Wakes};
use crate::model::{Now, UserName};
use crate::queue::Delivery;
use crate::session::{Login, Session};

use super::attachments::Attachments;
use super::barrier::Barrier;
use super::buffers;
use super::channels::{Attached, ChannelSide};
use super::heartbeat::{Due, Pulse};
use super::listener::AmqpSettings;
use super::origins::Origins;
use super::throttle::Throttle;
use super::throttle::pause_tick;

/// A connection without its socket.
pub(super) struct Connection {
    pub(super) node: Arc<Node>,
    pub(super) session: Session,
    pub(super) outbox: Arc<Outbox>,
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
    /// `peer -> local`, as RabbitMQ names connections.
    pub(super) name: Arc<str>,
    pub(super) connected_at: Now,
    /// How it logs in.
    pub(super) mechanism: &'static str,
    pub(super) user: UserName,
    /// Set once the virtual host is open.
    pub(super) open: Option<Open>,
    /// Whether it ever got that far: otherwise it counts as refused.
    pub(super) was_open: bool,
    pub(super) channels: HashMap<u16, ChannelSide>,
    /// Channels that are open as far as was told.
    pub(super) told_channels: Vec<u16>,
    pub(super) consumers: HashMap<u32, Attached>,
    pub(super) attachments: Attachments,
    pub(super) events: Vec<Outgoing>,
    pub(super) deliveries: Vec<Delivery>,
    pub(super) wakes: Wakes,
    /// The outbox was emptied, and consumers that waited for that may go on.
    pub(super) emptied: bool,
    /// Others were woken by what was read.
    pub(super) gave_work: bool,
    /// Deliveries that a channel may hold unsettled; 0 is unlimited.
    pub(super) unsettled_max: u32,
    /// What the held part of the output waits for.
    pub(super) barrier: Barrier,
    pub(super) throttle: Throttle,
    /// Of the messages that wait to be flushed.
    pub(super) origins: Origins,
    handshake: Option<OwnedSemaphorePermit>,
}

/// What an open connection works on.
pub(super) struct Open {
    pub(super) vhost: Arc<Vhost>,
    pub(super) requester: Requester,
    pub(super) publisher: Publisher,
}

/// Something that must be awaited before the session can go on.
pub(super) enum Awaited {
    Login(Login),
}

/// Serves a client until it goes, and logs how it went.
pub(super) async fn serve(
    mut stream: TcpStream,
    peer: SocketAddr,
    outbox: Arc<Outbox>,
    node: Arc<Node>,
    settings: Arc<AmqpSettings>,
    handshake: OwnedSemaphorePermit,
) {
    if let Err(error) = prepare(&stream) {
        // The peer has gone already; reading will say so.
        tracing::debug!(%peer, %error, "cannot set the socket's options");
    }
    // Unknown if the peer has gone already.
    let local = stream.local_addr().unwrap_or(peer);
    // In a place of its own: within the task it would take room twice, for
    // where it is made and where it is used.
    let mut connection = Box::new(Connection {
        session: Session::new(settings.session.clone()),
        outbox: Arc::clone(&outbox),
        peer,
        local,
        name: format!("{peer} -> {local}").into(),
        connected_at: node.now(),
        mechanism: "",
        user: UserName::default(),
        open: None,
        was_open: false,
        channels: HashMap::default(),
        told_channels: Vec::new(),
        consumers: HashMap::default(),
        attachments: Attachments::default(),
        events: Vec::new(),
        deliveries: Vec::new(),
        wakes: Wakes::default(),
        emptied: false,
        gave_work: false,
        handshake: Some(handshake),
        unsettled_max: settings.unsettled_max,
        barrier: Barrier::default(),
        throttle: Throttle::default(),
        origins: Origins::default(),
        node: Arc::clone(&node),
    });
    let pulse = Pulse::new(Instant::now(), settings.handshake_timeout);
    if let Err(error) = connection.run(&mut stream, pulse).await {
        connection.session.disconnected(&error.to_string());
    }
    connection.release_all();
    connection.tell_closed();
    connection.log_end();
    drop(connection);
    node.disconnect(outbox.connection());
    say_goodbye(stream).await;
}

impl Connection {
    async fn run(&mut self, stream: &mut TcpStream, mut pulse: Pulse) -> io::Result<()> {
        let (mut reader, mut writer) = stream.split();
        let outbox = Arc::clone(&self.outbox);
        let mut input = BytesMut::new();
        let mut was_running = false;
        let timer = tokio::time::sleep_until(pulse.next(Instant::now()).into());
        tokio::pin!(timer);
        loop {
            self.look_at_alarms();
            self.look_at_store()?;
            if self.write(&writer)? {
                pulse.written(Instant::now());
            }
            if self.session.is_closed() {
                return self.finish(&mut writer).await;
            }
            if self.session.is_running() && !was_running {
                was_running = true;
                pulse.start(self.session.heartbeat_seconds());
                timer.as_mut().reset(pulse.next(Instant::now()).into());
            }
            if self.session.is_closing() {
                let now = Instant::now();
                pulse.limit(now, CLOSE_TIMEOUT);
                timer.as_mut().reset(pulse.next(now).into());
            }
            let reads = self.throttle.reads() || self.session.is_closing();
            if reads != pulse.listens() {
                let now = Instant::now();
                pulse.listen(now, reads);
                timer.as_mut().reset(pulse.next(now).into());
            }
            let pauses = self.throttle.pauses();
            let output = self.session.output();
            let (pending, writable) = (output.pending_bytes(), output.writable_bytes());
            if self.emptied && pending < DRAIN_BYTES_MAX {
                self.emptied = false;
                self.resume_parked();
            }
            // In no fixed order: a steady stream of deliveries must not keep the
            // client's frames or the timer from being looked at.
            tokio::select! {
                () = outbox.filled(), if pending < DRAIN_BYTES_MAX => self.outbox_filled(),
                () = outbox.urgent() => if outbox.close_asked() { self.outbox_filled() },
                read = buffers::read(&mut reader, &mut input), if reads && pending < UNSENT_BYTES_MAX => {
                    if read? == 0 {
                        self.session.disconnected("the client closed the socket");
                        return Ok(());
                    }
                    pulse.read(Instant::now());
                    self.received(&mut input).await;
                    // Those who were just given work run before more is read, and
                    // before this thread waits for the disk.
                    if std::mem::take(&mut self.gave_work) || !self.store_now() {
                        tokio::task::yield_now().await;
                        self.store_now();
                    }
                }
                ready = writer.writable(), if writable > 0 => ready?,
                () = pause_tick(pauses) => self.throttle.look_at_pause(Instant::now(), self.node.durability()),
                () = &mut timer => {
                    let now = Instant::now();
                    self.time_passed(now, &mut pulse, was_running, reader.as_ref())?;
                    timer.as_mut().reset(pulse.next(now).into());
                }
            }
        }
    }

    /// Has the store write what was published; whether that is done already.
    fn store_now(&mut self) -> bool {
        let waits = self.session.waits_for_store();
        self.node.durability().commit(waits)
    }

    /// Does what is due by now; an error if that is the end.
    fn time_passed(
        &mut self,
        now: Instant,
        pulse: &mut Pulse,
        was_running: bool,
        stream: &TcpStream,
    ) -> io::Result<()> {
        let ends = |error| Err(io::Error::new(io::ErrorKind::TimedOut, error));
        match pulse.due(now) {
            Due::Nothing => Ok(()),
            Due::Heartbeat => {
                self.session.heartbeat();
                pulse.written(now);
                Ok(())
            }
            // Not listened to is not silent: we may be late ourselves, or it
            // does not read and so is not read.
            Due::PeerGone if has_more(stream) => {
                pulse.read(now);
                Ok(())
            }
            Due::PeerGone => ends("missed heartbeats from client"),
            Due::TimedOut if was_running => ends("close timed out"),
            Due::TimedOut => ends("handshake timed out"),
        }
    }

    /// Passes on what waits in the outbox, the end of the connection included.
    fn outbox_filled(&mut self) {
        self.pass_on();
        if self.session.wants_release() {
            // Nothing is read for this, so nothing can be awaited.
            self.process(&Bytes::new(), &mut 0);
        }
    }

    /// Works through what was read; what is not a whole frame stays.
    async fn received(&mut self, input: &mut BytesMut) {
        self.session.output().lend(buffers::output);
        let octets = std::mem::take(input).freeze();
        let mut offset = 0;
        while let Some(awaited) = self.process(&octets, &mut offset) {
            match awaited {
                Awaited::Login(login) => self.log_in(login).await,
            }
        }
        *input = buffers::rest(octets, offset);
    }

    async fn log_in(&mut self, login: Login) {
        let Login {
            mechanism,
            user,
            password,
        } = login;
        self.mechanism = mechanism;
        let access = self.node.access();
        let result = access.login(&user, password, self.peer.ip()).await;
        self.tell_login(&user, result);
        match result {
            Ok(()) => {
                self.user = user;
                self.handshake = None;
                self.session.logged_in();
            }
            Err(reason) => {
                let (peer, user) = (self.peer, user.as_str());
                tracing::warn!(%peer, user, mechanism, %reason, "login refused");
                self.session.login_failed(mechanism);
            }
        }
    }

    /// Writes as much as the socket takes; whether that was anything.
    fn write(&mut self, writer: &WriteHalf<'_>) -> io::Result<bool> {
        let output = self.session.output();
        let mut any = false;
        while output.writable_bytes() > 0 {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let used = output.slices(&mut slices);
            match writer.try_write_vectored(&slices[..used]) {
                Ok(count) => {
                    any |= count > 0;
                    output.advance(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(any),
                Err(error) => return Err(error),
            }
        }
        if let Some(memory) = output.reclaim() {
            buffers::keep_output(memory);
        }
        Ok(any)
    }

    /// Writes what is left, for a while: it may still wait for the store.
    async fn finish(&mut self, writer: &mut WriteHalf<'_>) -> io::Result<()> {
        let rest = async {
            let outbox = Arc::clone(&self.outbox);
            loop {
                self.look_at_store()?;
                self.write(writer)?;
                let output = self.session.output();
                if output.is_empty() {
                    return writer.shutdown().await;
                }
                tokio::select! {
                    ready = writer.writable(), if output.writable_bytes() > 0 => ready?,
                    () = outbox.urgent() => {}
                }
            }
        };
        tokio::time::timeout(CLOSE_TIMEOUT, rest)
            .await
            .unwrap_or(Ok(()))
    }

    fn log_end(&self) {
        let (peer, user) = (self.peer, self.user.as_str());
        let reason = self.session.end_reason().unwrap_or("unknown");
        let name = &self.session.client().name;
        if self.was_open {
            tracing::info!(%peer, user, name, reason, "connection closed");
        } else {
            tracing::warn!(%peer, user, name, reason, "connection refused");
        }
    }
}

/// Whether there is something to read at this moment.
fn has_more(stream: &TcpStream) -> bool {
    let mut octet = [MaybeUninit::uninit()];
    let peeked = SockRef::from(stream).peek(&mut octet);
    peeked.is_ok_and(|count| count > 0)
}

/// Frames go out at once, and a peer that vanished without a word is noticed
/// even where no heartbeats were agreed.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// Closing a socket with octets unread would reset it and could take our last
/// words with it: the client's are read away first, for a bounded while.
async fn say_goodbye(mut stream: TcpStream) {
    use tokio::io::AsyncReadExt;
    let read_away = async {
        // Within the task it would take its room for as long as the connection lives.
        let mut scratch = vec![0; 4096];
        let mut left = LAST_WORDS_BYTES_MAX;
        while let Ok(count) = stream.read(&mut scratch).await {
            if count == 0 || count >= left {
                break;
            }
            left -= count;
        }
    };
    // Whoever does not close in time is closed on.
    let _ = tokio::time::timeout(LAST_WORDS_TIMEOUT, read_away).await;
}

/// Unsent octets up to which deliveries are taken from the outbox.
const DRAIN_BYTES_MAX: usize = 256 * 1024;
/// Unsent octets from which a client is not read any more.
const UNSENT_BYTES_MAX: usize = 1024 * 1024;
/// Pieces that one write takes.
const SLICES_MAX: usize = 32;
/// How long a peer may take to answer a close, or to take our last octets.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(1);
const LAST_WORDS_BYTES_MAX: usize = 16 * 1024 * 1024;
