//! What an exchange type is, and which there are.
//!
//! To add one: a file beside `direct.rs` that implements [`Matcher`], its
//! `ExchangeKind`, and a line in [`EXCHANGE_TYPES`].

use std::fmt::Debug;
use std::sync::Arc;

use super::binding::Bound;
use super::persistent::List;
use super::walk::Scratch;
use super::{direct, fanout, headers, topic};
use crate::model::{ExchangeKind, FieldTable};

/// All types, in the order in which they are listed.
pub static EXCHANGE_TYPES: &[ExchangeType] =
    &[direct::TYPE, fanout::TYPE, topic::TYPE, headers::TYPE];

/// One exchange type.
#[derive(Debug)]
pub struct ExchangeType {
    /// Its name, which clients declare it by.
    pub kind: ExchangeKind,
    /// Which messages its bindings take, in one sentence.
    pub doc: &'static str,
    /// Whether it looks at a message's headers.
    pub reads_headers: bool,
    pub(super) matcher: fn() -> Box<dyn Matcher>,
}

impl ExchangeType {
    /// The type that clients call by that name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<&'static Self> {
        EXCHANGE_TYPES.iter().find(|row| row.kind.name() == name)
    }

    pub(super) fn of(kind: ExchangeKind) -> &'static Self {
        EXCHANGE_TYPES
            .iter()
            .find(|row| row.kind == kind)
            .expect("a test checks that every kind has its row")
    }
}

/// The bindings of one exchange, arranged so that those that match are found
/// quickly. A type that looks at all bindings anyway keeps nothing.
pub(super) trait Matcher: Debug + Send + Sync + CloneMatcher {
    /// Refuses arguments that a binding of this type cannot have.
    fn check(&self, _arguments: &FieldTable) -> Result<(), String> {
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

/// What a message shows to the router.
#[derive(Clone, Copy, Debug)]
pub(super) struct Publish<'a> {
    /// The routing key, then those of CC and BCC.
    pub keys: &'a [&'a str],
    pub headers: &'a FieldTable,
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
        use ExchangeKind::{Direct, Fanout, Headers, Topic};
        let kinds: Vec<_> = EXCHANGE_TYPES.iter().map(|row| row.kind).collect();
        assert_eq!(kinds, [Direct, Fanout, Topic, Headers]);
        for row in EXCHANGE_TYPES {
            // A new kind makes this match incomplete: give it its row.
            match row.kind {
                Direct | Fanout | Topic | Headers => {}
            }
            assert!(row.doc.ends_with('.'), "{} has no doc", row.kind);
            let by_name = ExchangeType::by_name(row.kind.name()).map(|row| row.kind);
            assert_eq!(by_name, Some(row.kind));
        }
        assert!(ExchangeType::by_name("x-delayed-message").is_none());
    }
}
