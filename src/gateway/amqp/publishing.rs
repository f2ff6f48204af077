//! What a read buffer held, a batch at a time: publishes and settlements are
//! collected while the buffer lasts, and flushed before anything that could
//! tell the difference.

use bytes::Bytes;

use crate::broker::{Incoming, Settled};
use crate::model::{BrokerError, Ticket};
use crate::queue::{Outcome, UnsettledSlot};
use crate::session::{Publish, Request, Settlement, Settling, StagedPublish};

use super::barrier::COMMIT_IDS;
use super::connection::{Awaited, Connection, Open};

impl Connection {
    /// Handles all whole frames from `offset` on; stops early for what must be
    /// awaited.
    pub(super) fn process(&mut self, octets: &Bytes, offset: &mut usize) -> Option<Awaited> {
        let mut awaited = None;
        loop {
            while let Some(publish) = self.session.next_publish(octets, offset) {
                self.publish(&publish);
            }
            let Some(request) = self.session.next(octets, offset) else {
                break;
            };
            match request {
                Request::Publish(publish) => self.publish(&publish),
                Request::Commit { channel, publishes } => {
                    // What was settled goes with the transaction.
                    self.flush_publishes(&[]);
                    self.commit(channel, publishes);
                }
                request => {
                    self.flush();
                    self.tell_channels();
                    awaited = self.request(request);
                    if awaited.is_some() {
                        break;
                    }
                }
            }
        }
        self.flush();
        self.tell_channels();
        self.gave_work |= !self.wakes.is_empty();
        self.wakes.fire();
        awaited
    }

    /// Hands over what was collected: messages to their queues, settlements to
    /// theirs, confirms to the client.
    pub(super) fn flush(&mut self) {
        self.flush_publishes(&[]);
        self.settle(None);
    }

    /// Hands over messages, and settlements that are written down with them.
    fn flush_publishes(&mut self, settled: &[Settled]) -> Ticket {
        let ticket = match &mut self.open {
            Some(open) => {
                let messages = open.publisher.pending();
                let ticket = open.publisher.flush(settled, &mut self.wakes);
                self.throttle.published(messages, self.node.durability());
                if messages > 0 {
                    for number in open.publisher.refused() {
                        if let Some((channel, publish)) = self.origins.find(*number) {
                            self.session.nack_published(channel, publish);
                        }
                    }
                    self.origins.clear();
                }
                ticket
            }
            None => Ticket(0),
        };
        self.session.confirm_published(ticket);
        if ticket != Ticket(0) {
            self.throttle.stored(ticket, self.node.durability());
        }
        ticket
    }

    #[inline]
    pub(super) fn publish(&mut self, publish: &Publish<'_>) {
        if publish.notable {
            match reply_header(&self.channels, publish) {
                Ok(own_header) => self.publish_as(publish, own_header.as_deref()),
                Err(error) => self.session.refuse_publish(publish.channel, &error),
            }
        } else {
            self.publish_as(publish, None);
        }
    }

    /// Publishes a message, with another header where it has to have one.
    #[inline]
    fn publish_as(&mut self, publish: &Publish<'_>, own_header: Option<&[u8]>) {
        if !self.throttle.publishes() {
            self.begin_to_publish();
        }
        let Some(Open { publisher, .. }) = &mut self.open else {
            return;
        };
        let incoming = incoming(publish, own_header);
        let number = publisher.pending();
        match publisher.publish(&incoming, &mut self.wakes) {
            // A direct reply goes to no queue.
            Ok(true) if publisher.pending() > number => {
                self.origins.add(number, publish.channel, publish.confirm);
            }
            Ok(true) => {}
            Ok(false) if publish.mandatory => self.session.return_unroutable(publish),
            Ok(false) => {}
            Err(error) => self.session.refuse_publish(publish.channel, &error),
        }
    }

    /// Checks a message that waits for its commit.
    pub(super) fn stage(&mut self, publish: Publish<'_>) {
        if !self.throttle.publishes() {
            self.begin_to_publish();
        }
        let Some(Open { publisher, .. }) = &mut self.open else {
            return;
        };
        match publisher.check(&incoming(&publish, None)) {
            Ok(()) => self.session.stage(publish),
            Err(error) => self.session.refuse_publish(publish.channel, &error),
        }
    }

    /// Carries a transaction out. What is to survive of it is written down as
    /// one record; the answer waits until that is stored.
    pub(super) fn commit(&mut self, channel: u16, publishes: Vec<StagedPublish>) {
        let mut settled = Vec::new();
        self.settle(Some(&mut settled));
        for publish in publishes {
            self.publish(&publish);
        }
        let any = self.pending_publishes() > 0;
        let ticket = self.flush_publishes(&settled);
        if any && self.any_refused() {
            // All the rest of it is done, as RabbitMQ has it.
            let error = BrokerError::Precondition("partial tx completion".to_owned());
            self.session.refuse(channel, COMMIT_IDS, &error);
            return;
        }
        let place = self.session.output().pending_bytes();
        self.session
            .reply(channel, &leveret_protocol::method::TxCommitOk {});
        self.hold_for_log(place, ticket);
    }

    fn pending_publishes(&self) -> u32 {
        let open = self.open.as_ref();
        open.map_or(0, |open| open.publisher.pending())
    }

    /// Whether a queue refused a message of the last batch.
    fn any_refused(&self) -> bool {
        let open = self.open.as_ref();
        open.is_some_and(|open| !open.publisher.refused().is_empty())
    }

    /// Settles what clients have settled, as part of a transaction if there is
    /// something to collect for it.
    fn settle(&mut self, mut transaction: Option<&mut Vec<Settled>>) {
        if self.session.settlements().is_empty() {
            return;
        }
        let settlements = std::mem::take(self.session.settlements());
        let same = |a: &Settlement, b: &Settlement| (a.queue, a.settling) == (b.queue, b.settling);
        let mut slots = Vec::with_capacity(settlements.len());
        for run in settlements.chunk_by(same) {
            let Some(first) = run.first() else {
                continue;
            };
            slots.clear();
            slots.extend(run.iter().map(|settlement| UnsettledSlot(settlement.slot)));
            let outcome = match first.settling {
                Settling::Ack => Outcome::Ack,
                Settling::Discard => Outcome::Discard,
                Settling::Requeue => Outcome::Requeue {
                    redelivered: true,
                    refused: true,
                },
            };
            let transaction = transaction.as_deref_mut();
            self.settle_slots(first.queue, &slots, outcome, transaction);
        }
        self.resume_limited();
        let mut settlements = settlements;
        settlements.clear();
        // Given back for its memory; nothing was added meanwhile.
        *self.session.settlements() = settlements;
    }

    /// Settles messages of one attached queue and lets go of them.
    pub(super) fn settle_slots(
        &mut self,
        queue: u32,
        slots: &[UnsettledSlot],
        outcome: Outcome,
        transaction: Option<&mut Vec<Settled>>,
    ) {
        if let Some(host) = self.attachments.host(queue) {
            let (now, wakes) = (self.node.now(), &mut self.wakes);
            match transaction {
                Some(settled) => host.settle_in_transaction(slots, outcome, settled, now, wakes),
                None => host.settle(slots, outcome, now, wakes),
            }
        }
        self.attachments.release(queue, slots.len());
    }
}

/// The content header of a message that asks for a direct reply: `reply-to`
/// becomes the key that leads back to this channel's reply consumer.
fn reply_header(
    channels: &foldhash::HashMap<u16, super::channels::ChannelSide>,
    publish: &Publish<'_>,
) -> Result<Option<Vec<u8>>, BrokerError> {
    use crate::broker::REPLY_TO;
    use leveret_protocol::header::{PROPERTIES_OFFSET, PropertyScan, replace_reply_to};

    let syntax = |error: leveret_protocol::DecodeError| BrokerError::Syntax(error.to_string());
    let scan = PropertyScan::new(publish.properties()).map_err(syntax)?;
    if scan.reply_to != Some(REPLY_TO) {
        return Ok(None);
    }
    let Some(consumer) = channels
        .get(&publish.channel)
        .and_then(|side| side.reply_to.as_ref())
    else {
        return Err(BrokerError::Precondition(
            "fast reply consumer does not exist".to_owned(),
        ));
    };
    let mut header = publish
        .header
        .get(..PROPERTIES_OFFSET)
        .unwrap_or_default()
        .to_vec();
    replace_reply_to(publish.properties(), &consumer.key, &mut header).map_err(syntax)?;
    Ok(Some(header))
}

fn incoming<'a>(publish: &'a Publish<'_>, header: Option<&'a [u8]>) -> Incoming<'a> {
    Incoming {
        envelope: &publish.envelope,
        header: header.unwrap_or(&publish.header),
        body: publish.body.as_body(),
        persistent: publish.persistent,
        notable: publish.notable,
        channel: publish.channel,
    }
}
