//! A producer: one connection, one thread, a socket that never blocks.
//!
//! ```text
//!        ┌──────────── fill: as much as window, pace and batch allow ◀───────────┐
//!        ▼                                                                       │
//!      write ──socket full──▶ wait to write or read ──▶ write                    │
//!        └──all out──▶ at once if there is more, else wait to read, or until due ┘
//! ```
//! Reading never waits for writing and the reverse: a broker that stops reading while its
//! confirms are not taken cannot lock the two up.

use std::io::Write;
use std::net::TcpStream;
use std::os::fd::AsFd;

use leveret_protocol::method::{ConfirmSelect, QueueDeclare};
use leveret_protocol::{FrameKind, Limits, Method, frame};
use rustix::event::{PollFd, PollFlags, Timespec};
use socket2::SockRef;

use super::client::{self, ClientError, Connection};
use super::confirms::Confirms;
use super::input::Input;
use super::latency::Latencies;
use super::pacing::Pacer;
use super::scenario::{Direction, Length, Scenario};
use super::shared::{self, Clock, ProducerCounters, Signals};
use super::stamp::Stamp;
use super::template::Template;

/// An open producer.
#[derive(Debug)]
pub struct Producer<'a> {
    producer: u16,
    stream: TcpStream,
    input: Input,
    limits: Limits,
    template: Template,
    pacer: Option<Pacer>,
    confirms: Option<Confirms>,
    /// Messages still to be begun.
    left: u64,
    /// What its messages of each priority are known by.
    sources: Vec<u16>,
    /// The next sequence of each lane, by priority.
    sequences: Vec<u64>,
    batch: Batch,
    blocked: Blocked,
    fence: Fence,
    outcome: ProducerOutcome,
    published: u64,
    confirmed: u64,
    clock: Clock,
    signals: &'a Signals,
    counters: &'a ProducerCounters,
}

/// What a producer brings home.
#[derive(Debug)]
pub struct ProducerOutcome {
    /// Messages begun, by lane and priority.
    pub lanes: Vec<u64>,
    /// From due time to confirm; empty without confirms.
    pub confirm_latencies: Latencies,
    /// From due time to when the message was really made; empty at full speed.
    pub lateness: Latencies,
    /// Messages that the broker refused with a nack.
    pub nacked: u64,
    /// When the first message was begun, if one was.
    pub first_ns: Option<u64>,
    /// When the last message was written, confirmed or known to have been taken.
    pub last_ns: u64,
    /// How often and how long the broker told it to wait.
    pub blocked_count: u64,
    /// Nanoseconds of that.
    pub blocked_ns: u64,
    /// Why it ended early.
    pub error: Option<ClientError>,
}

/// Messages on their way into the socket.
#[derive(Debug, Default)]
struct Batch {
    out: Vec<u8>,
    written: usize,
    messages: u64,
}

/// Whether the broker wants no publishes just now.
#[derive(Debug)]
enum Blocked {
    No,
    Since(u64),
}

/// Without confirms and consumers, a question behind the last publish shows when the broker
/// has taken them all.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fence {
    NotNeeded,
    Needed,
    Asked,
    Passed,
}

impl<'a> Producer<'a> {
    /// Connects and gets its messages ready.
    ///
    /// # Errors
    /// If the broker cannot be reached or refuses.
    pub fn open(
        scenario: &Scenario,
        producer: u16,
        clock: Clock,
        signals: &'a Signals,
        counters: &'a ProducerCounters,
    ) -> Result<Self, ClientError> {
        let name = format!("leveret bench producer {producer}");
        let mut connection = Connection::open(&scenario.uri, &name)?;
        let confirms = (scenario.confirm_window > 0)
            .then(|| {
                let select = ConfirmSelect { nowait: false };
                connection.call(1, &select, |method| {
                    matches!(method, Method::ConfirmSelectOk(_)).then_some(())
                })?;
                Ok::<_, ClientError>(Confirms::new(scenario.confirm_window))
            })
            .transpose()?;
        let routes = scenario.routes_of(producer);
        let template = Template::new(scenario, &routes, connection.frame_max());
        let streams = vec![0; usize::from(scenario.lanes()) * usize::from(scenario.priorities)];
        let sources = (0..scenario.priorities).map(|one| scenario.source(producer, one));
        let (stream, input, limits) = connection.into_parts();
        stream.set_nonblocking(true)?;
        SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER_BYTES)?;
        Ok(Self {
            producer,
            stream,
            input,
            limits,
            batch: Batch {
                out: Vec::with_capacity(BATCH_BYTES + template.message_bytes_max()),
                ..Batch::default()
            },
            template,
            pacer: None,
            confirms,
            left: match scenario.length {
                Length::Count(total) => Scenario::share(total, producer, scenario.producers),
                Length::Time { .. } | Length::Backlog => u64::MAX,
            },
            sources: sources.collect(),
            sequences: streams,
            blocked: Blocked::No,
            fence: match (scenario.direction, scenario.confirm_window) {
                (Direction::PublishOnly, 0) => Fence::Needed,
                _ => Fence::NotNeeded,
            },
            outcome: ProducerOutcome {
                lanes: Vec::new(),
                confirm_latencies: Latencies::new(),
                lateness: Latencies::new(),
                nacked: 0,
                first_ns: None,
                last_ns: 0,
                blocked_count: 0,
                blocked_ns: 0,
                error: None,
            },
            published: 0,
            confirmed: 0,
            clock,
            signals,
            counters,
        })
    }

    /// Publishes until the supervisor says that it is over, or something breaks.
    pub fn run(mut self, scenario: &Scenario, start_ns: u64) -> ProducerOutcome {
        self.pacer = scenario
            .rate
            .map(|rate| Pacer::new(start_ns, rate, self.producer, scenario.producers));
        if self.pacer.is_some() {
            wake_up_on_time();
        }
        let fence = scenario.queue_name(0);
        self.outcome.error = self.publish(&fence).err();
        if let Blocked::Since(since_ns) = self.blocked {
            self.outcome.blocked_ns += self.clock.now_ns() - since_ns;
        }
        if self.outcome.error.is_some() {
            shared::raise(&self.signals.failed);
        } else if self.batch.out.is_empty() {
            client::say_goodbye(&mut self.stream, &mut self.input);
        }
        self.outcome.lanes = self.sequences;
        self.outcome
    }

    fn publish(&mut self, fence: &str) -> Result<(), ClientError> {
        let mut look_ns = 0;
        while !shared::raised(&self.signals.finish) {
            let now_ns = self.clock.now_ns();
            if self.batch.out.is_empty() {
                if shared::raised(&self.signals.stop) {
                    self.left = 0;
                }
                self.fill(now_ns);
                self.check_fence(fence);
            }
            if !self.batch.out.is_empty() {
                self.write()?;
            } else {
                let timeout_ns = match &self.pacer {
                    Some(pacer) if self.may_begin() => {
                        pacer.wake_ns().saturating_sub(now_ns).min(IDLE_NS)
                    }
                    _ => IDLE_NS,
                };
                if self.is_quiet() {
                    shared::raise(&self.counters.quiet);
                }
                self.wait(PollFlags::IN, timeout_ns)?;
            }
            // At full speed nothing ever waits, but the broker may have something to say.
            if now_ns >= look_ns {
                self.read()?;
                look_ns = now_ns + LOOK_NS;
            }
        }
        Ok(())
    }

    /// Whether a message may be begun, once it is due.
    fn may_begin(&self) -> bool {
        let room = self.confirms.as_ref().is_none_or(|due| due.room() > 0);
        self.left > 0 && room && matches!(self.blocked, Blocked::No)
    }

    fn is_quiet(&self) -> bool {
        let confirmed = self.confirms.as_ref().is_none_or(Confirms::is_empty);
        let fenced = matches!(self.fence, Fence::NotNeeded | Fence::Passed);
        self.left == 0 && self.batch.out.is_empty() && confirmed && fenced
    }

    /// Begins as many messages as may go now.
    fn fill(&mut self, now_ns: u64) {
        if !self.may_begin() {
            return;
        }
        let room = self.confirms.as_ref().map_or(u64::MAX, Confirms::room);
        let messages_max = self.left.min(room);
        let window_start_ns = shared::read(&self.signals.window_start_ns);
        while self.batch.messages < messages_max && self.batch.out.len() < BATCH_BYTES {
            let due_ns = match &mut self.pacer {
                None => now_ns,
                Some(pacer) => match pacer.take_due(now_ns) {
                    Some(due_ns) => {
                        if due_ns >= window_start_ns {
                            self.outcome.lateness.record(now_ns - due_ns);
                        }
                        due_ns
                    }
                    None => break,
                },
            };
            let (lane, priority) = self.template.next_stream();
            let stream = usize::from(lane) * self.sources.len() + usize::from(priority);
            let (Some(sequence), Some(source)) = (
                self.sequences.get_mut(stream),
                self.sources.get(usize::from(priority)),
            ) else {
                break;
            };
            let stamp = Stamp {
                producer: *source,
                sequence: *sequence,
                due_ns,
            };
            *sequence += 1;
            self.template.append(&mut self.batch.out, &stamp.encode());
            if let Some(confirms) = &mut self.confirms {
                confirms.published(due_ns);
            }
            self.batch.messages += 1;
        }
        if self.batch.messages > 0 {
            self.left -= self.batch.messages;
            self.outcome.first_ns.get_or_insert(now_ns);
        }
    }

    /// Asks the question behind the last publish, when that is out.
    fn check_fence(&mut self, queue: &str) {
        if self.fence == Fence::Needed && self.left == 0 && self.batch.out.is_empty() {
            let ask = QueueDeclare {
                queue,
                passive: true,
                ..QueueDeclare::default()
            };
            frame::encode_method(&mut self.batch.out, 1, &ask);
            self.fence = Fence::Asked;
        }
    }

    fn write(&mut self) -> Result<(), ClientError> {
        let rest = self.batch.out.get(self.batch.written..).unwrap_or_default();
        match self.stream.write(rest) {
            Ok(count) => {
                self.batch.written += count;
                if self.batch.written >= self.batch.out.len() {
                    self.published += self.batch.messages;
                    shared::show(&self.counters.published, self.published);
                    self.outcome.last_ns = self.clock.now_ns();
                    self.batch.out.clear();
                    (self.batch.written, self.batch.messages) = (0, 0);
                }
                Ok(())
            }
            Err(error) if client::timed_out(&error) => {
                self.wait(PollFlags::IN | PollFlags::OUT, IDLE_NS)
            }
            Err(error) => {
                // The broker may have said why before it stopped listening.
                loop {
                    match self.read() {
                        Ok(0) => return Err(error.into()),
                        Ok(_) => {}
                        Err(reason @ ClientError::Closed { .. }) => return Err(reason),
                        Err(_) => return Err(error.into()),
                    }
                }
            }
        }
    }

    /// Waits until the socket is ready, for a bounded time, and reads if there is something.
    fn wait(&mut self, events: PollFlags, timeout_ns: u64) -> Result<(), ClientError> {
        let timeout = Timespec {
            tv_sec: (timeout_ns / NS_PER_S) as _,
            tv_nsec: (timeout_ns % NS_PER_S) as _,
        };
        let mut sockets = [PollFd::from_borrowed_fd(self.stream.as_fd(), events)];
        match rustix::event::poll(&mut sockets, Some(&timeout)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(ClientError::Io(error.into())),
        }
        let [socket] = sockets;
        if socket.revents() != PollFlags::OUT {
            self.read()?;
        }
        Ok(())
    }

    /// Reads what is there; how many octets that was.
    fn read(&mut self) -> Result<usize, ClientError> {
        let count = match self.input.fill(&mut self.stream) {
            Ok(0) => return Err(ClientError::Dropped),
            Ok(count) => count,
            Err(error) if client::timed_out(&error) => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        let now_ns = self.clock.now_ns();
        let confirmed = self.confirmed;
        while let Some(frame) = self.input.next_frame()? {
            match frame.kind {
                FrameKind::Heartbeat => continue,
                FrameKind::Method => {}
                kind => return Err(ClientError::Unexpected(format!("{kind:?} frame"))),
            }
            match Method::decode(frame.payload, &self.limits)? {
                Method::BasicAck(ack) => {
                    let latencies = &mut self.outcome.confirm_latencies;
                    let window_start_ns = shared::read(&self.signals.window_start_ns);
                    let confirmed = &mut self.confirmed;
                    settle(
                        &mut self.confirms,
                        ack.delivery_tag,
                        ack.multiple,
                        |due_ns| {
                            *confirmed += 1;
                            if due_ns >= window_start_ns {
                                latencies.record(now_ns.saturating_sub(due_ns));
                            }
                        },
                    )?;
                }
                Method::BasicNack(nack) => {
                    let nacked = &mut self.outcome.nacked;
                    settle(&mut self.confirms, nack.delivery_tag, nack.multiple, |_| {
                        *nacked += 1;
                    })?;
                }
                Method::QueueDeclareOk(_) if self.fence == Fence::Asked => {
                    self.fence = Fence::Passed;
                    self.outcome.last_ns = now_ns;
                }
                Method::ConnectionBlocked(_) => {
                    if matches!(self.blocked, Blocked::No) {
                        self.blocked = Blocked::Since(now_ns);
                        self.outcome.blocked_count += 1;
                    }
                }
                Method::ConnectionUnblocked(_) => {
                    if let Blocked::Since(since_ns) = self.blocked {
                        self.outcome.blocked_ns += now_ns - since_ns;
                        self.blocked = Blocked::No;
                    }
                }
                other => client::check_unasked(&other, &mut self.stream)?,
            }
        }
        if self.confirmed != confirmed {
            shared::show(&self.counters.confirmed, self.confirmed);
            self.outcome.last_ns = now_ns;
        }
        Ok(count)
    }
}

fn settle(
    confirms: &mut Option<Confirms>,
    tag: u64,
    multiple: bool,
    each: impl FnMut(u64),
) -> Result<(), ClientError> {
    match confirms {
        Some(confirms) => confirms
            .settle(tag, multiple, each)
            .map_err(|unknown| ClientError::UnknownTag(unknown.0)),
        None => Err(ClientError::UnknownTag(tag)),
    }
}

/// Asks the kernel not to put off this thread's wake-ups; it may by 50 µs otherwise, which
/// would count as the broker's latency.
fn wake_up_on_time() {
    #[cfg(target_os = "linux")]
    if let Some(slack_ns) = std::num::NonZeroU64::new(1) {
        // Without it the run is only less exact, and its report shows by how much.
        let _ = rustix::thread::set_current_timer_slack(Some(slack_ns));
    }
}

/// Left alone the kernel would take several megabytes, seconds of a slow broker's work, and
/// call them published.
const SEND_BUFFER_BYTES: usize = 256 * 1_024;
/// A batch is written when it is this long.
const BATCH_BYTES: usize = 64 * 1_024;
/// How long a wait lasts before it looks at the signals.
const IDLE_NS: u64 = 100_000_000;
/// How often a producer at full speed looks for what the broker has to say.
const LOOK_NS: u64 = 20_000_000;
const NS_PER_S: u64 = 1_000_000_000;
