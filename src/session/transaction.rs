//! The transactional mode of a channel (AMQP 0-9-1 §1.9): publishes and
//! settlements are kept until commit or rollback.

use std::borrow::Cow;

use crate::model::DeliveryTag;

use super::content::{BodyIn, Publish};
use super::deliveries::{Deliveries, Held};
use super::request::{Settlement, Settling};

/// A message that waits for its commit.
pub type StagedPublish = Publish<'static>;

/// What a transactional channel did since the last commit.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    publishes: Vec<StagedPublish>,
    settled: Vec<(DeliveryTag, Held, Settling)>,
}

impl Transaction {
    pub(super) fn stage(&mut self, publish: Publish<'_>) {
        self.publishes.push(publish.into_owned());
    }

    /// Keeps settlements; `false` if the tag names no delivery.
    pub(super) fn settle(
        &mut self,
        deliveries: &mut Deliveries,
        tag: DeliveryTag,
        multiple: bool,
        settling: Settling,
    ) -> bool {
        let Some(taken) = deliveries.take(tag, multiple) else {
            return false;
        };
        self.settled
            .extend(taken.into_iter().map(|(tag, held)| (tag, held, settling)));
        true
    }

    /// Gives out everything; the next transaction begins.
    pub(super) fn commit(&mut self, settlements: &mut Vec<Settlement>) -> Vec<StagedPublish> {
        settlements.extend(
            self.settled
                .drain(..)
                .map(|(_, held, settling)| Settlement {
                    queue: held.queue,
                    slot: held.slot,
                    settling,
                }),
        );
        std::mem::take(&mut self.publishes)
    }

    /// Drops the publishes and makes the deliveries unsettled again.
    pub(super) fn rollback(&mut self, deliveries: &mut Deliveries) {
        self.publishes.clear();
        deliveries.restore(
            self.settled
                .drain(..)
                .map(|(tag, held, _)| (tag, held))
                .collect(),
        );
    }
}

impl Publish<'_> {
    fn into_owned(self) -> StagedPublish {
        let body = match self.body {
            BodyIn::Slice(body) => BodyIn::Slice(Cow::Owned(body.into_owned())),
            BodyIn::Chunks(chunks) => BodyIn::Chunks(chunks),
        };
        Publish {
            channel: self.channel,
            mandatory: self.mandatory,
            immediate: self.immediate,
            persistent: self.persistent,
            notable: self.notable,
            confirm: self.confirm,
            envelope: Cow::Owned(self.envelope.into_owned()),
            header: Cow::Owned(self.header.into_owned()),
            body,
        }
    }
}
