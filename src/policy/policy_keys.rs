//! What a policy may say: one row per key. A key means what the argument of its
//! row means, which also knows the values that it may have.

use super::arguments::ArgumentSpec;
use super::exchange_arguments::EXCHANGE_ARGUMENTS;
use super::queue_arguments::QUEUE_ARGUMENTS;
use super::values::Invalid;
use crate::model::{ExchangeKind, ExchangeSettings, FieldValue, QueueSettings};

/// One key of a policy's definition.
#[derive(Debug)]
pub struct PolicyKey {
    /// Its name, RabbitMQ's where it has one.
    pub name: &'static str,
    /// The argument that asks for the same.
    pub argument: &'static str,
    /// How a file may write its value.
    pub unit: Unit,
    /// Which value counts if several ask.
    pub merge: Merge,
}

/// In what a value is counted, so that a file may name the unit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unit {
    /// Milliseconds.
    Time,
    /// Octets.
    Size,
    /// Nothing that has units.
    None,
}

/// Which value counts: of a policy and an operator's policy, and of an argument
/// and a policy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Merge {
    /// The smaller one: it is a limit.
    Smaller,
    /// The smaller one, and a negative one is no limit.
    SmallerLimit,
    /// The operator's before the other policy's, and the argument's before both.
    Closest,
}

/// All of them.
pub static POLICY_KEYS: &[PolicyKey] = &[
    key("message-ttl", "x-message-ttl", Unit::Time, Merge::Smaller),
    key("expires", "x-expires", Unit::Time, Merge::Smaller),
    key("max-length", "x-max-length", Unit::None, Merge::Smaller),
    key(
        "max-length-bytes",
        "x-max-length-bytes",
        Unit::Size,
        Merge::Smaller,
    ),
    key("overflow", "x-overflow", Unit::None, Merge::Closest),
    key(
        "dead-letter-exchange",
        "x-dead-letter-exchange",
        Unit::None,
        Merge::Closest,
    ),
    key(
        "dead-letter-routing-key",
        "x-dead-letter-routing-key",
        Unit::None,
        Merge::Closest,
    ),
    key(
        "dead-letter-strategy",
        "x-dead-letter-strategy",
        Unit::None,
        Merge::Closest,
    ),
    key(
        "delivery-limit",
        "x-delivery-limit",
        Unit::None,
        Merge::SmallerLimit,
    ),
    key(
        "consumer-timeout",
        "x-consumer-timeout",
        Unit::Time,
        Merge::Smaller,
    ),
    key("retry-delay", "x-retry-delay", Unit::Time, Merge::Closest),
    key(
        "retry-max-delay",
        "x-retry-max-delay",
        Unit::Time,
        Merge::Closest,
    ),
    key("retry-factor", "x-retry-factor", Unit::None, Merge::Closest),
    key("retry-jitter", "x-retry-jitter", Unit::None, Merge::Closest),
    key(
        "delayed-retry-type",
        "x-delayed-retry-type",
        Unit::None,
        Merge::Closest,
    ),
    key(
        "delayed-retry-min",
        "x-delayed-retry-min",
        Unit::Time,
        Merge::Closest,
    ),
    key(
        "delayed-retry-max",
        "x-delayed-retry-max",
        Unit::Time,
        Merge::Closest,
    ),
    key("queue-mode", "x-queue-mode", Unit::None, Merge::Closest),
    key(
        "queue-version",
        "x-queue-version",
        Unit::None,
        Merge::Closest,
    ),
    key(
        "alternate-exchange",
        "alternate-exchange",
        Unit::None,
        Merge::Closest,
    ),
];

const fn key(name: &'static str, argument: &'static str, unit: Unit, merge: Merge) -> PolicyKey {
    PolicyKey {
        name,
        argument,
        unit,
        merge,
    }
}

impl PolicyKey {
    /// The key of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        POLICY_KEYS.iter().find(|key| key.name == name)
    }

    /// Checks a value as that of the argument would be; the words say what is
    /// wrong with it.
    ///
    /// # Errors
    /// What an argument with that value would be refused with.
    pub fn check(&self, value: &FieldValue) -> Result<(), String> {
        let mut queue = QueueSettings::default();
        let mut exchange = ExchangeSettings::new(ExchangeKind::Direct);
        let checked = checked(QUEUE_ARGUMENTS, self.argument, &mut queue, value)
            .or_else(|| checked(EXCHANGE_ARGUMENTS, self.argument, &mut exchange, value));
        match checked {
            // What else there is, an argument or another policy may say.
            Some(Ok(()) | Err(Invalid::Alone(_))) => Ok(()),
            Some(Err(Invalid::Value(why) | Invalid::Plainly(why))) => Err(why),
            Some(Err(Invalid::Type(found))) => Err(format!("invalid type '{found}'")),
            Some(Err(Invalid::OtherQueueType | Invalid::NotBuilt)) | None => {
                Err("not supported".to_owned())
            }
        }
    }
}

impl Merge {
    /// Of two values the one that counts; `closer` is the operator's, or the
    /// argument's.
    pub(super) fn pick<'v>(self, closer: &'v FieldValue, other: &'v FieldValue) -> &'v FieldValue {
        let (Some(near), Some(far)) = (closer.as_integer(), other.as_integer()) else {
            return closer;
        };
        let other_counts = match self {
            Self::Closest => false,
            Self::Smaller => far < near,
            Self::SmallerLimit if near < 0 || far < 0 => far > near,
            Self::SmallerLimit => far < near,
        };
        if other_counts { other } else { closer }
    }
}

fn checked<T>(
    table: &[ArgumentSpec<T>],
    name: &str,
    settings: &mut T,
    value: &FieldValue,
) -> Option<Result<(), Invalid>> {
    let row = table.iter().find(|row| row.name == name)?;
    Some((row.apply)(settings, value))
}
