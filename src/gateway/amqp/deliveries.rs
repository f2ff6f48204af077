//! From the outbox to the session: what queues have for this connection.

use foldhash::HashMap;

use crate::broker::{Outgoing, Wakes};
use crate::model::Now;
use crate::queue::{Delivery, Outcome};
use crate::session::{Delivered, Handed};

use super::attachments::Attachments;
use super::buffers;
use super::channels::{Attached, ChannelSide};
use super::connection::Connection;

impl Connection {
    /// Passes on all that waits in the outbox.
    pub(super) fn pass_on(&mut self) {
        let mut events = std::mem::take(&mut self.events);
        let mut deliveries = std::mem::take(&mut self.deliveries);
        self.outbox.take(&mut events, &mut deliveries);
        self.emptied = true;
        self.session.output().lend(buffers::output);
        let mut waiting = deliveries.as_slice();
        for event in events.drain(..) {
            match event {
                Outgoing::Deliver { serial, count } => {
                    let (run, rest) = waiting.split_at_checked(count).unwrap_or_default();
                    waiting = rest;
                    self.pass_run_on(serial, run);
                }
                Outgoing::ConsumerCancelled { serial } => {
                    self.session.consumer_cancelled(serial);
                    self.forget_consumer(serial);
                    // What the queue had out no longer counts for its channel.
                    self.resume_limited();
                }
                Outgoing::Close(reason) => self.session.force_close(&reason),
            }
        }
        deliveries.clear();
        if deliveries.capacity() <= DELIVERIES_KEPT {
            (self.events, self.deliveries) = (events, deliveries);
        }
        self.wakes.fire();
    }

    /// Sends a consumer what its queue has handed out.
    fn pass_run_on(&mut self, serial: u32, run: &[Delivery]) {
        let messages = run.iter().map(|one| Handed {
            slot: one.unsettled.map(|slot| slot.0),
            message: &one.message,
            redelivered: one.deliveries > 0,
        });
        match self.session.deliver(serial, messages) {
            Delivered::Held(queue) => self.attachments.hold(queue, run.len()),
            Delivered::Done => {}
            Delivered::Undeliverable => return self.take_back(serial, run),
        }
        let open = self.open.as_ref();
        if open.is_some_and(|open| open.vhost.is_traced()) {
            for one in run {
                self.trace_delivery(serial, one.deliveries > 0, &one.message);
            }
        }
    }

    /// Lets consumers go on that waited for the outbox to empty.
    pub(super) fn resume_parked(&mut self) {
        let now = self.node.now();
        for (host, consumer) in self.outbox.take_parked() {
            host.resume(consumer, now, &mut self.wakes);
        }
        self.wakes.fire();
    }

    /// Lets consumers go on that found their channel's limit reached.
    pub(super) fn resume_limited(&mut self) {
        for side in self.channels.values() {
            if side.credit.was_short() {
                resume(
                    side,
                    &self.consumers,
                    &self.attachments,
                    self.node.now(),
                    &mut self.wakes,
                );
            }
        }
    }

    /// Lets the consumers of a channel look at its limit again.
    pub(super) fn resume_channel(&mut self, channel: u16) {
        if let Some(side) = self.channels.get(&channel) {
            resume(
                side,
                &self.consumers,
                &self.attachments,
                self.node.now(),
                &mut self.wakes,
            );
        }
    }

    /// Messages that came too late for their consumer go back unseen.
    fn take_back(&mut self, serial: u32, run: &[Delivery]) {
        let slots: Vec<_> = run.iter().filter_map(|one| one.unsettled).collect();
        if let Some(attached) = self.consumers.get(&serial)
            && let Some(host) = self.attachments.host(attached.queue)
            && !slots.is_empty()
        {
            let outcome = Outcome::Requeue {
                redelivered: false,
                refused: false,
            };
            host.settle(&slots, outcome, self.node.now(), &mut self.wakes);
        }
    }
}

fn resume(
    side: &ChannelSide,
    consumers: &HashMap<u32, Attached>,
    attachments: &Attachments,
    now: Now,
    wakes: &mut Wakes,
) {
    for attached in side
        .consumers
        .values()
        .filter_map(|serial| consumers.get(serial))
    {
        if let Some(host) = attachments.host(attached.queue) {
            host.resume(attached.slot, now, wakes);
        }
    }
}

/// Deliveries for which an emptied list keeps its memory.
const DELIVERIES_KEPT: usize = 4_096;
