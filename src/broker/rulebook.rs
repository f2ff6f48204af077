//! What the operator decides about virtual hosts while they are in use:
//! policies and limits.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::model::{BrokerError, ExchangeName, ExchangeSettings, Now, QueueName, VhostName};
use crate::policy::Policies;
use crate::routing::RoutingTable;

use super::vhost::Catalog;
use super::{Node, Vhost, Wakes};

/// Policies and limits of all virtual hosts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rulebook {
    /// The policies.
    pub policies: Policies,
    /// The limits of those virtual hosts that have any.
    pub limits: BTreeMap<VhostName, VhostLimits>,
}

/// How much there may be in a virtual host; `None` is without a limit of its
/// own.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct VhostLimits {
    /// Queues, exclusive ones included.
    pub queues: Option<u32>,
    /// Connections.
    pub connections: Option<u32>,
}

/// The one that is in force, as all virtual hosts share it.
pub(super) type SharedRulebook = Arc<ArcSwap<Rulebook>>;

impl Rulebook {
    pub(super) fn limits_of(&self, vhost: &VhostName) -> VhostLimits {
        self.limits.get(vhost).copied().unwrap_or_default()
    }
}

impl Node {
    /// Has queues and exchanges go by this from now on, those that are there
    /// and those to come. Limits that are exceeded already only keep more from
    /// coming.
    pub fn rule_by(&self, rulebook: Rulebook) {
        let before = self.rulebook.swap(Arc::new(rulebook));
        self.tell_policies(&before.policies, &self.rulebook.load().policies);
        let vhosts: Vec<_> = self.vhosts.read().values().cloned().collect();
        let mut wakes = Wakes::default();
        for vhost in vhosts {
            vhost.go_by_the_rules(self.now(), &mut wakes);
        }
        wakes.fire();
    }
}

impl Vhost {
    fn go_by_the_rules(&self, now: Now, wakes: &mut Wakes) {
        // A queue that is declared meanwhile is either in the list or finds the
        // new rulebook: both are looked up with the catalog locked.
        let mut catalog = self.catalog.lock();
        let hosts: Vec<_> = self.queues.read().values().cloned().collect();
        let rulebook = self.rulebook.load();
        for host in hosts {
            let rules = rulebook
                .policies
                .queue_rules(&self.name, host.name(), host.settings());
            host.set_rules(rules, now, wakes);
        }
        if self.set_alternates(&mut catalog.routing) {
            self.changed(&catalog);
        }
    }

    /// Gives exchanges the alternates that policies have for them; whether that
    /// changed anything.
    pub(super) fn set_alternates(&self, routing: &mut RoutingTable) -> bool {
        let changed: Vec<_> = routing
            .exchanges()
            // What the default exchange does not route has nowhere to go.
            .filter(|(name, _)| !name.is_default())
            .filter_map(|(name, settings)| {
                let ruled = self.ruled_exchange(name, settings.clone());
                (ruled.alternate != settings.alternate).then(|| (name.clone(), ruled))
            })
            .collect();
        let any = !changed.is_empty();
        for (name, settings) in changed {
            routing.declare_exchange(name, settings);
        }
        any
    }

    /// An exchange as it is with the policies that apply to it.
    pub(super) fn ruled_exchange(
        &self,
        name: &ExchangeName,
        mut settings: ExchangeSettings,
    ) -> ExchangeSettings {
        let policies = &self.rulebook.load().policies;
        settings.alternate = policies.alternate(&self.name, name, &settings);
        settings
    }

    /// Whether there may be one more queue.
    pub(super) fn check_queue_limit(
        &self,
        _locked: &Catalog,
        name: &QueueName,
    ) -> Result<(), BrokerError> {
        let limit = self.rulebook.load().limits_of(&self.name).queues;
        match limit {
            Some(limit) if self.queues.read().len() >= limit as usize => {
                Err(BrokerError::Precondition(format!(
                    "cannot declare queue '{name}': queue limit in vhost '{}' ({limit}) is reached",
                    self.name
                )))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Broker;
    use crate::broker::{Node, QueueRequest, Requester};
    use crate::model::{ConnectionId, FieldTable, FieldValue, QueueName, VhostName};
    use crate::topology::BrokerFile;

    fn rulebook(text: &str) -> super::Rulebook {
        let file = BrokerFile::parse("leveret.toml", text).expect("the file is right");
        file.topology.rulebook
    }

    fn policy(pattern: &str, definition: &str) -> String {
        format!(
            "[[policy]]\nname = \"{pattern}\"\npattern = \"{pattern}\"\n\
             definition = {{ {definition} }}\n"
        )
    }

    fn declare(node: &Node, name: &str, arguments: FieldTable) {
        let vhost = node.vhost(&VhostName::from("/")).expect("it is there");
        let request = QueueRequest {
            name,
            durable: false,
            exclusive: false,
            auto_delete: false,
            arguments,
        };
        let requester = Requester {
            connection: ConnectionId(1),
            user: "guest".into(),
            connection_name: "".into(),
        };
        let status = vhost.declare_queue(request, &requester);
        assert_eq!(status.map(|status| status.name), Ok(QueueName::from(name)));
    }

    /// The longest that a queue may be, and how long its messages may wait.
    fn limits(node: &Node, name: &str) -> (Option<u64>, Option<u64>) {
        let vhost = node.vhost(&VhostName::from("/")).expect("it is there");
        let host = vhost.find_queue(name).expect("it was declared");
        let rules = host.rules();
        (rules.max_length, rules.message_ttl)
    }

    #[tokio::test]
    async fn queues_that_are_there_and_queues_to_come_go_by_the_policies() {
        let broker = Broker::start_on("127.0.0.1:0").await.expect("a free port");
        let node = broker.node();
        let own = || FieldTable::from_iter([("x-max-length", FieldValue::I32(7))]);
        declare(node, "before", FieldTable::new());
        declare(node, "before.own", own());

        let text = policy("^before", "max-length = 5") + &policy("^after", "message-ttl = \"1s\"");
        node.rule_by(rulebook(&text));
        declare(node, "after.own", own());
        assert_eq!(limits(node, "before"), (Some(5), None));
        assert_eq!(limits(node, "before.own"), (Some(5), None));
        assert_eq!(limits(node, "after.own"), (Some(7), Some(1_000)));

        // What it was declared as is what a declare is compared with.
        declare(node, "before", FieldTable::new());
        declare(node, "before.own", own());

        node.rule_by(rulebook(""));
        assert_eq!(limits(node, "before"), (None, None));
        assert_eq!(limits(node, "before.own"), (Some(7), None));
        assert_eq!(limits(node, "after.own"), (Some(7), None));
    }
}
