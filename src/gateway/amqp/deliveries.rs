//! From the outbox to the session: what queues have for this connection.

use foldhash::HashMap;

use crate::broker::{Outgoing, Wakes};
use crate::model::Now;
use crate::queue::Outcome;
use crate::session::Delivered;

use super::attachments::Attachments;
use super::buffers;
use super::channels::{Attached, ChannelSide};
use super::connection::Connection;

impl Connection {
    /// Passes on all that waits in the outbox.
    pub(super) fn pass_on(&mut self) {
        let mut events = std::mem::take(&mut self.events);
        self.outbox.take(&mut events);
        self.emptied = true;
        self.session.output().lend(buffers::output);
        let open = self.open.as_ref();
        let traced = open.is_some_and(|open| open.vhost.is_traced());
        for event in events.drain(..) {
            match event {
                Outgoing::Deliver {
                    serial,
                    slot,
                    message,
                    redelivered,
                } => {
                    let slot = slot.map(|slot| slot.0);
                    match self.session.deliver(serial, slot, &message, redelivered) {
                        Delivered::Held(queue) => self.attachments.hold(queue),
                        Delivered::Done => {}
                        Delivered::Undeliverable => {
                            self.take_back(serial, slot);
                            continue;
                        }
                    }
                    if traced {
                        self.trace_delivery(serial, redelivered, &message);
                    }
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
        if events.capacity() <= EVENTS_KEPT {
            self.events = events;
        }
        self.wakes.fire();
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

    /// A message that came too late for its consumer goes back unseen.
    fn take_back(&mut self, serial: u32, slot: Option<u32>) {
        if let (Some(slot), Some(attached)) = (slot, self.consumers.get(&serial))
            && let Some(host) = self.attachments.host(attached.queue)
        {
            let slots = [crate::queue::UnsettledSlot(slot)];
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

/// Events for which an emptied list keeps its memory.
const EVENTS_KEPT: usize = 4_096;
