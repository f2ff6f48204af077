//! Messages that are routed one by one: where they go is decided by more than
//! exchange, key and headers, or an exchange on their way keeps them.

use std::sync::Arc;

use crate::model::{BrokerError, FieldTable, FieldValue, Traits};
use crate::routing::{Identifiers, Needs, Publish, RoutingTable};

use super::super::properties::identifiers;
use super::{Incoming, Publisher, alone, parts};

impl Publisher {
    /// As [`Publisher::publish`], for a message without notable properties.
    pub(super) fn publish_apart(
        &mut self,
        incoming: &Incoming<'_>,
        needs: Needs,
    ) -> Result<bool, BrokerError> {
        let (exchange, key) = parts(incoming.envelope)?;
        let (traits, headers) = (Traits::new(incoming.persistent), FieldTable::new());
        self.find_targets_apart(incoming, traits, exchange, &[key], &headers, needs)?;
        if self.own_targets.is_empty() {
            return Ok(false);
        }
        if self.is_copy_by(incoming.envelope, incoming.header, traits)? {
            return Ok(true);
        }
        let number = self
            .batch
            .store(incoming.envelope, incoming.header, incoming.body, traits);
        self.batch
            .enqueue(number, &self.own_targets, &mut self.targets);
        Ok(true)
    }

    /// Fills `own_targets`, and gives the message to the histories on its way.
    pub(super) fn find_targets_apart(
        &mut self,
        incoming: &Incoming<'_>,
        traits: Traits,
        exchange: &str,
        keys: &[&str],
        headers: &FieldTable,
        needs: Needs,
    ) -> Result<(), BrokerError> {
        let publish = Publish {
            keys,
            headers,
            identifiers: match needs.any(Needs::IDENTIFIERS) {
                true => identifiers(incoming.header)?,
                false => Identifiers::default(),
            },
            random: self.dice.roll(),
        };
        if !needs.any(Needs::HISTORY) {
            let routing = Arc::clone(&self.routing);
            return self.find_targets(&routing, exchange, &publish);
        }
        // The table of the batch may be behind the histories: whoever has bound
        // meanwhile got what they held then, and is to get this message too.
        loop {
            let version = self.vhost.version();
            let routing = self.vhost.routing();
            self.find_targets(&routing, exchange, &publish)?;
            if self.routed.histories.is_empty() || is_not_stored(headers) {
                return Ok(());
            }
            let Some(message) = alone(incoming, incoming.header, traits) else {
                return Ok(());
            };
            let mut histories = self.vhost.histories.lock();
            if self.vhost.version() == version {
                for name in &self.routed.histories {
                    let length = history_length(&routing, name.as_str());
                    histories.push(name, length, message.clone());
                }
                return Ok(());
            }
        }
    }
}

/// Whether the publisher wants that no history keeps it.
fn is_not_stored(headers: &FieldTable) -> bool {
    headers.get("x-recent-history-no-store") == Some(&FieldValue::Bool(true))
}

pub(in crate::broker) fn history_length(routing: &RoutingTable, exchange: &str) -> usize {
    let settings = routing.exchange(exchange);
    settings.map_or(0, |settings| settings.history_length)
}
