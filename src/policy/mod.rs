//! Arguments into settings.
//!
//! What a client may put into the `arguments` of `queue.declare`,
//! `exchange.declare` and `basic.consume` stands in the tables of
//! `arguments.rs`, `queue_arguments.rs` and `exchange_arguments.rs`, one row per
//! argument. Names that are in no table are kept
//! and ignored, as RabbitMQ does; what RabbitMQ knows and Leveret has not built
//! yet is refused and never ignored. What policies add to the arguments is in
//! `policies.rs`. Who asks is not known here.

mod arguments;
mod equivalence;
mod exchange_arguments;
mod policies;
mod policy_keys;
mod queue_arguments;
mod settings;
mod values;

#[cfg(test)]
mod tests;

pub use arguments::{ArgumentSpec, CONSUMER_ARGUMENTS};
pub use equivalence::{exchange_equivalent, queue_equivalent};
pub use exchange_arguments::EXCHANGE_ARGUMENTS;
pub use policies::{ApplyTo, Pattern, Policies, Policy};
pub use policy_keys::{Merge, POLICY_KEYS, PolicyKey, Unit};
pub use queue_arguments::QUEUE_ARGUMENTS;
pub use settings::{consumer_arguments, exchange_settings, is_quorum, queue_rules, queue_settings};
pub use values::Invalid;
