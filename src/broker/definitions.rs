//! Many definitions at once, as a file has them: all or none.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{
    BrokerError, Destination, ExchangeName, ExchangeSettings, QueueName, QueueSettings, VhostName,
};
use crate::policy;
use crate::routing::{BindRefused, Binding, RoutingTable};
use crate::store::metadata::Change;

use super::ledger::queue_declared;
use super::notices::{Event, broker_user};
use super::{Node, Vhost, Wakes};

/// One thing to be there, or to be gone.
#[derive(Clone, Debug)]
pub enum Definition {
    /// An exchange is there.
    Exchange(ExchangeName, ExchangeSettings),
    /// A queue is there.
    Queue(QueueName, QueueSettings),
    /// A binding is there.
    Bind(Binding),
    /// A binding is gone.
    Unbind(Binding),
}

impl Node {
    /// Brings definitions about, in order, creating virtual hosts as needed.
    /// What is there already and equal is fine.
    ///
    /// # Errors
    /// If one cannot be, and then nothing was changed.
    pub fn define(&self, definitions: Vec<(VhostName, Definition)>) -> Result<(), BrokerError> {
        let mut by_vhost: BTreeMap<VhostName, Vec<Definition>> = BTreeMap::new();
        for (vhost, definition) in definitions {
            by_vhost.entry(vhost).or_default().push(definition);
        }
        // Locked to the end: a new virtual host is not to be seen before all is
        // known to be fine.
        let mut known = self.vhosts.write();
        let vhosts: Vec<_> = by_vhost
            .into_iter()
            .map(|(name, definitions)| {
                let vhost = known.get(&name).cloned();
                (vhost.unwrap_or_else(|| self.new_vhost(name)), definitions)
            })
            .collect();
        // All catalogs stay locked from the first check to the last change, in
        // the order of their names; nobody else ever holds two.
        let mut prepared = Vec::with_capacity(vhosts.len());
        for (vhost, definitions) in &vhosts {
            let catalog = vhost.catalog.lock();
            let plan = Plan::new(vhost, &catalog.routing, definitions)?;
            prepared.push((vhost, catalog, plan));
        }
        let mut recorded = Vec::new();
        let mut wakes = Wakes::default();
        for (vhost, catalog, plan) in &mut prepared {
            let mut changes = Vec::new();
            if !known.contains_key(vhost.name()) {
                vhost.tell(|_| Event::vhost_created(vhost.name()));
            }
            for (name, settings) in std::mem::take(&mut plan.queues) {
                let host = vhost.add_queue(catalog, self.ledger.queue_id(), name, settings, None);
                changes.extend(queue_declared(vhost, &host));
                vhost.tell(|node| Event::queue_created(&host, node, &broker_user()));
            }
            changes.append(&mut plan.changes);
            vhost.introduce(catalog, &mut changes);
            recorded.append(&mut changes);
            for name in &plan.exchanges {
                if let Some(settings) = plan.routing.exchange(name.as_str()) {
                    vhost.remember_names(name, settings, Vec::new());
                }
            }
            let mut histories = vhost.histories.lock();
            catalog.routing = std::mem::take(&mut plan.routing);
            vhost.changed(catalog);
            histories.prune(&catalog.routing);
            for binding in &plan.bound {
                vhost.replay(
                    &histories,
                    &catalog.routing,
                    binding,
                    self.now(),
                    &mut wakes,
                );
            }
            for event in std::mem::take(&mut plan.events) {
                vhost.tell(|_| event);
            }
            known.insert(vhost.name().clone(), Arc::clone(vhost));
        }
        self.ledger.submit(recorded);
        for (vhost, _, plan) in &prepared {
            vhost.forget_names(&plan.gone);
        }
        drop(prepared);
        wakes.fire();
        Ok(())
    }
}

/// What a virtual host will be.
struct Plan {
    routing: RoutingTable,
    queues: Vec<(QueueName, QueueSettings)>,
    /// The new bindings.
    bound: Vec<Binding>,
    /// New ones, and those that go with their last binding.
    exchanges: Vec<ExchangeName>,
    gone: Vec<ExchangeName>,
    /// What goes to disk, the queues left out: they have no numbers yet.
    changes: Vec<Change>,
    /// What is to be told of it, the queues left out again.
    events: Vec<Event>,
}

impl Plan {
    fn new(
        vhost: &Vhost,
        routing: &RoutingTable,
        definitions: &[Definition],
    ) -> Result<Self, BrokerError> {
        let mut plan = Self {
            routing: routing.clone(),
            queues: Vec::new(),
            bound: Vec::new(),
            exchanges: Vec::new(),
            gone: Vec::new(),
            changes: Vec::new(),
            events: Vec::new(),
        };
        for definition in definitions {
            plan.add(vhost, definition)?;
        }
        Ok(plan)
    }

    fn add(&mut self, vhost: &Vhost, definition: &Definition) -> Result<(), BrokerError> {
        match definition {
            Definition::Exchange(name, settings) => match self.routing.exchange(name.as_str()) {
                Some(current) => policy::exchange_equivalent(name, &vhost.name, current, settings)?,
                None => {
                    let mut settings = settings.clone();
                    self.changes.extend(vhost.number_names(&mut settings));
                    let entries = vhost.entries(&self.routing, &self.queues);
                    let put =
                        entries.and_then(|entries| entries.exchange_declared(name, &settings));
                    self.changes.extend(put);
                    let user = broker_user();
                    self.events
                        .push(vhost.exchange_created(name, &settings, &user));
                    self.exchanges.push(name.clone());
                    let settings = vhost.ruled_exchange(name, settings);
                    self.routing.declare_exchange(name.clone(), settings);
                }
            },
            Definition::Queue(name, settings) => match vhost.find_queue(name.as_str()) {
                Some(host) => {
                    policy::queue_equivalent(name, &vhost.name, host.settings(), settings)?
                }
                None => self.queues.push((name.clone(), settings.clone())),
            },
            Definition::Bind(binding) => self.bind(vhost, binding)?,
            Definition::Unbind(binding) => {
                let entries = vhost.entries(&self.routing, &self.queues);
                let before = self.routing.clone();
                let removed = self.routing.unbind(binding);
                if removed.existed {
                    let gone = &removed.auto_deleted;
                    let events = vhost.gone(&before, gone, &[binding], &broker_user());
                    self.events.extend(events);
                }
                self.gone.extend(removed.auto_deleted.iter().cloned());
                if let Some(entries) = entries
                    && removed.existed
                {
                    let changes = entries.unbound(binding, &removed.auto_deleted);
                    self.changes.extend(changes);
                }
            }
        }
        Ok(())
    }

    fn bind(&mut self, vhost: &Vhost, binding: &Binding) -> Result<(), BrokerError> {
        if let Destination::Queue(queue) = &binding.destination
            && vhost.find_queue(queue.as_str()).is_none()
            && !self.queues.iter().any(|(name, _)| name == queue)
        {
            return Err(BrokerError::no_queue(queue, &vhost.name));
        }
        let entries = vhost.entries(&self.routing, &self.queues);
        match self.routing.bind(binding.clone()) {
            Ok(true) => {
                let put = entries.and_then(|entries| entries.bound(binding));
                self.changes.extend(put);
                self.bound.push(binding.clone());
                let user = broker_user();
                let event = Event::binding_created(&vhost.name, binding, &user);
                self.events.push(event);
                Ok(())
            }
            Ok(false) => Ok(()),
            Err(refused) => Err(vhost.bind_refused(refused, &binding.source, &binding.destination)),
        }
    }
}

impl Vhost {
    /// What a refused binding is answered with.
    pub(super) fn bind_refused(
        &self,
        refused: BindRefused,
        source: &ExchangeName,
        destination: &Destination,
    ) -> BrokerError {
        match (refused, destination) {
            (BindRefused::SourceMissing, _) => BrokerError::no_exchange(source, &self.name),
            (BindRefused::DestinationMissing, Destination::Queue(queue)) => {
                BrokerError::no_queue(queue, &self.name)
            }
            (BindRefused::DestinationMissing, Destination::Exchange(exchange)) => {
                BrokerError::no_exchange(exchange, &self.name)
            }
            (BindRefused::DefaultExchange, _) => {
                let text = "operation not permitted on the default exchange";
                BrokerError::Forbidden(text.to_owned())
            }
            (BindRefused::Arguments(text), _) => BrokerError::ArgumentInvalid(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::Broker;
    use crate::broker::{Incoming, Publisher, Requester, Wakes};
    use crate::model::{Body, ConnectionId, VhostName};
    use crate::topology::{self, BrokerFile, Topology};

    fn changes(text: &str) -> Vec<topology::Change> {
        let file = BrokerFile::parse("leveret.toml", text).expect("the file is right");
        topology::diff(&Topology::default(), &file.topology).expect("nothing to conflict with")
    }

    #[tokio::test]
    async fn a_queue_that_a_file_binds_gets_the_history_too() {
        let broker = Broker::start_on("127.0.0.1:0").await.expect("a free port");
        let node = broker.node();
        let before = "[[exchange]]\nname = \"h\"\ntype = \"x-recent-history\"\n";
        topology::apply(&changes(before), node).expect("there is nothing else");
        let vhost = node.vhost(&"/".into()).expect("it is always there");
        let requester = Requester {
            connection: ConnectionId(1),
            user: "guest".into(),
            connection_name: "".into(),
        };
        let replies = Arc::clone(node.reply_targets());
        let mut publisher = Publisher::new(node.clock(), Arc::clone(&vhost), replies, requester);
        let incoming = Incoming {
            channel: 1,
            envelope: b"\x01h\0",
            header: &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0],
            body: Body::Slice(b"body"),
            persistent: false,
            notable: false,
        };
        let mut wakes = Wakes::default();
        let routed = publisher.publish(&incoming, &mut wakes);
        assert_eq!(routed, Ok(false), "nothing is bound yet");

        let after = "[[queue]]\nname = \"q\"\n[[binding]]\nfrom = \"h\"\nto_queue = \"q\"\n";
        let after = changes(&format!("{before}{after}"));
        for _ in 0..2 {
            topology::apply(&after, node).expect("nothing stands against it");
            let queue = vhost.find_queue("q").expect("it was created");
            assert_eq!(queue.counts().ready, 1, "once, however often it is read");
        }
    }

    #[tokio::test]
    async fn what_is_refused_leaves_nothing_behind() {
        let broker = Broker::start_on("127.0.0.1:0").await.expect("a free port");
        let node = broker.node();
        let before = "[[exchange]]\nname = \"logs\"\ntype = \"topic\"\n";
        topology::apply(&changes(before), node).expect("there is nothing else");

        // Virtual hosts come in the order of their names: one on either side.
        let with = |kind: &str| {
            format!(
                "[[vhost]]\nname = \"#\"\n[[vhost]]\nname = \"z\"\n\
                 [[queue]]\nname = \"q\"\nvhost = \"#\"\n[[queue]]\nname = \"q\"\n\
                 [[queue]]\nname = \"q\"\nvhost = \"z\"\n\
                 [[exchange]]\nname = \"logs\"\ntype = \"{kind}\"\n"
            )
        };
        let found = || {
            ["#", "/", "z"].map(|name| {
                let vhost = node.vhost(&VhostName::from(name));
                vhost.map(|vhost| vhost.find_queue("q").is_some())
            })
        };
        topology::apply(&changes(&with("direct")), node).expect_err("it is a topic exchange");
        assert_eq!(found(), [None, Some(false), None]);
        topology::apply(&changes(&with("topic")), node).expect("it is");
        assert_eq!(found(), [Some(true), Some(true), Some(true)]);
    }
}
