//! Ending consumers, channels and the connection: what they held goes back.

use std::sync::Arc;

use crate::broker::QueueHost;
use crate::model::ConsumerKey;
use crate::queue::{ConsumerSlot, Outcome, UnsettledSlot};
use crate::session::Held;

use super::connection::{Connection, Open};

impl Connection {
    /// Ends a consumer of a queue. What is under way to it is delivered or
    /// goes back; an auto-delete queue goes with its last one.
    pub(super) fn end_consumer(&mut self, serial: u32) {
        let Some((host, slot, key)) = self.consumer(serial) else {
            return;
        };
        let now = self.node.now();
        let cancelled = host.cancel(slot, key, now, &mut self.wakes);
        // Nothing is pushed for it from here on: what was pushed before is
        // still the consumer's.
        self.pass_on();
        self.forget_consumer(serial);
        if cancelled.delete_queue
            && let Some(Open { vhost, .. }) = &self.open
        {
            vhost.delete_unused_queue(&host, &mut self.wakes);
        }
    }

    /// A consumer as its queue knows it.
    fn consumer(&self, serial: u32) -> Option<(Arc<QueueHost>, ConsumerSlot, ConsumerKey)> {
        let attached = self.consumers.get(&serial)?;
        let host = self.attachments.host(attached.queue)?;
        let key = ConsumerKey {
            connection: self.outbox.connection(),
            serial,
        };
        Some((Arc::clone(host), attached.slot, key))
    }

    /// Forgets a consumer that its queue does not know any more.
    pub(super) fn forget_consumer(&mut self, serial: u32) {
        self.tell_consumer_gone(serial);
        self.session.remove_consumer(serial);
        let Some(attached) = self.consumers.remove(&serial) else {
            return;
        };
        if let Some(side) = self.channels.get_mut(&attached.channel) {
            side.consumers.retain(|_, of_channel| *of_channel != serial);
        }
        self.attachments.release(attached.queue, 1);
    }

    /// Releases what a channel has in the broker.
    pub(super) fn release_channel(&mut self, channel: u16) {
        let side = self.channels.get(&channel);
        let consumers = side.map(|side| side.consumers.values().copied());
        let mut serials: Vec<u32> = consumers.into_iter().flatten().collect();
        serials.sort_unstable();
        // Nobody takes over from them before all is back: what stands behind
        // that would overtake it.
        for serial in &serials {
            if let Some((host, slot, key)) = self.consumer(*serial) {
                host.silence(slot, key);
            }
        }
        // Unsettled messages go back before an auto-delete queue could go. A
        // channel that only ever got messages has no other side.
        let held = self.session.take_held(channel);
        // And what was pushed and not passed on.
        self.pass_on();
        self.give_back(&held);
        let Some(side) = self.channels.get_mut(&channel) else {
            return;
        };
        if let Some(reply_to) = side.reply_to.take() {
            self.node.reply_targets().remove(&reply_to.key);
            self.session.remove_consumer(reply_to.serial);
        }
        for serial in serials {
            self.end_consumer(serial);
        }
        self.channels.remove(&channel);
    }

    /// Puts unsettled messages back where they came from, flagged redelivered.
    pub(super) fn give_back(&mut self, held: &[Held]) {
        for run in held.chunk_by(|a, b| a.queue == b.queue) {
            let slots: Vec<UnsettledSlot> =
                run.iter().map(|held| UnsettledSlot(held.slot)).collect();
            if let Some(first) = run.first() {
                self.settle_slots(
                    first.queue,
                    &slots,
                    Outcome::Requeue {
                        redelivered: true,
                        refused: false,
                    },
                    None,
                );
            }
        }
        self.resume_limited();
    }

    /// Releases everything: the connection ends.
    pub(super) fn release_all(&mut self) {
        self.flush();
        for channel in self.session.channels() {
            self.release_channel(channel);
            self.tell_channel_closed(channel);
        }
        if let Some(Open {
            vhost, requester, ..
        }) = self.open.take()
        {
            vhost.delete_exclusive_queues(requester.connection, &mut self.wakes);
        }
        self.wakes.fire();
    }
}
