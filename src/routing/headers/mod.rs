//! Headers: the binding's arguments are compared with the message's headers
//! (AMQP 0-9-1 §3.1.3.4, with RabbitMQ's four forms of `x-match`).
//!
//! A message is not compared with every binding: each is filed under one of
//! its conditions (`all`) or under each of them (`any`), and looked up by the
//! message's headers. For `all` that is the condition which the fewest others
//! are filed under, so that one that all bindings share costs nothing.

mod filter;
mod x_match;

use std::sync::Arc;

use leveret_protocol::SmolStr;

use self::filter::{Condition, Filter, HeaderView, Label};
use self::x_match::Mode;
use super::binding::{Binding, Bound};
use super::exchange_type::{ExchangeType, Matcher};
use super::persistent::{HashTrie, List, Sequenced, hash_of};
use super::walk::Scratch;
use super::{Needs, Publish};
use crate::model::{ExchangeKind, FieldValue};

pub(super) const TYPE: ExchangeType = ExchangeType {
    kind: ExchangeKind::Headers,
    doc: "Takes messages whose headers meet the binding's arguments; `x-match` says whether \
          all or any of them.",
    picks_one: false,
    needs: |_| Needs::HEADERS,
    matcher: |_, _| Box::new(Headers::default()),
};

#[derive(Clone, Debug, Default)]
struct Headers {
    drawers: HashTrie<Drawer>,
    /// The bindings that ask for all of nothing.
    unconditional: List<Filed>,
}

/// The bindings filed under one header: under its name and value, or under
/// its name alone where the condition's value has no label.
#[derive(Clone, Debug)]
struct Drawer {
    name: SmolStr,
    /// Void where it is the name alone.
    value: FieldValue,
    filed: List<Filed>,
}

#[derive(Clone, Debug)]
struct Filed {
    bound: Arc<Bound>,
    filter: Arc<Filter>,
    /// Which of the filter's conditions it is filed under.
    under: usize,
}

impl Matcher for Headers {
    fn check(&self, binding: &Binding) -> Result<(), String> {
        Mode::of(&binding.arguments).map(|_| ())
    }

    fn insert(&mut self, bound: &Arc<Bound>) {
        let filter = Arc::new(Filter::of(&bound.binding.arguments));
        let filed = |under| Filed {
            bound: Arc::clone(bound),
            filter: Arc::clone(&filter),
            under,
        };
        if filter.mode.is_any() {
            for (under, condition) in filter.conditions.iter().enumerate() {
                self.file(condition, filed(under));
            }
            return;
        }
        let crowding = |(_, condition): &(usize, &Condition)| {
            let label = Label::of(&condition.wanted);
            let drawer = self.drawer(&condition.name, label);
            // That a header is there says less than what it is.
            (
                label.is_none(),
                drawer.map_or(0, |drawer| drawer.filed.len()),
            )
        };
        match filter.conditions.iter().enumerate().min_by_key(crowding) {
            Some((under, condition)) => self.file(condition, filed(under)),
            None => self.unconditional.push(filed(0)),
        }
    }

    fn remove(&mut self, bound: &Bound) {
        self.unconditional.remove(bound.sequence);
        for condition in Filter::of(&bound.binding.arguments).conditions {
            let label = Label::of(&condition.wanted);
            let hash = hash_of(&(condition.name.as_str(), label));
            let is = |drawer: &Drawer| drawer.is(&condition.name, label);
            // A look first, because an `all` binding is in one drawer only.
            let holds = |drawer: &Drawer| drawer.filed.contains(bound.sequence);
            if !self.drawers.find(hash, is).is_some_and(holds) {
                continue;
            }
            if let Some(drawer) = self.drawers.find_mut(hash, is) {
                drawer.filed.remove(bound.sequence);
                if drawer.filed.is_empty() {
                    self.drawers.remove(hash, is);
                }
            }
        }
    }

    fn matches(
        &self,
        _bindings: &List<Arc<Bound>>,
        publish: &Publish<'_>,
        _scratch: &mut Scratch,
        found: &mut dyn FnMut(&Arc<Bound>),
    ) {
        for filed in self.unconditional.iter() {
            found(&filed.bound);
        }
        if self.drawers.is_empty() {
            return;
        }
        let headers = HeaderView::of(publish.headers);
        headers.for_each(|name, value| {
            let by_value = Label::of(value).and_then(|label| self.drawer(name, Some(label)));
            let by_name = self.drawer(name, None);
            for drawer in by_value.into_iter().chain(by_name) {
                for filed in drawer.filed.iter() {
                    if filed.filter.is_met(filed.under, value, &headers) {
                        found(&filed.bound);
                    }
                }
            }
        });
    }

    fn reason(&self, bound: &Bound, publish: &Publish<'_>) -> String {
        Filter::of(&bound.binding.arguments).reason(&HeaderView::of(publish.headers))
    }
}

impl Headers {
    fn drawer(&self, name: &str, label: Option<Label<'_>>) -> Option<&Drawer> {
        let hash = hash_of(&(name, label));
        self.drawers.find(hash, |drawer| drawer.is(name, label))
    }

    fn file(&mut self, condition: &Condition, filed: Filed) {
        let label = Label::of(&condition.wanted);
        let hash = hash_of(&(condition.name.as_str(), label));
        let is = |drawer: &Drawer| drawer.is(&condition.name, label);
        if let Some(drawer) = self.drawers.find_mut(hash, is) {
            drawer.filed.push(filed);
            return;
        }
        let value = label.map_or(FieldValue::Void, |_| condition.wanted.clone());
        let drawer = Drawer {
            name: condition.name.clone(),
            value,
            filed: List::One(filed),
        };
        self.drawers.insert(hash, drawer);
    }
}

impl Drawer {
    fn is(&self, name: &str, label: Option<Label<'_>>) -> bool {
        self.name == name && Label::of(&self.value) == label
    }
}

impl Sequenced for Filed {
    fn sequence(&self) -> u64 {
        self.bound.sequence
    }
}
