//! A virtual host's side of it: who listens, and what a change of its catalog
//! means to them.

use std::sync::atomic::Ordering;

use crate::model::{Destination, ExchangeName, ExchangeSettings, Message, QueueName, UserName};
use crate::policy::{Policies, Policy};
use crate::routing::{Binding, EVENT_EXCHANGE, EVENT_VHOST, RoutingTable, TRACE_EXCHANGE};

use super::super::{Node, Requester, Vhost};
use super::Event;
use super::traces::{Trace, Traced};

impl Vhost {
    /// Whether its messages are copied to the exchange of traces.
    #[inline]
    #[must_use]
    pub fn is_traced(&self) -> bool {
        self.traced.load(Ordering::Acquire)
    }

    /// Has a copy made of a message that goes to a client, if it is traced.
    #[inline]
    pub fn trace_delivery(
        &self,
        by: &Requester,
        channel: u16,
        queue: &QueueName,
        redelivered: bool,
        message: &Message,
    ) {
        if self.is_traced() {
            let queue = queue.clone();
            let traced = Traced::Delivered { queue, redelivered };
            self.trace(by, channel, traced, message.clone());
        }
    }

    /// Has a copy made of a message that a client has published; it went to
    /// these queues.
    pub(in super::super) fn trace_publish(
        &self,
        by: &Requester,
        channel: u16,
        queues: Vec<QueueName>,
        message: Message,
    ) {
        self.trace(by, channel, Traced::Published { queues }, message);
    }

    #[cold]
    fn trace(&self, by: &Requester, channel: u16, traced: Traced, message: Message) {
        // What was traced once is not traced again.
        if message.exchange() == TRACE_EXCHANGE {
            return;
        }
        self.ledger.notices().trace(Trace {
            vhost: self.name.clone(),
            by: by.clone(),
            channel,
            traced,
            message,
        });
    }

    /// Tells of an event if anybody wants to know.
    #[inline]
    pub(in super::super) fn tell(&self, event: impl FnOnce(&str) -> Event) {
        self.ledger.notices().tell(event);
    }

    /// The event of an exchange that is new.
    pub(in super::super) fn exchange_created(
        &self,
        name: &ExchangeName,
        settings: &ExchangeSettings,
        user: &UserName,
    ) -> Event {
        let policies = &self.rulebook.load().policies;
        let policy = policies.name_of_exchange(&self.name, name);
        Event::exchange_created(&self.name, name, settings, policy, user)
    }

    /// Sees who listens; to be called with the catalog locked, after it was
    /// changed.
    pub(in super::super) fn note_listeners(&self, routing: &RoutingTable) {
        let traced = routing.exchange_in_use(TRACE_EXCHANGE);
        self.traced.store(traced, Ordering::Release);
        if self.name.as_str() == EVENT_VHOST {
            let wanted = routing.exchange_in_use(EVENT_EXCHANGE);
            let notices = self.ledger.notices();
            notices.events_wanted.store(wanted, Ordering::Release);
        }
    }

    /// What [`Vhost::tell_gone`] needs, to be asked for before the change;
    /// `None` if nobody listens.
    pub(in super::super) fn before_events(&self, routing: &RoutingTable) -> Option<RoutingTable> {
        let wanted = self.ledger.notices().events_wanted();
        wanted.then(|| routing.clone())
    }

    /// Tells that exchanges are gone with all their bindings, and these
    /// bindings.
    pub(in super::super) fn tell_gone(
        &self,
        before: &RoutingTable,
        exchanges: &[ExchangeName],
        bindings: &[&Binding],
        user: &UserName,
    ) {
        for event in self.gone(before, exchanges, bindings, user) {
            self.tell(|_| event);
        }
    }

    /// The events of [`Vhost::tell_gone`]: each exchange and binding once.
    pub(in super::super) fn gone(
        &self,
        before: &RoutingTable,
        exchanges: &[ExchangeName],
        bindings: &[&Binding],
        user: &UserName,
    ) -> Vec<Event> {
        let vhost = &self.name;
        let mut events = Vec::new();
        for name in exchanges {
            events.push(Event::exchange_deleted(vhost, name, user));
            let outgoing = before.bindings_of_source(name.as_str());
            events.extend(outgoing.map(|binding| Event::binding_deleted(vhost, binding, user)));
        }
        // Those that lead from one of the exchanges are there already.
        let mut add = |binding: &Binding| {
            if !exchanges.contains(&binding.source) {
                events.push(Event::binding_deleted(vhost, binding, user));
            }
        };
        bindings.iter().for_each(|binding| add(binding));
        for name in exchanges {
            let destination = Destination::Exchange(name.clone());
            let incoming = before.bindings_to(&destination);
            // A binding that is named and leads to one of them as well.
            let others = incoming.filter(|binding| !bindings.contains(binding));
            others.for_each(&mut add);
        }
        events
    }
}

impl Node {
    /// Tells which policies are new or others than before, and which are gone.
    pub(in super::super) fn tell_policies(&self, before: &Policies, now: &Policies) {
        let kinds = [
            (&before.user, &now.user, "policy.cleared"),
            (&before.operator, &now.operator, "operator.policy.cleared"),
        ];
        for (before, now, cleared) in kinds {
            let is_same = |a: &Policy, b: &Policy| (&a.vhost, &a.name) == (&b.vhost, &b.name);
            let gone = |old: &&Policy| !now.iter().any(|new| is_same(old, new));
            for policy in before.iter().filter(gone) {
                self.notices()
                    .tell(|_| Event::policy_cleared(policy, cleared));
            }
            for policy in now.iter().filter(|policy| !before.contains(policy)) {
                self.notices().tell(|_| Event::policy_set(policy));
            }
        }
    }
}
