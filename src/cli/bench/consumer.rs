//! A consumer: one connection, one thread. Reads as much as there is, checks and settles
//! every delivery, and writes all acks of a read at once.

use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::Duration;

use leveret_protocol::method::{BasicAck, BasicConsume, BasicQos};
use leveret_protocol::{Limits, Method, frame};

use super::client::{self, ClientError, Connection};
use super::delivery::{self, Assembly, Delivery, Event};
use super::input::Input;
use super::latency::Latencies;
use super::scenario::{Direction, Scenario, Settling};
use super::sequence::StreamCheck;
use super::shared::{self, Clock, ConsumerCounters, Signals};

/// An open consumer.
#[derive(Debug)]
pub struct Consumer<'a> {
    stream: TcpStream,
    input: Input,
    limits: Limits,
    assembly: Assembly,
    tally: Tally,
    acks: Acks,
    clock: Clock,
    signals: &'a Signals,
    counters: &'a ConsumerCounters,
}

/// What a consumer brings home.
#[derive(Debug)]
pub struct ConsumerOutcome {
    /// By queue and producer; a queue that was not listened to has none.
    pub streams: Vec<Vec<StreamCheck>>,
    /// From due time to receipt.
    pub latencies: Latencies,
    /// Deliveries of messages that no producer of this run sent.
    pub foreign: u64,
    /// When the first delivery came, if any did.
    pub first_ns: Option<u64>,
    /// When the last delivery came.
    pub last_ns: u64,
    /// Why it ended early.
    pub error: Option<ClientError>,
}

impl<'a> Consumer<'a> {
    /// Connects and asks for deliveries. That the broker agrees shows in
    /// [`Signals::attached`], as deliveries may come before.
    ///
    /// # Errors
    /// If the broker cannot be reached or refuses.
    pub fn open(
        scenario: &Scenario,
        consumer: u16,
        clock: Clock,
        signals: &'a Signals,
        counters: &'a ConsumerCounters,
    ) -> Result<Self, ClientError> {
        let name = format!("leveret bench consumer {consumer}");
        let mut connection = Connection::open(&scenario.uri, &name)?;
        if let Settling::Acks { prefetch, .. } = scenario.settling
            && prefetch > 0
        {
            let qos = BasicQos {
                prefetch_count: prefetch,
                ..BasicQos::default()
            };
            connection.call(1, &qos, |method| {
                matches!(method, Method::BasicQosOk(_)).then_some(())
            })?;
        }
        for queue in scenario.queues_of(consumer) {
            let consume = BasicConsume {
                queue: &scenario.queue_name(queue),
                consumer_tag: &queue.to_string(),
                no_ack: scenario.settling == Settling::AutoAck,
                ..BasicConsume::default()
            };
            connection.send(1, &consume)?;
        }
        let (stream, input, limits) = connection.into_parts();
        stream.set_read_timeout(Some(IDLE))?;
        Ok(Self {
            stream,
            input,
            limits,
            assembly: Assembly::default(),
            tally: Tally::new(scenario, consumer),
            acks: Acks::new(scenario.settling),
            clock,
            signals,
            counters,
        })
    }

    /// Consumes until the supervisor says that it is over, or something breaks.
    pub fn run(mut self) -> ConsumerOutcome {
        let error = self.consume().err();
        if error.is_some() {
            shared::raise(&self.signals.failed);
        } else {
            client::say_goodbye(&mut self.stream, &mut self.input);
        }
        ConsumerOutcome {
            streams: self.tally.streams,
            latencies: self.tally.latencies,
            foreign: self.tally.foreign,
            first_ns: self.tally.first_ns,
            last_ns: self.tally.last_ns,
            error,
        }
    }

    fn consume(&mut self) -> Result<(), ClientError> {
        while !shared::raised(&self.signals.finish) {
            match self.input.fill(&mut self.stream) {
                Ok(0) => return Err(ClientError::Dropped),
                Ok(_) => {}
                Err(error) if client::timed_out(&error) => {
                    self.acks.settle_rest();
                    self.acks.write(&mut self.stream)?;
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            let now_ns = self.clock.now_ns();
            let window_start_ns = self.signals.window_start_ns.load(Ordering::Relaxed);
            let taken = self.take_frames(now_ns, window_start_ns);
            shared::show(&self.counters.consumed, self.tally.consumed);
            shared::show(&self.counters.fresh, self.tally.fresh);
            taken?;
            self.acks.write(&mut self.stream)?;
        }
        self.acks.settle_rest();
        self.acks.write(&mut self.stream)
    }

    fn take_frames(&mut self, now_ns: u64, window_start_ns: u64) -> Result<(), ClientError> {
        loop {
            if self.assembly.is_idle() {
                while let Some(delivery) = self.input.take_with(delivery::scan_whole) {
                    self.tally.deliver(&delivery, now_ns, window_start_ns);
                    self.acks.settle(delivery.delivery_tag);
                }
            }
            let Some(frame) = self.input.next_frame()? else {
                return Ok(());
            };
            match self.assembly.take(frame, &self.limits)? {
                Some(Event::Delivery(delivery)) => {
                    self.tally.deliver(&delivery, now_ns, window_start_ns);
                    self.acks.settle(delivery.delivery_tag);
                }
                Some(Event::Method(Method::BasicConsumeOk(_))) => {
                    self.signals.attached.fetch_add(1, Ordering::Relaxed);
                }
                Some(Event::Method(method)) => {
                    client::check_unasked(&method, &mut self.stream)?;
                }
                None => {}
            }
        }
    }
}

/// Counts and checks deliveries.
#[derive(Debug)]
struct Tally {
    streams: Vec<Vec<StreamCheck>>,
    /// Sources that there are; draining a backlog, any may have filled it.
    producers: usize,
    body_bytes: Option<u64>,
    latencies: Latencies,
    consumed: u64,
    fresh: u64,
    foreign: u64,
    first_ns: Option<u64>,
    last_ns: u64,
}

impl Tally {
    fn new(scenario: &Scenario, consumer: u16) -> Self {
        let draining = scenario.direction == Direction::ConsumeOnly;
        let producers = match draining {
            true => usize::from(u16::MAX) + 1,
            false => scenario.sources(),
        };
        let mut streams = vec![Vec::new(); scenario.queues.into()];
        for queue in scenario.queues_of(consumer) {
            if let Some(of_queue) = streams.get_mut(usize::from(queue)) {
                of_queue.push(StreamCheck::default());
            }
        }
        Self {
            streams,
            producers,
            body_bytes: (!draining).then_some(scenario.body_bytes as u64),
            latencies: Latencies::new(),
            consumed: 0,
            fresh: 0,
            foreign: 0,
            first_ns: None,
            last_ns: 0,
        }
    }

    #[inline]
    fn deliver(&mut self, delivery: &Delivery, now_ns: u64, window_start_ns: u64) {
        self.consumed += 1;
        self.first_ns.get_or_insert(now_ns);
        self.last_ns = now_ns;
        let expected_bytes = self.body_bytes.unwrap_or(delivery.body_bytes);
        let stamp = delivery
            .stamp
            .filter(|_| delivery.body_bytes == expected_bytes);
        let stream = stamp.and_then(|stamp| self.stream(delivery.queue, stamp.producer));
        let (Some(stamp), Some(stream)) = (stamp, stream) else {
            self.foreign += 1;
            return;
        };
        if stream.record(stamp.sequence, delivery.redelivered) {
            self.fresh += 1;
        }
        if stamp.due_ns >= window_start_ns {
            self.latencies.record(now_ns.saturating_sub(stamp.due_ns));
        }
    }

    #[inline]
    fn stream(&mut self, queue: u16, producer: u16) -> Option<&mut StreamCheck> {
        let of_queue = self.streams.get_mut(usize::from(queue))?;
        let producer = usize::from(producer);
        if producer >= of_queue.len() {
            if of_queue.is_empty() || producer >= self.producers {
                return None;
            }
            of_queue.resize_with(producer + 1, StreamCheck::default);
        }
        of_queue.get_mut(producer)
    }
}

/// Acks on their way out.
#[derive(Debug)]
struct Acks {
    settling: Settling,
    out: Vec<u8>,
    /// Deliveries since the last ack, and the last one's tag.
    unsettled: u16,
    last_tag: u64,
}

impl Acks {
    fn new(settling: Settling) -> Self {
        Self {
            settling,
            out: Vec::new(),
            unsettled: 0,
            last_tag: 0,
        }
    }

    #[inline]
    fn settle(&mut self, delivery_tag: u64) {
        let Settling::Acks { every, .. } = self.settling else {
            return;
        };
        self.unsettled += 1;
        self.last_tag = delivery_tag;
        if self.unsettled >= every {
            self.settle_rest();
        }
    }

    fn settle_rest(&mut self) {
        if self.unsettled > 0 {
            let ack = BasicAck {
                delivery_tag: self.last_tag,
                multiple: self.unsettled > 1,
            };
            frame::encode_method(&mut self.out, 1, &ack);
            self.unsettled = 0;
        }
    }

    fn write(&mut self, stream: &mut TcpStream) -> Result<(), ClientError> {
        if !self.out.is_empty() {
            std::io::Write::write_all(stream, &self.out)?;
            self.out.clear();
        }
        Ok(())
    }
}

/// How long a read waits before it looks at the signals.
const IDLE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(every: u16, tags: std::ops::RangeInclusive<u64>) -> Vec<(u64, bool)> {
        let mut acks = Acks::new(Settling::Acks { prefetch: 0, every });
        tags.for_each(|tag| acks.settle(tag));
        acks.settle_rest();
        acks.settle_rest();
        let mut rest = acks.out.as_slice();
        let mut found = Vec::new();
        while let Some((frame, size)) = frame::decode(rest, 4_096).expect("valid") {
            match Method::decode(frame.payload, &Limits::default()) {
                Ok(Method::BasicAck(ack)) => found.push((ack.delivery_tag, ack.multiple)),
                other => panic!("{other:?}"),
            }
            rest = &rest[size..];
        }
        found
    }

    #[test]
    fn acks_come_one_by_one_or_in_groups() {
        assert_eq!(settled(1, 1..=3), [(1, false), (2, false), (3, false)]);
        assert_eq!(settled(2, 1..=5), [(2, true), (4, true), (5, false)]);
        assert_eq!(settled(10, 1..=3), [(3, true)]);
    }
}
