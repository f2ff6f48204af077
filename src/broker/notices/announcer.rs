//! Publishes notices, as a task of the node.

use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::HashMap;
use leveret_protocol::{Properties, Writer};

use crate::model::{Body, FieldTable, Now, QueueId, Traits, VhostName};
use crate::routing::{EVENT_EXCHANGE, EVENT_VHOST, Publish, Routed, TRACE_EXCHANGE};

use super::super::publish::{Batch, Target, history_length};
use super::super::random::Dice;
use super::super::{Node, Vhost, Wakes};
use super::properties::encode;
use super::traces::Trace;
use super::{Event, Notices};

/// Works until it is dropped.
pub async fn announce(node: Arc<Node>) {
    let notices = Arc::clone(node.notices());
    let mut announcer = Announcer::new(node);
    loop {
        notices.posted.notified().await;
        while announcer.announce_some() {
            // Those who got something have their turn.
            tokio::task::yield_now().await;
        }
    }
}

struct Announcer {
    node: Arc<Node>,
    notices: Arc<Notices>,
    events: Vec<(u64, Event)>,
    traces: Vec<Trace>,
    batch: Batch,
    targets: Vec<Target>,
    target_by_queue: HashMap<QueueId, u32>,
    own_targets: Vec<u32>,
    routed: Routed,
    envelope: Vec<u8>,
    dice: Dice,
    wakes: Wakes,
    dropped: u64,
    logged: Option<Instant>,
}

/// A message to be published.
struct Notice<'a> {
    exchange: &'a str,
    routing_key: String,
    properties: Properties,
    body: Body<'a>,
    traits: Traits,
}

impl Announcer {
    fn new(node: Arc<Node>) -> Self {
        Self {
            notices: Arc::clone(node.notices()),
            node,
            events: Vec::new(),
            traces: Vec::new(),
            batch: Batch::default(),
            targets: Vec::new(),
            target_by_queue: HashMap::default(),
            own_targets: Vec::new(),
            routed: Routed::default(),
            envelope: Vec::new(),
            dice: Dice::new(),
            wakes: Wakes::default(),
            dropped: 0,
            logged: None,
        }
    }

    /// Publishes some of the notices that wait, if any do.
    fn announce_some(&mut self) -> bool {
        let notices = Arc::clone(&self.notices);
        let mut events = std::mem::take(&mut self.events);
        let mut traces = std::mem::take(&mut self.traces);
        notices.events.take(&mut events);
        notices.traces.take(&mut traces);
        let any = !events.is_empty() || !traces.is_empty();
        let now = self.node.now();
        self.batch.arrived(now);
        let vhost = self.node.vhost(&VhostName::from(EVENT_VHOST));
        for (millis, event) in events.drain(..) {
            if let Some(vhost) = &vhost {
                self.publish(vhost, event_notice(millis, event), now);
            }
        }
        for trace in traces.drain(..) {
            if let Some(vhost) = self.node.vhost(&trace.vhost) {
                self.publish(&vhost, trace_notice(&trace, notices.node_name()), now);
            }
        }
        self.batch.flush(&mut self.targets, &mut self.wakes);
        if let Some(storage) = self.node.storage() {
            // Nobody waits for a confirm: what the log has no room for is lost
            // by a restart.
            self.batch.record().append(storage, &[]);
        }
        self.wakes.fire();
        self.targets.clear();
        self.target_by_queue.clear();
        (self.events, self.traces) = (events, traces);
        self.log_drops();
        any
    }

    fn publish(&mut self, vhost: &Vhost, notice: Notice<'_>, now: Now) {
        let Notice {
            exchange,
            mut routing_key,
            properties,
            body,
            traits,
        } = notice;
        routing_key.truncate(routing_key.floor_char_boundary(SHORT_STRING_MAX));
        let mut routed = std::mem::take(&mut self.routed);
        let keys = [routing_key.as_str()];
        // Copies of messages can go on to a headers exchange.
        let none = FieldTable::new();
        let headers = properties.headers.as_ref().unwrap_or(&none);
        let routing = vhost.routing();
        let publish = Publish {
            random: self.dice.roll(),
            ..Publish::new(&keys, headers)
        };
        routing.route(exchange, &publish, &mut routed);
        self.own_targets.clear();
        for queue in &routed.queues {
            let Some(host) = vhost.find_queue(queue.as_str()) else {
                continue;
            };
            let targets = &mut self.targets;
            let target = *self.target_by_queue.entry(host.id()).or_insert_with(|| {
                targets.push(Target::new(host));
                (targets.len() - 1) as u32
            });
            self.own_targets.push(target);
        }
        if self.own_targets.is_empty() && routed.histories.is_empty() {
            self.routed = routed;
            return;
        }
        self.envelope.clear();
        let mut writer = Writer::new(&mut self.envelope);
        writer.shortstr(exchange);
        writer.shortstr(&routing_key);
        let header = encode(properties, body.len());
        for name in &routed.histories {
            let mut alone = Batch::default();
            alone.arrived(now);
            alone.store(&self.envelope, &header, body, traits);
            if let Some(message) = alone.into_single() {
                let length = history_length(&routing, name.as_str());
                vhost.histories.lock().push(name, length, message);
            }
        }
        self.routed = routed;
        if self.own_targets.is_empty() {
            return;
        }
        let number = self.batch.store(&self.envelope, &header, body, traits);
        self.batch
            .enqueue(number, &self.own_targets, &mut self.targets);
    }

    /// Says what was dropped, once in a while.
    fn log_drops(&mut self) {
        let (events, traces) = (&self.notices.events, &self.notices.traces);
        self.dropped += events.take_dropped() + traces.take_dropped();
        if self.dropped == 0 || self.logged.is_some_and(|at| at.elapsed() < LOG_EVERY) {
            return;
        }
        self.logged = Some(Instant::now());
        let dropped = std::mem::take(&mut self.dropped);
        tracing::warn!(
            dropped,
            "more traces or events than can be passed on: some are dropped"
        );
    }
}

fn event_notice(millis: u64, event: Event) -> Notice<'static> {
    let (routing_key, mut headers) = event.into_parts();
    headers.insert("timestamp_in_ms", i64::try_from(millis).unwrap_or(i64::MAX));
    Notice {
        exchange: EVENT_EXCHANGE,
        routing_key: routing_key.to_owned(),
        properties: Properties {
            headers: Some(headers),
            delivery_mode: Some(2),
            timestamp: Some(millis / 1_000),
            ..Properties::default()
        },
        body: Body::Slice(&[]),
        traits: Traits::new(true),
    }
}

fn trace_notice<'a>(trace: &'a Trace, node: &str) -> Notice<'a> {
    Notice {
        exchange: TRACE_EXCHANGE,
        routing_key: trace.routing_key(),
        properties: Properties {
            headers: Some(trace.headers(node)),
            ..Properties::default()
        },
        body: trace.message.body(),
        traits: Traits::default(),
    }
}

/// Octets of the longest routing key.
const SHORT_STRING_MAX: usize = 255;
/// How often drops are logged.
const LOG_EVERY: Duration = Duration::from_secs(60);
