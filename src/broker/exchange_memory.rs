//! What an exchange with `x-message-deduplication` knows copies by.
//!
//! A copy goes nowhere from the exchange that it is published to. What other
//! exchanges or dead letters bring there is not looked at: it is no publish.
//!
//! The store knows the names under a number of the exchange's own, out of those
//! of queues, and they count as a queue's do: together with their messages, in
//! the same record. A message that reaches no queue that is stored has a name
//! in memory only, and one that reaches no queue has none.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::model::{Deduplication, ExchangeName, ExchangeSettings, NameHash, QueueId};
use crate::queue::{Known, Memory};
use crate::store::metadata::Change;

use super::ledger::Ledger;
use super::{Storage, Vhost};

/// The names that one exchange remembers.
#[derive(Debug)]
pub(super) struct ExchangeMemory {
    id: QueueId,
    rule: Deduplication,
    storage: Option<Arc<Storage>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    names: Memory,
    /// Copies that went nowhere.
    duplicates: u64,
}

impl ExchangeMemory {
    fn new(
        id: QueueId,
        rule: Deduplication,
        names: Vec<(u64, NameHash)>,
        ledger: &Ledger,
    ) -> Arc<Self> {
        let storage = ledger.storage().cloned();
        if let Some(storage) = &storage {
            storage.register(id);
        }
        Arc::new(Self {
            id,
            state: Mutex::new(State {
                names: Memory::new(rule.clone(), names),
                duplicates: 0,
            }),
            rule,
            storage,
        })
    }

    /// The number by which the store knows it.
    pub(super) fn id(&self) -> QueueId {
        self.id
    }

    /// What it goes by.
    pub(super) fn rule(&self) -> &Deduplication {
        &self.rule
    }

    /// What is known of the name of a message with that content header, and the
    /// name, if it has one; it is remembered from now on.
    pub(super) fn take(
        &self,
        header: &[u8],
        as_new: Known,
        now: u64,
    ) -> Option<(NameHash, Option<Known>)> {
        let mut state = self.state.lock();
        if let Some(storage) = &self.storage {
            state.names.forget(&storage.refused_names(self.id));
        }
        let name = state.names.name(header)?;
        let known = state.names.take(name, as_new, now);
        state.duplicates += u64::from(known.is_some());
        Some((name, known))
    }

    /// Forgets the name of a message that a queue refused.
    pub(super) fn forget(&self, name: NameHash) {
        self.state.lock().names.forget(&[name]);
    }
}

impl Vhost {
    /// Copies that went nowhere from that exchange; 0 if it does not look.
    #[must_use]
    pub fn exchange_duplicates(&self, exchange: &str) -> u64 {
        let memory = self.exchange_memory(exchange);
        memory.map_or(0, |memory| memory.state.lock().duplicates)
    }

    /// What that exchange knows copies by, if it does.
    pub(super) fn exchange_memory(&self, exchange: &str) -> Option<Arc<ExchangeMemory>> {
        self.memories.read().get(exchange).cloned()
    }

    /// Gives a new exchange a number for its names; what has to be written down
    /// for that.
    pub(super) fn number_names(&self, settings: &mut ExchangeSettings) -> Option<Change> {
        settings.deduplication.as_ref()?;
        let id = self.ledger.queue_id();
        settings.names_id = Some(id);
        // Its names may be in the log for longer than it lives.
        let reserve = || Change::ReserveQueueIds(QueueId(id.0.saturating_add(1)));
        self.ledger.storage().map(|_| reserve())
    }

    /// An exchange is there, with names that the store has kept.
    pub(super) fn remember_names(
        &self,
        exchange: &ExchangeName,
        settings: &ExchangeSettings,
        names: Vec<(u64, NameHash)>,
    ) {
        if let (Some(rule), Some(id)) = (&settings.deduplication, settings.names_id) {
            let memory = ExchangeMemory::new(id, rule.clone(), names, &self.ledger);
            self.memories.write().insert(exchange.clone(), memory);
        }
    }

    /// Exchanges are gone, and the catalog has said so.
    pub(super) fn forget_names<'a>(&self, exchanges: impl IntoIterator<Item = &'a ExchangeName>) {
        for exchange in exchanges {
            let memory = self.memories.write().remove(exchange.as_str());
            if let (Some(memory), Some(storage)) = (memory, self.ledger.storage()) {
                storage.forget(memory.id, true);
            }
        }
    }
}
