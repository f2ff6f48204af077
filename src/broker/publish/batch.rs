//! Messages on their way to their queues: stored once, however many queues
//! they go to, and given to each queue all at once.

use std::sync::Arc;

use bytes::Bytes;

use crate::model::{Block, BlockBuilder, Body, LARGE_BODY_BYTES, Message, Now, Traits};
use crate::queue::Unplaced;

use super::super::{QueueHost, Wakes};
use super::record::RecordDraft;

/// A queue that messages go to.
#[derive(Debug)]
pub(in super::super) struct Target {
    pub(in super::super) host: Arc<QueueHost>,
    /// Messages of this batch, as their numbers in it.
    pending: Vec<u32>,
}

/// Messages of one batch.
#[derive(Debug, Default)]
pub(in super::super) struct Batch {
    count: u32,
    /// When its messages came in. They reach their queues at that moment, however
    /// long this thread has to wait in between: one that lives for 0 ms goes to a
    /// consumer that is ready.
    arrived: Now,
    builder: BlockBuilder,
    /// Finished blocks, each with the number of its first message.
    blocks: Vec<(u32, Arc<Block>)>,
    /// Targets with pending messages.
    dirty: Vec<u32>,
    messages: Vec<Message>,
    /// Messages of the last batch that a queue refused.
    refused: Vec<u32>,
    record: RecordDraft,
}

impl Target {
    pub(in super::super) fn new(host: Arc<QueueHost>) -> Self {
        Self {
            host,
            pending: Vec::new(),
        }
    }
}

impl Batch {
    /// How many messages there are.
    pub(in super::super) fn count(&self) -> u32 {
        self.count
    }

    /// Says when the messages arrived that are stored from now on.
    pub(in super::super) fn arrived(&mut self, now: Now) {
        self.arrived = now;
        self.builder.arrived(now.millis());
    }

    /// When the messages arrived that were stored last.
    pub(super) fn arrival(&self) -> Now {
        self.arrived
    }

    /// Stores a message; its number in this batch.
    pub(in super::super) fn store(
        &mut self,
        envelope: &[u8],
        header: &[u8],
        body: Body<'_>,
        traits: Traits,
    ) -> u32 {
        let number = self.count;
        self.count += 1;
        match body {
            Body::Chunks(chunks) if body.len() >= LARGE_BODY_BYTES => {
                self.close_block();
                let chunks: Vec<Bytes> = chunks.to_vec();
                self.builder.push_large(envelope, header, chunks, traits);
                self.close_block();
            }
            body => {
                if self.builder.is_full() {
                    self.close_block();
                }
                self.builder.push(envelope, header, body, traits);
            }
        }
        number
    }

    /// Sends a stored message to these of the targets.
    pub(in super::super) fn enqueue(
        &mut self,
        number: u32,
        queues: &[u32],
        targets: &mut [Target],
    ) {
        for &index in queues {
            let target = &mut targets[index as usize];
            if target.pending.is_empty() {
                self.dirty.push(index);
            }
            target.pending.push(number);
        }
    }

    /// Takes out the only message, which goes to no queue.
    pub(in crate::broker) fn into_single(mut self) -> Option<Message> {
        self.close_block();
        let (_, block) = self.blocks.pop()?;
        Some(Message::new(block, 0))
    }

    /// Gives the queues what was stored since the last time; what of it is to
    /// survive is then in the record.
    pub(in super::super) fn flush(&mut self, targets: &mut [Target], wakes: &mut Wakes) {
        self.close_block();
        self.refused.clear();
        let several = self.dirty.len() > 1;
        for index in self.dirty.drain(..) {
            let target = &mut targets[index as usize];
            let mut block = 0;
            let is_stored = target.host.is_stored();
            for &number in &target.pending {
                while self
                    .blocks
                    .get(block + 1)
                    .is_some_and(|(first, _)| *first <= number)
                {
                    block += 1;
                }
                let (first, block) = &self.blocks[block];
                let message = Message::new(Arc::clone(block), number - first);
                if is_stored {
                    self.record.choose(number, self.messages.len(), &message);
                }
                self.messages.push(message);
            }
            if several && Message::pin_too_much(&self.messages) {
                Message::compact(&mut self.messages);
            }
            let published = target.host.publish(&mut self.messages, self.arrived, wakes);
            if let Some(published) = &published {
                note_refused(&mut self.refused, &target.pending, &published.unplaced);
            }
            if is_stored {
                self.record.published(&target.host, published);
            }
            target.pending.clear();
        }
        if !self.refused.is_empty() {
            self.refused.sort_unstable();
            self.refused.dedup();
        }
        self.blocks.clear();
        self.count = 0;
    }

    /// Messages of the last batch that a queue refused, as their numbers in it;
    /// ascending.
    pub(in super::super) fn refused(&self) -> &[u32] {
        &self.refused
    }

    /// What of the flushed messages goes to the log.
    pub(in super::super) fn record(&mut self) -> &mut RecordDraft {
        &mut self.record
    }

    fn close_block(&mut self) {
        if self.builder.is_empty() {
            return;
        }
        let block = self.builder.finish();
        let stored = self
            .blocks
            .last()
            .map_or(0, |(first, block)| first + block.len() as u32);
        self.blocks.push((stored, Arc::new(block)));
    }
}

/// Of one queue's messages, those that it refused.
fn note_refused(refused: &mut Vec<u32>, pending: &[u32], unplaced: &[(u32, Unplaced)]) {
    for (position, why) in unplaced {
        if *why == Unplaced::Refused
            && let Some(number) = pending.get(*position as usize)
        {
            refused.push(*number);
        }
    }
}
