//! From a published message to the queues it reaches, a batch at a time.
//!
//! A [`Publisher`] belongs to one connection. It remembers the routes that it
//! found, by exchange and routing key, for as long as the virtual host's
//! version stands, and stores messages into blocks; [`Publisher::flush`] then
//! gives each queue all of its messages under one lock, and the log those that
//! are to survive, each once. Order from one connection to one queue is that of
//! the publishes.

use std::borrow::Cow;
use std::sync::Arc;

use foldhash::HashMap;

use crate::model::{
    Body, BrokerError, ExchangeName, FieldTable, Message, NameHash, QueueId, Ticket, Traits,
    envelope_parts,
};
use crate::queue::Known;
use crate::routing::{Needs, Publish, Routed, RoutingTable};
use crate::store::Settled;

use super::exchange_memory::ExchangeMemory;
use super::properties::{Notable, without_blind_copies};
use super::random::Dice;
use super::reply_to::{self, ReplyTargets};
use super::{Clock, Requester, Storage, Vhost, Wakes};

pub(super) use batch::{Batch, Target};
pub(super) use record::deliver;
pub(super) use routes::SharedRoom;

use routes::{Route, Routes};

pub(super) use apart::history_length;

mod apart;
mod batch;
mod record;
mod routes;
#[cfg(test)]
mod tests;

/// A message as it comes from a gateway.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    /// Exchange and routing key, as two short strings in wire form.
    pub envelope: &'a [u8],
    /// The content header's payload in wire form.
    pub header: &'a [u8],
    /// The body.
    pub body: Body<'a>,
    /// Whether it asks to survive a restart.
    pub persistent: bool,
    /// Whether it has properties that the broker looks at.
    pub notable: bool,
    /// The channel that it came on.
    pub channel: u16,
}

/// One connection's way to the queues of its virtual host.
#[derive(Debug)]
pub struct Publisher {
    clock: Clock,
    vhost: Arc<Vhost>,
    storage: Option<Arc<Storage>>,
    reply_targets: Arc<ReplyTargets>,
    requester: Requester,
    routing: Arc<RoutingTable>,
    version: u64,
    routes: Routes,
    targets: Vec<Target>,
    target_by_queue: HashMap<QueueId, u32>,
    batch: Batch,
    routed: Routed,
    /// Targets of a message whose route is not kept.
    own_targets: Vec<u32>,
    dice: Dice,
    /// Whether messages are copied to the exchange of traces.
    traced: bool,
    /// Names that exchanges remember of this batch.
    named: Vec<Named>,
}

/// The name of a message, by its number in the batch.
#[derive(Debug)]
struct Named {
    number: u32,
    memory: Arc<ExchangeMemory>,
    name: NameHash,
    known: Known,
}

impl Publisher {
    /// A publisher into a virtual host.
    #[must_use]
    pub fn new(
        clock: Clock,
        vhost: Arc<Vhost>,
        reply_targets: Arc<ReplyTargets>,
        requester: Requester,
    ) -> Self {
        Self {
            clock,
            routing: vhost.routing(),
            version: vhost.version(),
            traced: vhost.is_traced(),
            storage: vhost.ledger.storage().cloned(),
            routes: Routes::new(Arc::clone(vhost.ledger.route_room())),
            vhost,
            reply_targets,
            requester,
            targets: Vec::new(),
            target_by_queue: HashMap::default(),
            batch: Batch::default(),
            routed: Routed::default(),
            own_targets: Vec::new(),
            dice: Dice::new(),
            named: Vec::new(),
        }
    }

    /// Routes a message and keeps it for [`Publisher::flush`]; whether it
    /// reached a queue.
    ///
    /// # Errors
    /// 403, 404 or 406, as RabbitMQ refuses a publish.
    pub fn publish(
        &mut self,
        incoming: &Incoming<'_>,
        wakes: &mut Wakes,
    ) -> Result<bool, BrokerError> {
        if self.batch.count() == 0 {
            self.refresh();
            // All of one read arrive at once.
            self.batch.arrived(self.clock.now());
        }
        let reaches_any = self.send(incoming, wakes)?;
        if self.traced {
            self.trace(incoming);
        }
        Ok(reaches_any)
    }

    fn send(&mut self, incoming: &Incoming<'_>, wakes: &mut Wakes) -> Result<bool, BrokerError> {
        if incoming.notable {
            return self.publish_notable(incoming, wakes);
        }
        if reply_to::is_reply(incoming.envelope) {
            return Ok(self.answer(incoming, incoming.header, wakes));
        }
        let number = self.route(incoming.envelope)?;
        let route = self.routes.get(number);
        let targets = route.targets();
        if targets.is_empty() {
            return match route.needs {
                needs if needs.any(Needs::BEYOND_HEADERS) => self.publish_apart(incoming, needs),
                _ => Ok(false),
            };
        }
        let traits = Traits::new(incoming.persistent);
        if let Some(memory) = &route.memory {
            let (memory, stored) = (Arc::clone(memory), self.is_stored(traits, targets));
            if self.is_copy(memory, incoming.header, stored) {
                return Ok(true);
            }
        }
        let targets = self.routes.get(number).targets();
        let number = self
            .batch
            .store(incoming.envelope, incoming.header, incoming.body, traits);
        self.batch.enqueue(number, targets, &mut self.targets);
        Ok(true)
    }

    /// Whether a message could be published, for one that waits for a commit.
    ///
    /// # Errors
    /// As [`Publisher::publish`].
    pub fn check(&mut self, incoming: &Incoming<'_>) -> Result<(), BrokerError> {
        if self.batch.count() == 0 {
            self.refresh();
        }
        if incoming.notable {
            Notable::new(incoming.header, &self.requester.user)?;
        }
        if reply_to::is_reply(incoming.envelope) {
            return Ok(());
        }
        self.route(incoming.envelope).map(|_| ())
    }

    /// Messages that wait to be flushed.
    #[must_use]
    pub fn pending(&self) -> u32 {
        self.batch.count()
    }

    /// Of the messages that the last flush gave to queues, those that one of
    /// them refused, ascending; the first one since the flush before is 0. The
    /// others that they went to keep them.
    #[must_use]
    pub fn refused(&self) -> &[u32] {
        self.batch.refused()
    }

    /// Gives the queues what was published since the last flush; what must be
    /// durable before it may be confirmed. A transaction's settlements are
    /// written down together with its messages or not at all.
    pub fn flush(&mut self, settled: &[Settled], wakes: &mut Wakes) -> Ticket {
        if self.batch.count() > 0 {
            self.batch.flush(&mut self.targets, wakes);
            self.note_names();
            if self.routes.is_full() {
                self.forget_routes();
            }
        }
        match &self.storage {
            Some(storage) => self.batch.record().append_read(storage, settled),
            None => Ticket(0),
        }
    }

    /// Forgets what no longer holds.
    fn refresh(&mut self) {
        let version = self.vhost.version();
        if version != self.version {
            self.version = version;
            self.traced = self.vhost.is_traced();
            self.routing = self.vhost.routing();
            self.forget_routes();
        }
    }

    fn forget_routes(&mut self) {
        self.routes.clear();
        self.targets.clear();
        self.target_by_queue.clear();
    }

    /// The route of messages without headers.
    fn route(&mut self, envelope: &[u8]) -> Result<usize, BrokerError> {
        match self.routes.find(envelope) {
            Some(route) => Ok(route),
            None => self.find_route(envelope),
        }
    }

    fn find_route(&mut self, envelope: &[u8]) -> Result<usize, BrokerError> {
        let (exchange, key) = parts(envelope)?;
        let needs = match exchange {
            "" => Needs::NOTHING,
            exchange => self.routing.needs(exchange),
        };
        let routing = Arc::clone(&self.routing);
        if needs.any(Needs::BEYOND_HEADERS) {
            self.own_targets.clear();
            self.check_exchange(&routing, exchange)?;
        } else {
            let headers = FieldTable::new();
            self.find_targets(&routing, exchange, &Publish::new(&[key], &headers))?;
        }
        let memory = self.vhost.exchange_memory(exchange);
        let route = Route::new(envelope, &self.own_targets, needs, memory);
        Ok(self.routes.add(route))
    }

    /// Fills `own_targets`.
    fn find_targets(
        &mut self,
        routing: &RoutingTable,
        exchange: &str,
        publish: &Publish<'_>,
    ) -> Result<(), BrokerError> {
        self.own_targets.clear();
        if exchange.is_empty() {
            for key in publish.keys {
                self.add_target(key);
            }
            return Ok(());
        }
        self.check_exchange(routing, exchange)?;
        let mut routed = std::mem::take(&mut self.routed);
        routing.route(exchange, publish, &mut routed);
        for queue in &routed.queues {
            self.add_target(queue.as_str());
        }
        self.routed = routed;
        Ok(())
    }

    /// Refuses an exchange that cannot be published to.
    fn check_exchange(&self, routing: &RoutingTable, exchange: &str) -> Result<(), BrokerError> {
        let vhost = self.vhost.name();
        match routing.exchange(exchange) {
            None => Err(BrokerError::no_exchange(
                &ExchangeName::from(exchange),
                vhost,
            )),
            Some(settings) if settings.internal => Err(BrokerError::Forbidden(format!(
                "cannot publish to internal exchange '{exchange}' in vhost '{vhost}'"
            ))),
            Some(_) => Ok(()),
        }
    }

    fn add_target(&mut self, queue: &str) {
        let Some(host) = self.vhost.find_queue(queue) else {
            return;
        };
        let targets = &mut self.targets;
        let target = *self.target_by_queue.entry(host.id()).or_insert_with(|| {
            targets.push(Target::new(host));
            (targets.len() - 1) as u32
        });
        if !self.own_targets.contains(&target) {
            self.own_targets.push(target);
        }
    }

    fn publish_notable(
        &mut self,
        incoming: &Incoming<'_>,
        wakes: &mut Wakes,
    ) -> Result<bool, BrokerError> {
        let notable = Notable::new(incoming.header, &self.requester.user)?;
        if reply_to::is_reply(incoming.envelope) {
            let header = match notable.traits().has_blind_copies() {
                true => Cow::Owned(without_blind_copies(incoming.header)?),
                false => Cow::Borrowed(incoming.header),
            };
            return Ok(self.answer(incoming, &header, wakes));
        }
        let (exchange, key) = parts(incoming.envelope)?;
        let route = self.route(incoming.envelope)?;
        let needs = self.routes.get(route).needs;
        let is_plain = notable.extra_keys().is_empty()
            && !needs.any(Needs::BEYOND_HEADERS)
            && (notable.headers().is_none() || !needs.any(Needs::HEADERS));
        if is_plain {
            self.own_targets.clear();
            self.own_targets
                .extend_from_slice(self.routes.get(route).targets());
        } else {
            let mut keys = vec![key];
            keys.extend(notable.extra_keys().iter().map(String::as_str));
            let headers = notable.decode_headers()?;
            let traits = notable.traits();
            self.find_targets_apart(incoming, traits, exchange, &keys, &headers, needs)?;
        }
        if self.own_targets.is_empty() {
            return Ok(false);
        }
        if self.is_copy_by(incoming.envelope, incoming.header, notable.traits())? {
            return Ok(true);
        }
        let number = self.batch.store(
            incoming.envelope,
            incoming.header,
            incoming.body,
            notable.traits(),
        );
        self.batch
            .enqueue(number, &self.own_targets, &mut self.targets);
        Ok(true)
    }

    /// Whether a message with these targets is to be written down.
    fn is_stored(&self, traits: Traits, targets: &[u32]) -> bool {
        let is_stored = |target: &u32| self.targets[*target as usize].host.is_stored();
        traits.persistent() && targets.iter().any(is_stored)
    }

    /// Whether the exchange in an envelope has had a message before that goes to
    /// `own_targets`.
    fn is_copy_by(
        &mut self,
        envelope: &[u8],
        header: &[u8],
        traits: Traits,
    ) -> Result<bool, BrokerError> {
        let route = self.route(envelope)?;
        let Some(memory) = &self.routes.get(route).memory else {
            return Ok(false);
        };
        let (memory, stored) = (
            Arc::clone(memory),
            self.is_stored(traits, &self.own_targets),
        );
        Ok(self.is_copy(memory, header, stored))
    }

    /// Whether an exchange has had a message before. If not, its name is that of
    /// the message that is stored next.
    fn is_copy(&mut self, memory: Arc<ExchangeMemory>, header: &[u8], stored: bool) -> bool {
        let as_new = match stored {
            true => Known::Stored,
            false => Known::InMemory,
        };
        let now = self.clock.now().millis();
        match memory.take(header, as_new, now) {
            None => false,
            Some((name, None)) => {
                self.named.push(Named {
                    number: self.batch.count(),
                    memory,
                    name,
                    known: as_new,
                });
                false
            }
            Some((_, Some(Known::InMemory))) => true,
            Some((name, Some(Known::Stored))) => {
                let record = self.batch.record();
                record.named(memory.id(), memory.rule(), Vec::new(), &[name]);
                true
            }
        }
    }

    /// Has the names of the batch's messages written down with them. One that a
    /// queue refused may come again.
    fn note_names(&mut self) {
        let arrived = self.batch.arrival().millis();
        for named in self.named.drain(..) {
            let Named { memory, name, .. } = &named;
            if self.batch.refused().binary_search(&named.number).is_ok() {
                memory.forget(*name);
            } else if named.known == Known::Stored {
                let seen = vec![(arrived, *name)];
                let record = self.batch.record();
                record.named(memory.id(), memory.rule(), seen, &[]);
            }
        }
    }

    /// Has a copy made of a message that was just sent.
    #[cold]
    fn trace(&self, incoming: &Incoming<'_>) {
        let targets = match self.routes.last() {
            _ if reply_to::is_reply(incoming.envelope) => &[],
            Some(route)
                if !incoming.notable
                    && (!route.targets().is_empty() || !route.needs.any(Needs::BEYOND_HEADERS)) =>
            {
                route.targets()
            }
            _ => self.own_targets.as_slice(),
        };
        let queues = targets
            .iter()
            .map(|index| self.targets[*index as usize].host.name().clone());
        let queues = queues.collect();
        if let Some(message) = alone(incoming, incoming.header, Traits::default()) {
            let (by, channel) = (&self.requester, incoming.channel);
            self.vhost.trace_publish(by, channel, queues, message);
        }
    }

    /// Sends an answer straight to the client that asked (direct reply-to).
    fn answer(&self, incoming: &Incoming<'_>, header: &[u8], wakes: &mut Wakes) -> bool {
        let key = parts(incoming.envelope).map_or("", |(_, key)| key);
        let Some((outbox, serial)) = self.reply_targets.find(key) else {
            return false;
        };
        let traits = Traits::new(incoming.persistent);
        if let Some(message) = alone(incoming, header, traits) {
            outbox.answer(serial, message, wakes);
        }
        true
    }
}

/// A message in a block of its own.
fn alone(incoming: &Incoming<'_>, header: &[u8], traits: Traits) -> Option<Message> {
    let mut batch = Batch::default();
    batch.store(incoming.envelope, header, incoming.body, traits);
    batch.into_single()
}

fn parts(envelope: &[u8]) -> Result<(&str, &str), BrokerError> {
    let malformed = || BrokerError::Syntax("exchange or routing key is not UTF-8".to_owned());
    envelope_parts(envelope).ok_or_else(malformed)
}
