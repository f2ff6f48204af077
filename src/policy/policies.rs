//! Policies: what an operator says about queues and exchanges by their names,
//! and how that goes together with what they were declared as.
//!
//! The rules are RabbitMQ's. Of all policies that match, the one with the
//! highest priority applies and no other; the same among the operator's
//! policies, and the two are merged key by key, then with the arguments. See
//! [`Merge`](super::policy_keys::Merge).

use std::cmp::Reverse;
use std::fmt;
use std::sync::Arc;

use regex::Regex;

use super::policy_keys::{Merge, POLICY_KEYS};
use super::settings::{is_quorum, rules_of};
use crate::model::{
    ExchangeName, ExchangeSettings, FieldTable, QueueName, QueueRules, QueueSettings, VhostName,
};

/// All policies, those of each kind in the order in which they were written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policies {
    /// The users'.
    pub user: Vec<Policy>,
    /// The operator's.
    pub operator: Vec<Policy>,
}

/// One policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Its name, for people.
    pub name: String,
    /// Where it applies.
    pub vhost: VhostName,
    /// To which names.
    pub pattern: Pattern,
    /// To what.
    pub apply_to: ApplyTo,
    /// Of several that match, the highest applies; the first of equal ones.
    pub priority: i32,
    /// What it says, in the names of arguments.
    pub definition: FieldTable,
}

/// What a policy is about.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ApplyTo {
    /// Queues and exchanges.
    #[default]
    All,
    /// Queues of every type.
    Queues,
    /// Classic queues.
    ClassicQueues,
    /// Quorum queues.
    QuorumQueues,
    /// Exchanges.
    Exchanges,
}

impl ApplyTo {
    /// RabbitMQ's word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Queues => "queues",
            Self::ClassicQueues => "classic_queues",
            Self::QuorumQueues => "quorum_queues",
            Self::Exchanges => "exchanges",
        }
    }
}

/// A pattern for names: it matches if any part of the name does.
#[derive(Clone)]
pub struct Pattern(Arc<Regex>);

/// What a policy may match.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    ClassicQueue,
    QuorumQueue,
    Exchange,
}

impl Policies {
    /// The rules that a queue goes by.
    #[must_use]
    pub fn queue_rules(
        &self,
        vhost: &VhostName,
        name: &QueueName,
        settings: &QueueSettings,
    ) -> QueueRules {
        let kind = Kind::of(settings);
        let Some(definition) = self.definition(vhost, name.as_str(), kind) else {
            return settings.rules.clone();
        };
        let own = &settings.arguments;
        let mut arguments = FieldTable::clone(own);
        for (argument, value) in definition.iter() {
            match own.get(argument) {
                Some(asked) => {
                    arguments.insert(argument.clone(), merge(argument).pick(asked, value).clone())
                }
                None if is_other_retry(argument, own) => {}
                None => arguments.insert(argument.clone(), value.clone()),
            }
        }
        rules_of(&arguments)
    }

    /// The exchange that takes what this one does not route.
    #[must_use]
    pub fn alternate(
        &self,
        vhost: &VhostName,
        name: &ExchangeName,
        settings: &ExchangeSettings,
    ) -> Option<ExchangeName> {
        let own = settings.arguments.get(ALTERNATE_EXCHANGE).cloned();
        let value = own.or_else(|| {
            let definition = self.definition(vhost, name.as_str(), Kind::Exchange)?;
            definition.get(ALTERNATE_EXCHANGE).cloned()
        })?;
        value.as_str().map(ExchangeName::from)
    }

    /// The name of the users' policy that an exchange goes by.
    #[must_use]
    pub fn name_of_exchange(&self, vhost: &VhostName, name: &ExchangeName) -> Option<&str> {
        let policy = best(&self.user, vhost, name.as_str(), Kind::Exchange);
        policy.map(|policy| policy.name.as_str())
    }

    /// What the policies say that apply, merged; `None` if none does.
    fn definition(&self, vhost: &VhostName, name: &str, kind: Kind) -> Option<FieldTable> {
        let user = best(&self.user, vhost, name, kind);
        let operator = best(&self.operator, vhost, name, kind);
        let (Some(user), Some(operator)) = (user, operator) else {
            return user.or(operator).map(|policy| policy.definition.clone());
        };
        let mut merged = user.definition.clone();
        for (argument, value) in operator.definition.iter() {
            let picked = match user.definition.get(argument) {
                Some(other) => merge(argument).pick(value, other),
                None => value,
            };
            merged.insert(argument.clone(), picked.clone());
        }
        Some(merged)
    }
}

impl Policy {
    /// Whether it applies to that queue, unless another one has precedence.
    #[must_use]
    pub fn matches_queue(
        &self,
        vhost: &VhostName,
        name: &QueueName,
        settings: &QueueSettings,
    ) -> bool {
        self.matches(vhost, name.as_str(), Kind::of(settings))
    }

    fn matches(&self, vhost: &VhostName, name: &str, kind: Kind) -> bool {
        let applies = match self.apply_to {
            ApplyTo::All => true,
            ApplyTo::Queues => kind != Kind::Exchange,
            ApplyTo::ClassicQueues => kind == Kind::ClassicQueue,
            ApplyTo::QuorumQueues => kind == Kind::QuorumQueue,
            ApplyTo::Exchanges => kind == Kind::Exchange,
        };
        applies && self.vhost == *vhost && self.pattern.0.is_match(name)
    }
}

impl Kind {
    fn of(settings: &QueueSettings) -> Self {
        if is_quorum(settings) {
            Self::QuorumQueue
        } else {
            Self::ClassicQueue
        }
    }
}

impl Pattern {
    /// A regular expression, as the crate `regex` has it.
    ///
    /// # Errors
    /// What is wrong with it, in one line.
    pub fn new(text: &str) -> Result<Self, String> {
        let regex = Regex::new(text).map_err(|error| {
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default();
            last.strip_prefix("error: ").unwrap_or(last).to_owned()
        })?;
        Ok(Self(Arc::new(regex)))
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

fn best<'p>(
    policies: &'p [Policy],
    vhost: &VhostName,
    name: &str,
    kind: Kind,
) -> Option<&'p Policy> {
    let matching = policies
        .iter()
        .filter(|policy| policy.matches(vhost, name, kind));
    matching.min_by_key(|policy| Reverse(policy.priority))
}

fn merge(argument: &str) -> Merge {
    let key = POLICY_KEYS.iter().find(|key| key.argument == argument);
    key.map_or(Merge::Closest, |key| key.merge)
}

/// Whether a policy speaks of the kind of retries that the queue's own
/// arguments do not: the two do not mix, and the arguments are closer.
fn is_other_retry(argument: &str, own: &FieldTable) -> bool {
    let other = if argument.starts_with("x-retry-") {
        "x-delayed-retry-type"
    } else if argument.starts_with("x-delayed-retry-") {
        "x-retry-delay"
    } else {
        return false;
    };
    own.get(other).is_some()
}

const ALTERNATE_EXCHANGE: &str = "alternate-exchange";
