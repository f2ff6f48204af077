//! Which queues does this message reach?
//!
//! Owns the exchanges and bindings of one virtual host as a [`RoutingTable`]:
//! a persistent structure whose clones share everything that did not change
//! since. The catalog changes its own copy and hands clones to the publishers,
//! who read them without a lock ([`RoutingTable::route`]).
//!
//! Each exchange type is one file and one line in [`EXCHANGE_TYPES`].
//!
//! What stays true: the answer depends on the exchanges, the bindings and the
//! order in which they came, never on a hash map's order; a walk visits each
//! exchange once, so cycles of bindings or alternates end; and
//! [`RoutingTable::explain`] is the same walk as `route`, overheard.

mod binding;
mod exchange_type;
mod explain;
mod fixed_hash;
mod needs;
mod persistent;
mod publish;
mod table;
mod walk;

mod consistent_hash;
mod direct;
mod fanout;
mod headers;
mod modulus_hash;
mod random;
mod recent_history;
mod topic;

#[cfg(test)]
mod tests;

pub use binding::{BindRefused, Binding, Removed};
pub use exchange_type::{EXCHANGE_TYPES, ExchangeType};
pub use explain::{Alternate, Explanation, Match, Step, Via};
pub use needs::Needs;
pub use publish::{Identifiers, Publish};
pub use table::{EVENT_EXCHANGE, EVENT_VHOST, RoutingTable, TRACE_EXCHANGE};
pub use walk::Routed;
