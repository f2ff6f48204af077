//! What an exchange type is, and which there are.
//!
//! To add one: a file beside `direct.rs` that implements [`Matcher`], its
//! `ExchangeKind`, and a line in [`EXCHANGE_TYPES`].

use std::fmt::Debug;
use std::sync::Arc;

use super::binding::{Binding, Bound};
use super::persistent::List;
use super::walk::Scratch;
use super::{Needs, Publish};
use super::{
    consistent_hash, direct, fanout, headers, modulus_hash, random, recent_history, topic,
};
use crate::model::{ExchangeKind, ExchangeName, ExchangeSettings};

/// All types, in the order in which they are listed; but the delayed exchange,
/// which matches as another type does.
pub static EXCHANGE_TYPES: &[ExchangeType] = &[
    direct::TYPE,
    fanout::TYPE,
    topic::TYPE,
    headers::TYPE,
    consistent_hash::TYPE,
    random::TYPE,
    modulus_hash::TYPE,
    recent_history::TYPE,
    fanout::DEDUPLICATING,
];

/// One exchange type.
#[derive(Debug)]
pub struct ExchangeType {
    /// Its name, which clients declare it by.
    pub kind: ExchangeKind,
    /// Which messages its bindings take, in one sentence.
    pub doc: &'static str,
    /// Whether one of its bindings takes a message, and never several.
    pub picks_one: bool,
    pub(super) needs: fn(&ExchangeSettings) -> Needs,
    pub(super) matcher: fn(&ExchangeName, &ExchangeSettings) -> Box<dyn Matcher>,
}

impl ExchangeType {
    /// The type that clients call by that name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<&'static Self> {
        EXCHANGE_TYPES.iter().find(|row| row.kind.name() == name)
    }

    /// The type by whose rule such an exchange matches.
    pub(super) fn of(settings: &ExchangeSettings) -> &'static Self {
        let kind = settings.routes_as();
        EXCHANGE_TYPES
            .iter()
            .find(|row| row.kind == kind)
            .expect("a test checks that every kind has its row")
    }
}

/// The bindings of one exchange, arranged so that those that match are found
/// quickly. A type that looks at all bindings anyway keeps nothing.
pub(super) trait Matcher: Debug + Send + Sync + CloneMatcher {
    /// Refuses a key or arguments that a binding of this type cannot have.
    fn check(&self, _binding: &Binding) -> Result<(), String> {
        Ok(())
    }

    /// Learns of a new binding.
    fn insert(&mut self, _bound: &Arc<Bound>) {}

    /// Forgets a binding that it has learnt of.
    fn remove(&mut self, _bound: &Bound) {}

    /// Reports the bindings that take this message, in an order that depends
    /// on nothing but the bindings and the message; one may come repeatedly.
    /// `bindings` are all there are, in the order in which they came.
    fn matches(
        &self,
        bindings: &List<Arc<Bound>>,
        publish: &Publish<'_>,
        scratch: &mut Scratch,
        found: &mut dyn FnMut(&Arc<Bound>),
    );

    /// Says why a binding took this message.
    fn reason(&self, bound: &Bound, publish: &Publish<'_>) -> String;
}

/// Lets boxed matchers be cloned; every `Clone` matcher has it.
pub(super) trait CloneMatcher {
    fn clone_boxed(&self) -> Box<dyn Matcher>;
}

impl<T: Matcher + Clone + 'static> CloneMatcher for T {
    fn clone_boxed(&self) -> Box<dyn Matcher> {
        Box::new(self.clone())
    }
}

impl Clone for Box<dyn Matcher> {
    fn clone(&self) -> Self {
        (**self).clone_boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_one_row_and_its_doc() {
        let kinds = EXCHANGE_TYPES.iter().map(|row| row.kind);
        let all = ExchangeKind::ALL.into_iter();
        assert!(kinds.eq(all.filter(|kind| *kind != ExchangeKind::Delayed)));
        for row in EXCHANGE_TYPES {
            assert!(row.doc.ends_with('.'), "{} has no doc", row.kind);
            let by_name = ExchangeType::by_name(row.kind.name()).map(|row| row.kind);
            assert_eq!(by_name, Some(row.kind));
        }
        assert!(ExchangeType::by_name("x-delayed-message").is_none());
    }
}
