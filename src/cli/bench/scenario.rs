//! What a run is to do, worked out from the options: which queues, bindings and consumers
//! there are, and which messages each producer sends where (no I/O).
//!
//! A *lane* is where messages of one kind go: one queue, or with a fanout exchange all of
//! them. A *route* is a routing key, with headers where those decide, and its lane. A
//! producer cycles over its routes and numbers its messages per lane, so that every queue
//! must see each producer's numbers without a gap. Where messages have priorities, those of
//! one priority are numbered by themselves, as if they were another producer's.

use std::time::Duration;

use anyhow::ensure;
use leveret_protocol::{FieldTable, FieldValue, Properties};

use super::args::{Argument, BenchArgs, ExchangeKind};
use super::mode::Mode;
use super::stamp::STAMP_BYTES;
use super::template::NO_NAME;
use super::uri::AmqpUri;

/// A run, with every option resolved and checked.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The broker.
    pub uri: AmqpUri,
    /// What kind of load.
    pub mode: Mode,
    /// Fill, drain or both.
    pub direction: Direction,
    /// Publishing connections; 0 when only draining.
    pub producers: u16,
    /// Consuming connections; 0 when only filling.
    pub consumers: u16,
    /// Queues; at least 1.
    pub queues: u16,
    /// Name of the exchange and start of the queues' names.
    pub prefix: String,
    /// Octets of a body; at least a stamp.
    pub body_bytes: usize,
    /// Confirms outstanding per producer; 0 for none.
    pub confirm_window: u32,
    /// How consumers settle.
    pub settling: Settling,
    /// Messages per second of all producers together.
    pub rate: Option<u64>,
    /// Persistent messages.
    pub persistent: bool,
    /// Durable queues and exchange.
    pub durable: bool,
    /// Of the queues.
    pub queue_arguments: FieldTable,
    /// Priorities that messages cycle over; 1 where they have none.
    pub priorities: u8,
    /// Each message has a name of its own.
    pub message_ids: bool,
    /// Where producers publish to.
    pub exchange: ExchangeKind,
    /// See [`BenchArgs::bindings`].
    pub bindings: u32,
    /// How long the run is.
    pub length: Length,
    /// How long nothing may move before the run gives up.
    pub drain_timeout: Duration,
    /// The broker's process, if it is to be watched.
    pub pid: Option<u32>,
}

/// Fill, drain or both.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// Publish and consume at once.
    Both,
    /// Leave a backlog.
    PublishOnly,
    /// Drain a backlog.
    ConsumeOnly,
}

/// How long a run is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Length {
    /// So many messages of all producers together.
    Count(u64),
    /// So long, after a warm-up that is not counted.
    Time {
        /// Published before the measurement.
        warmup: Duration,
        /// Measured.
        measured: Duration,
    },
    /// Whatever the queues hold.
    Backlog,
}

/// How consumers settle.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Settling {
    /// `no_ack`: not at all.
    AutoAck,
    /// With acks.
    Acks {
        /// Unacknowledged messages; 0 for no limit.
        prefetch: u16,
        /// Messages per ack; above 1 with `multiple`.
        every: u16,
    },
}

/// A routing key and what else makes a message reach its lane.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Route {
    /// Routing key.
    pub key: String,
    /// Value of the header `queue`, for a headers exchange.
    pub header: Option<String>,
    /// Where it leads.
    pub lane: u16,
    /// Of its messages.
    pub priority: u8,
}

/// A queue's binding to the exchange.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Binding {
    /// The queue.
    pub queue: u16,
    /// Binding key.
    pub key: String,
    /// Value of the header `queue` that must match, for a headers exchange.
    pub header: Option<String>,
}

fn arguments(given: &[(String, Argument)], priorities: Option<u8>) -> FieldTable {
    let value = |argument: &Argument| match argument {
        Argument::Flag(flag) => FieldValue::from(*flag),
        Argument::Number(number) => FieldValue::from(*number),
        Argument::Text(text) => FieldValue::from(text.as_str()),
    };
    let given = given.iter();
    let mut table: FieldTable = given
        .map(|(name, argument)| (name.as_str(), value(argument)))
        .collect();
    if let Some(priorities) = priorities
        && table.get(MAX_PRIORITY).is_none()
    {
        table.insert(MAX_PRIORITY, i64::from(priorities) - 1);
    }
    table
}

impl Scenario {
    /// Works out a scenario.
    ///
    /// # Errors
    /// If the options ask for what cannot be.
    pub fn new(args: &BenchArgs) -> anyhow::Result<Self> {
        let (exchange, queues) = match args.fan_out {
            Some(queues) => (ExchangeKind::Fanout, queues),
            None => (args.exchange, args.queues),
        };
        let direction = match (args.publish_only, args.consume_only) {
            (true, _) => Direction::PublishOnly,
            (_, true) => Direction::ConsumeOnly,
            _ => Direction::Both,
        };
        let producers = match direction {
            Direction::ConsumeOnly => 0,
            _ => args.producers,
        };
        let consumers = match (direction, args.consumers, args.fan_out) {
            (Direction::PublishOnly, _, _) => 0,
            (_, Some(consumers), _) => consumers,
            (_, None, fan_out) => fan_out.unwrap_or(1),
        };
        let settling = match (args.auto_ack, args.prefetch, args.multiple_ack) {
            (true, _, _) => Settling::AutoAck,
            (false, prefetch, every) => Settling::Acks {
                prefetch,
                every: every.unwrap_or(1),
            },
        };
        let length = match (direction, args.count) {
            (Direction::ConsumeOnly, _) => Length::Backlog,
            (_, Some(count)) => Length::Count(count),
            (_, None) => Length::Time {
                warmup: args.warmup,
                measured: args.duration,
            },
        };
        let scenario = Self {
            uri: AmqpUri::parse(&args.uri)?,
            mode: Mode::of(args)?,
            direction,
            producers,
            consumers,
            queues,
            prefix: args.queue_prefix.clone(),
            body_bytes: args.size,
            confirm_window: args.confirm,
            settling,
            rate: args.rate,
            persistent: args.persistent,
            durable: args.durable,
            queue_arguments: arguments(&args.queue_arguments, args.priorities),
            priorities: args.priorities.unwrap_or(1),
            message_ids: args.message_ids,
            exchange,
            bindings: match exchange {
                ExchangeKind::Topic => args.bindings.max(queues.into()),
                _ => args.bindings,
            },
            length,
            drain_timeout: args.drain_timeout,
            pid: args.pid,
        };
        scenario.check()?;
        Ok(scenario)
    }

    fn check(&self) -> anyhow::Result<()> {
        ensure!(self.queues > 0, "there must be a queue");
        ensure!(
            self.producers > 0 || self.direction == Direction::ConsumeOnly,
            "there must be a producer (or --consume-only)"
        );
        ensure!(
            self.consumers > 0 || self.direction == Direction::PublishOnly,
            "there must be a consumer (or --publish-only)"
        );
        ensure!(
            self.body_bytes >= STAMP_BYTES,
            "--size must be {STAMP_BYTES} or more: each message carries a sequence and a time"
        );
        ensure!(self.body_bytes <= BODY_BYTES_MAX, "--size is above 512 MiB");
        ensure!(
            self.confirm_window <= CONFIRM_WINDOW_MAX,
            "--confirm is above {CONFIRM_WINDOW_MAX}"
        );
        ensure!(
            self.prefix.len() <= PREFIX_BYTES_MAX,
            "--queue-prefix is too long"
        );
        ensure!(!self.prefix.is_empty(), "--queue-prefix is empty");
        ensure!(
            u32::from(self.producers) * u32::from(self.priorities) <= u16::MAX.into(),
            "--producers times --priorities is above {}",
            u16::MAX
        );
        ensure!(self.rate != Some(0), "--rate must be above 0");
        ensure!(self.length != Length::Count(0), "--count must be above 0");
        if let Settling::Acks { prefetch, every } = self.settling {
            ensure!(every > 0, "--multiple-ack must be above 0");
            ensure!(
                prefetch == 0 || every <= prefetch,
                "--multiple-ack {every} would never come with --prefetch {prefetch}"
            );
        }
        let bound = !matches!(self.exchange, ExchangeKind::Default | ExchangeKind::Fanout);
        ensure!(
            bound || self.bindings == 0,
            "--bindings goes with --exchange direct, topic or headers"
        );
        Ok(())
    }

    /// The exchange to publish to; empty is the default exchange.
    pub fn exchange_name(&self) -> &str {
        match self.exchange {
            ExchangeKind::Default => "",
            _ => &self.prefix,
        }
    }

    /// A queue's name.
    pub fn queue_name(&self, queue: u16) -> String {
        format!("{}-{queue}", self.prefix)
    }

    /// How many queues each message reaches.
    pub fn fan(&self) -> u64 {
        match self.exchange {
            ExchangeKind::Fanout => self.queues.into(),
            _ => 1,
        }
    }

    /// How many lanes there are.
    pub fn lanes(&self) -> u16 {
        match self.exchange {
            ExchangeKind::Fanout => 1,
            _ => self.queues,
        }
    }

    /// The lane that a queue hangs on.
    pub fn lane_of(&self, queue: u16) -> u16 {
        match self.exchange {
            ExchangeKind::Fanout => 0,
            _ => queue,
        }
    }

    /// The queues that a consumer listens to: its share if there are fewer consumers than
    /// queues, else one.
    pub fn queues_of(&self, consumer: u16) -> Vec<u16> {
        if self.consumers >= self.queues {
            return vec![consumer % self.queues];
        }
        (consumer..self.queues)
            .step_by(self.consumers.max(1).into())
            .collect()
    }

    /// The number by which a producer's messages of a priority are known.
    pub fn source(&self, producer: u16, priority: u8) -> u16 {
        producer * u16::from(self.priorities) + u16::from(priority)
    }

    /// How many such numbers there are.
    pub fn sources(&self) -> usize {
        usize::from(self.producers) * usize::from(self.priorities)
    }

    /// The routes that a producer cycles over, never empty: all of a topic exchange from a
    /// place of its own, else those of its share of the queues; each for every priority.
    pub fn routes_of(&self, producer: u16) -> Vec<Route> {
        let routes = self.routes_of_any_priority(producer).into_iter();
        let with = |route: Route, priority| Route { priority, ..route };
        routes
            .flat_map(|route| (0..self.priorities).map(move |one| with(route.clone(), one)))
            .collect()
    }

    fn routes_of_any_priority(&self, producer: u16) -> Vec<Route> {
        match self.exchange {
            ExchangeKind::Fanout => vec![Route {
                key: String::new(),
                header: None,
                lane: 0,
                priority: 0,
            }],
            ExchangeKind::Topic => {
                let all = self.bindings.max(1);
                let first = u64::from(all) * u64::from(producer) / u64::from(self.producers.max(1));
                (0..all)
                    .map(|offset| ((u64::from(offset) + first) % u64::from(all)) as u32)
                    .map(|pattern| Route {
                        key: format!("k.{pattern}.m"),
                        header: None,
                        lane: self.queue_of_pattern(pattern),
                        priority: 0,
                    })
                    .collect()
            }
            _ if self.producers >= self.queues => vec![self.plain_route(producer % self.queues)],
            _ => (producer..self.queues)
                .step_by(self.producers.max(1).into())
                .map(|queue| self.plain_route(queue))
                .collect(),
        }
    }

    /// Every binding of the exchange; those that match nothing are spread over the queues.
    pub fn bindings(&self) -> impl Iterator<Item = Binding> + '_ {
        let headers = self.exchange == ExchangeKind::Headers;
        let matching = match self.exchange {
            ExchangeKind::Default | ExchangeKind::Topic => 0,
            _ => self.queues,
        };
        let matching = (0..matching).map(move |queue| {
            let route = self.plain_route(queue);
            Binding {
                queue,
                key: route.key,
                header: route.header,
            }
        });
        let others = (0..self.bindings).map(move |number| Binding {
            queue: self.queue_of_pattern(number),
            key: match self.exchange {
                ExchangeKind::Topic => format!("k.{number}.*"),
                _ => format!("no.{number}"),
            },
            header: headers.then(|| format!("no.{number}")),
        });
        matching.chain(others)
    }

    /// The properties of a message on that route, as they go on the wire.
    pub fn properties(&self, route: &Route) -> Vec<u8> {
        let headers = route
            .header
            .as_deref()
            .map(|header| [(HEADER_NAME, header)].into_iter().collect::<FieldTable>());
        let properties = Properties {
            headers,
            delivery_mode: self.persistent.then_some(2),
            priority: (self.priorities > 1).then_some(route.priority),
            message_id: self.message_ids.then(|| NO_NAME.to_owned()),
            ..Properties::default()
        };
        let mut encoded = Vec::new();
        properties.encode(&mut encoded);
        encoded
    }

    /// How many of `total` messages a producer sends.
    pub fn share(total: u64, producer: u16, producers: u16) -> u64 {
        let (producer, producers) = (u64::from(producer), u64::from(producers.max(1)));
        total / producers + u64::from(producer < total % producers)
    }

    /// The route to one queue of a default, direct or headers exchange.
    fn plain_route(&self, queue: u16) -> Route {
        Route {
            key: self.queue_name(queue),
            header: (self.exchange == ExchangeKind::Headers).then(|| self.queue_name(queue)),
            lane: self.lane_of(queue),
            priority: 0,
        }
    }

    fn queue_of_pattern(&self, number: u32) -> u16 {
        (number % u32::from(self.queues.max(1))) as u16
    }
}

/// The header that a headers exchange looks at.
pub const HEADER_NAME: &str = "queue";

const MAX_PRIORITY: &str = "x-max-priority";

/// RabbitMQ's own upper bound.
const BODY_BYTES_MAX: usize = 512 << 20;
const CONFIRM_WINDOW_MAX: u32 = 1 << 20;
/// Leaves room for the number behind it in a short string.
const PREFIX_BYTES_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn scenario(options: &str) -> anyhow::Result<Scenario> {
        Scenario::new(&BenchArgs::from_line(options)?)
    }

    #[test]
    fn impossible_options_are_refused() {
        for options in [
            "--size 15",
            "--queues 0",
            "--producers 0",
            "--consumers 0",
            "--rate 0",
            "--count 0",
            "--bindings 5",
            "--exchange fanout --bindings 5",
            "--prefetch 10 --multiple-ack 11",
            "--multiple-ack 0",
            "--fan-out 0",
            "--priorities 1",
            "--priorities 200 --producers 400",
        ] {
            assert!(scenario(options).is_err(), "{options}");
        }
    }

    #[test]
    fn every_queue_has_a_consumer_and_a_producer() {
        for (producers, consumers, queues) in
            [(1, 1, 1u16), (3, 1, 7), (1, 3, 7), (7, 7, 3), (4, 4, 4)]
        {
            for exchange in ["default", "direct", "headers", "topic", "fanout"] {
                let options = format!(
                    "--producers {producers} --consumers {consumers} --queues {queues} --exchange {exchange}"
                );
                let scenario = scenario(&options).expect(&options);
                let heard: BTreeSet<u16> = (0..consumers)
                    .flat_map(|consumer| scenario.queues_of(consumer))
                    .collect();
                assert_eq!(heard.len(), usize::from(queues), "{options}");
                let lanes: BTreeSet<u16> = (0..producers)
                    .flat_map(|producer| scenario.routes_of(producer))
                    .map(|route| route.lane)
                    .collect();
                assert_eq!(lanes.len(), usize::from(scenario.lanes()), "{options}");
                assert!((0..producers).all(|producer| !scenario.routes_of(producer).is_empty()));
            }
        }
    }

    #[test]
    fn each_topic_key_fits_one_pattern_of_its_queue() {
        let scenario = scenario("--exchange topic --bindings 10 --queues 3 --producers 2")
            .expect("the options are fine");
        let bindings: Vec<Binding> = scenario.bindings().collect();
        assert_eq!(bindings.len(), 10);
        for route in scenario.routes_of(1) {
            let stem = route.key.strip_suffix('m').expect("keys end in m");
            let matching: Vec<u16> = bindings
                .iter()
                .filter(|binding| binding.key.strip_suffix('*') == Some(stem))
                .map(|binding| binding.queue)
                .collect();
            assert_eq!(matching, [route.lane]);
        }
    }

    #[test]
    fn idle_bindings_come_beside_the_queues_own() {
        let scenario = scenario("--exchange headers --bindings 4 --queues 2").expect("fine");
        let bindings: Vec<Binding> = scenario.bindings().collect();
        assert_eq!(bindings.len(), 6);
        let route = &scenario.routes_of(0)[1];
        assert_eq!(
            (bindings[1].queue, &bindings[1].header),
            (route.lane, &route.header)
        );
    }

    #[test]
    fn messages_cycle_over_the_priorities_of_each_route() {
        let scenario = scenario("--priorities 3 --queues 2 --producers 2").expect("fine");
        let routes = scenario.routes_of(1);
        let seen: Vec<_> = routes.iter().map(|one| (one.lane, one.priority)).collect();
        assert_eq!(seen, [(1, 0), (1, 1), (1, 2)]);
        let highest = scenario.queue_arguments.get("x-max-priority");
        assert_eq!(highest, Some(&FieldValue::from(2_i64)));
        assert_eq!((scenario.source(1, 2), scenario.sources()), (5, 6));
    }

    #[test]
    fn shares_add_up() {
        for (total, producers) in [(10, 3), (2, 5), (1_000_000, 7)] {
            let sum: u64 = (0..producers)
                .map(|producer| Scenario::share(total, producer, producers))
                .sum();
            assert_eq!(sum, total);
        }
    }

    #[test]
    fn a_fan_out_has_a_consumer_per_queue() {
        let scenario = scenario("--fan-out 10").expect("fine");
        assert_eq!(
            (scenario.consumers, scenario.queues, scenario.fan()),
            (10, 10, 10)
        );
    }
}
