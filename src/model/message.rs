//! Messages as they came off the wire, stored compactly.
//!
//! Messages that arrive in one read share a [`Block`]: one buffer that holds,
//! for each, the envelope (exchange and routing key), the content header and
//! the body, all in wire form, so that a delivery copies them out unparsed. A
//! [`Message`] is a block and an index: cloning it for a fan-out counts one
//! reference. A body of [`LARGE_BODY_BYTES`] or more is not copied: it stays a
//! slice of the buffer it was read into, in a block of its own.
//!
//! A waiting message keeps its block alive. Blocks are therefore small
//! ([`BLOCK_BYTES`]), and a queue that would keep little of one gets a compact
//! copy ([`Message::compact`]).

use std::sync::Arc;

use bytes::Bytes;

use super::Traits;

/// Octets after which a block is closed and the next begun.
pub const BLOCK_BYTES: usize = 32 * 1024;
/// Bodies from this size on are shared with the read buffer instead of copied.
pub const LARGE_BODY_BYTES: usize = 32 * 1024;

/// One message: what was published, not where it is queued.
#[derive(Clone, Debug)]
pub struct Message {
    block: Arc<Block>,
    index: u32,
}

/// Messages that share a buffer.
#[derive(Debug)]
pub struct Block {
    data: Box<[u8]>,
    entries: Box<[Entry]>,
    arrived: Arrivals<Box<[u64]>>,
    /// The body of the only message, where it was too large to copy.
    large_body: Vec<Bytes>,
}

/// Collects one block.
#[derive(Debug, Default)]
pub struct BlockBuilder {
    block: Building,
    /// When what is pushed next arrived.
    arrived: u64,
}

#[derive(Debug, Default)]
struct Building {
    data: Vec<u8>,
    entries: Vec<Entry>,
    arrived: Arrivals<Vec<u64>>,
    large_body: Vec<Bytes>,
}

/// When a block's messages arrived, in milliseconds since 1970. What comes in
/// one read arrives at once, so that mostly one number says it.
#[derive(Debug)]
enum Arrivals<T> {
    AtOnce(u64),
    Each(T),
}

impl<T> Default for Arrivals<T> {
    fn default() -> Self {
        Self::AtOnce(0)
    }
}

/// A message's body.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    /// In one piece.
    Slice(&'a [u8]),
    /// In the pieces in which it was read.
    Chunks(&'a [Bytes]),
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    start: u32,
    header_bytes: u32,
    body_bytes: u32,
    envelope_bytes: u16,
    traits: Traits,
}

impl Message {
    /// A message on its own, for tests and for the rare message that the broker
    /// makes itself.
    ///
    /// `header` is a content header's payload in wire form.
    #[must_use]
    pub fn single(exchange: &str, routing_key: &str, header: &[u8], body: &[u8]) -> Self {
        let mut envelope = Vec::new();
        let mut writer = leveret_protocol::Writer::new(&mut envelope);
        writer.shortstr(exchange);
        writer.shortstr(routing_key);
        let mut builder = BlockBuilder::default();
        builder.push(&envelope, header, Body::Slice(body), Traits::default());
        Self {
            block: Arc::new(builder.finish()),
            index: 0,
        }
    }

    /// The message at `index` of `block`.
    #[must_use]
    pub fn new(block: Arc<Block>, index: u32) -> Self {
        debug_assert!(
            (index as usize) < block.entries.len(),
            "no message at this index"
        );
        Self { block, index }
    }

    /// Exchange and routing key as two short strings in wire form.
    #[must_use]
    pub fn envelope(&self) -> &[u8] {
        let entry = self.entry();
        self.data(0, entry.envelope_bytes as usize)
    }

    /// The content header's payload in wire form.
    #[must_use]
    pub fn header(&self) -> &[u8] {
        let entry = self.entry();
        self.data(entry.envelope_bytes as usize, entry.header_bytes as usize)
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> Body<'_> {
        if !self.block.large_body.is_empty() {
            return Body::Chunks(&self.block.large_body);
        }
        let entry = self.entry();
        let offset = entry.envelope_bytes as usize + entry.header_bytes as usize;
        Body::Slice(self.data(offset, entry.body_bytes as usize))
    }

    /// Octets of the body.
    #[must_use]
    pub fn body_bytes(&self) -> usize {
        self.entry().body_bytes as usize
    }

    /// Octets of the whole message as stored.
    #[must_use]
    pub fn stored_bytes(&self) -> usize {
        let entry = self.entry();
        entry.envelope_bytes as usize + entry.header_bytes as usize + entry.body_bytes as usize
    }

    /// Octets of memory that it takes in a queue, about.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.stored_bytes() + MEMORY_OVERHEAD_BYTES
    }

    /// Whether the publisher asked that it survive a restart.
    #[must_use]
    pub fn persistent(&self) -> bool {
        self.entry().traits.persistent()
    }

    /// What is known of it without looking into its properties.
    #[inline]
    #[must_use]
    pub fn traits(&self) -> Traits {
        self.entry().traits
    }

    /// When the broker got it, in milliseconds since 1970; 0 if that is not
    /// known.
    #[must_use]
    pub fn arrived(&self) -> u64 {
        match &self.block.arrived {
            Arrivals::AtOnce(arrived) => *arrived,
            Arrivals::Each(each) => each.get(self.index as usize).copied().unwrap_or_default(),
        }
    }

    /// The exchange that it was published to.
    #[must_use]
    pub fn exchange(&self) -> &str {
        envelope_parts(self.envelope()).unwrap_or_default().0
    }

    /// The routing key that it was published with.
    #[must_use]
    pub fn routing_key(&self) -> &str {
        envelope_parts(self.envelope()).unwrap_or_default().1
    }

    /// Whether these messages use less than half of the blocks that they keep
    /// alive, so that waiting in a queue they would pin mostly other messages.
    #[must_use]
    pub fn pin_too_much(messages: &[Self]) -> bool {
        let (mut used, mut kept) = (0, 0);
        let mut last: Option<&Arc<Block>> = None;
        for message in messages {
            used += message.stored_bytes();
            if last.is_none_or(|last| !Arc::ptr_eq(last, &message.block)) {
                kept += message.block.stored_bytes();
                last = Some(&message.block);
            }
        }
        kept > SMALL_BLOCK_BYTES && used * 2 < kept
    }

    /// The message in a block of its own, for a place where it outlives those
    /// that came with it.
    #[must_use]
    pub fn alone(self) -> Self {
        if self.block.entries.len() == 1 {
            return self;
        }
        let mut builder = BlockBuilder::default();
        builder.arrived(self.arrived());
        builder.push(self.envelope(), self.header(), self.body(), self.traits());
        Self::new(Arc::new(builder.finish()), 0)
    }

    /// Moves the messages into blocks of their own.
    pub fn compact(messages: &mut [Self]) {
        let mut start = 0;
        let mut builder = BlockBuilder::default();
        for end in 1..=messages.len() {
            let message = &messages[end - 1];
            if !message.block.large_body.is_empty() {
                // A large body is alone in its block already.
                close(&mut builder, &mut messages[start..end - 1]);
                start = end;
                continue;
            }
            builder.arrived(message.arrived());
            builder.push(
                message.envelope(),
                message.header(),
                message.body(),
                message.traits(),
            );
            if builder.is_full() || end == messages.len() {
                close(&mut builder, &mut messages[start..end]);
                start = end;
            }
        }

        fn close(builder: &mut BlockBuilder, messages: &mut [Message]) {
            let block = Arc::new(builder.finish());
            for (index, message) in messages.iter_mut().enumerate() {
                *message = Message::new(Arc::clone(&block), index as u32);
            }
        }
    }

    fn entry(&self) -> Entry {
        // `new` checked the index against this same, now immutable, block.
        self.block.entries[self.index as usize]
    }

    fn data(&self, offset: usize, length: usize) -> &[u8] {
        let start = self.entry().start as usize + offset;
        &self.block.data[start..start + length]
    }
}

impl Block {
    /// Octets of all its messages.
    #[must_use]
    pub fn stored_bytes(&self) -> usize {
        self.data.len() + self.large_body.iter().map(Bytes::len).sum::<usize>()
    }

    /// How many messages it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl BlockBuilder {
    /// Says when the messages arrived that are pushed from now on, in
    /// milliseconds since 1970.
    pub fn arrived(&mut self, arrived: u64) {
        if arrived == self.arrived && !self.is_empty() {
            return;
        }
        self.arrived = arrived;
        let block = &mut self.block;
        match &mut block.arrived {
            at_once if block.entries.is_empty() => *at_once = Arrivals::AtOnce(arrived),
            Arrivals::AtOnce(before) => {
                block.arrived = Arrivals::Each(vec![*before; block.entries.len()]);
            }
            Arrivals::Each(_) => {}
        }
    }

    /// Appends a message whose body is copied; its index in the block.
    pub fn push(&mut self, envelope: &[u8], header: &[u8], body: Body<'_>, traits: Traits) -> u32 {
        let data = &mut self.block.data;
        let start = data.len();
        data.reserve(envelope.len() + header.len() + body.len());
        data.extend_from_slice(envelope);
        data.extend_from_slice(header);
        match body {
            Body::Slice(body) => data.extend_from_slice(body),
            Body::Chunks(chunks) => chunks
                .iter()
                .for_each(|chunk| data.extend_from_slice(chunk)),
        }
        self.add_entry(start, envelope, header, body.len(), traits)
    }

    /// Makes this the block of one message whose body is not copied.
    pub fn push_large(&mut self, envelope: &[u8], header: &[u8], body: Vec<Bytes>, traits: Traits) {
        debug_assert!(self.is_empty(), "a large body is alone in its block");
        self.block.data.extend_from_slice(envelope);
        self.block.data.extend_from_slice(header);
        let body_bytes = body.iter().map(Bytes::len).sum();
        self.block.large_body = body;
        self.add_entry(0, envelope, header, body_bytes, traits);
    }

    /// Whether the next message belongs into another block.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.block.data.len() >= BLOCK_BYTES
    }

    /// Whether nothing was pushed yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.block.entries.is_empty()
    }

    /// The block, no larger than what it holds; the builder begins the next.
    pub fn finish(&mut self) -> Block {
        // The builder keeps its memory: one exact copy costs less than growing
        // anew for every block.
        let block = Block {
            data: self.block.data.as_slice().into(),
            entries: self.block.entries.as_slice().into(),
            arrived: match std::mem::take(&mut self.block.arrived) {
                Arrivals::AtOnce(arrived) => Arrivals::AtOnce(arrived),
                Arrivals::Each(each) => Arrivals::Each(each.into()),
            },
            large_body: std::mem::take(&mut self.block.large_body),
        };
        self.block.data.clear();
        self.block.entries.clear();
        self.block.arrived = Arrivals::AtOnce(self.arrived);
        block
    }

    fn add_entry(
        &mut self,
        start: usize,
        envelope: &[u8],
        header: &[u8],
        body_bytes: usize,
        traits: Traits,
    ) -> u32 {
        debug_assert!(envelope.len() <= 512, "an envelope is two short strings");
        let index = self.block.entries.len() as u32;
        self.block.entries.push(Entry {
            start: start as u32,
            header_bytes: header.len() as u32,
            body_bytes: body_bytes as u32,
            envelope_bytes: envelope.len() as u16,
            traits,
        });
        if let Arrivals::Each(each) = &mut self.block.arrived {
            each.push(self.arrived);
        }
        index
    }
}

impl Body<'_> {
    /// Octets of the body.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Slice(body) => body.len(),
            Self::Chunks(chunks) => chunks.iter().map(Bytes::len).sum(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a waiting message takes in memory beside its octets: its entry in the
/// block and its handle in the queue.
pub const MEMORY_OVERHEAD_BYTES: usize = size_of::<Entry>() + size_of::<Message>();
/// The same beside its octets of a message that is [alone](Message::alone) in its
/// block: three allocations more.
pub const ALONE_OVERHEAD_BYTES: usize = MEMORY_OVERHEAD_BYTES + size_of::<Block>() + 64;
/// Blocks up to this size are not worth a copy.
const SMALL_BLOCK_BYTES: usize = 1024;

/// Exchange and routing key of an envelope; `None` if it is malformed or not
/// UTF-8, which a stored message's never is.
#[must_use]
pub fn envelope_parts(envelope: &[u8]) -> Option<(&str, &str)> {
    let (exchange, rest) = short_string(envelope)?;
    let (routing_key, _) = short_string(rest)?;
    Some((exchange, routing_key))
}

fn short_string(octets: &[u8]) -> Option<(&str, &[u8])> {
    let (&length, rest) = octets.split_first()?;
    let (text, rest) = rest.split_at_checked(length as usize)?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use super::*;

    const ENVELOPE: &[u8] = b"\0\x05queue";
    const HEADER: &[u8] = &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0];

    /// So many messages of 16 octets, in blocks as a connection makes them.
    fn small_messages(count: usize) -> Vec<Message> {
        let mut messages = Vec::new();
        let mut builder = BlockBuilder::default();
        for number in 0..count {
            let body = format!("{number:016}");
            builder.push(
                ENVELOPE,
                HEADER,
                Body::Slice(body.as_bytes()),
                Traits::new(number % 2 == 0),
            );
            if builder.is_full() || number + 1 == count {
                let block = Arc::new(builder.finish());
                messages.extend(
                    (0..block.len()).map(|index| Message::new(Arc::clone(&block), index as u32)),
                );
            }
        }
        messages
    }

    fn body(message: &Message) -> Vec<u8> {
        match message.body() {
            Body::Slice(octets) => octets.to_vec(),
            Body::Chunks(chunks) => chunks.concat(),
        }
    }

    fn alive(blocks: &[Weak<Block>]) -> usize {
        blocks
            .iter()
            .filter(|block| block.strong_count() > 0)
            .count()
    }

    #[test]
    fn few_of_many_small_messages_do_not_pin_their_blocks() {
        let all = small_messages(10_000);
        let mut blocks: Vec<Weak<Block>> = Vec::new();
        for message in &all {
            if blocks
                .last()
                .is_none_or(|last| !last.ptr_eq(&Arc::downgrade(&message.block)))
            {
                blocks.push(Arc::downgrade(&message.block));
            }
        }
        assert!(blocks.len() > 10, "{}", blocks.len());
        let mut kept: Vec<Message> = all.iter().step_by(1_000).cloned().collect();
        assert!(!Message::pin_too_much(&all));
        drop(all);
        assert_eq!(alive(&blocks), 10, "one message keeps its whole block");
        assert!(Message::pin_too_much(&kept));

        Message::compact(&mut kept);
        assert_eq!(alive(&blocks), 0);
        assert!(!Message::pin_too_much(&kept));
        let stored: usize = kept.iter().map(Message::stored_bytes).sum();
        assert_eq!(kept[0].block.stored_bytes(), stored, "nothing but these");
        for (number, message) in kept.iter().enumerate() {
            assert!(Arc::ptr_eq(&message.block, &kept[0].block));
            assert_eq!(body(message), format!("{:016}", number * 1_000).as_bytes());
            assert_eq!(
                (message.exchange(), message.routing_key()),
                ("", "queue"),
                "{message:?}"
            );
            assert_eq!(message.header(), HEADER);
            assert!(message.persistent());
        }
    }

    #[test]
    fn compact_copies_fill_several_blocks_and_leave_large_bodies_alone() {
        let mut large = BlockBuilder::default();
        let chunks = vec![Bytes::from(vec![b'x'; LARGE_BODY_BYTES]); 2];
        large.push_large(ENVELOPE, HEADER, chunks, Traits::default());
        let large = Message::new(Arc::new(large.finish()), 0);
        let mut messages = small_messages(4_000);
        messages.insert(0, large.clone());
        messages.insert(2_000, large.clone());
        messages.push(large.clone());
        let before: Vec<_> = messages.iter().map(body).collect();

        Message::compact(&mut messages);
        assert!(messages.iter().map(body).eq(before));
        for message in &messages {
            let is_large = message.body_bytes() == 2 * LARGE_BODY_BYTES;
            assert_eq!(Arc::ptr_eq(&message.block, &large.block), is_large);
            assert!(is_large || message.block.stored_bytes() < 2 * BLOCK_BYTES);
        }
    }

    #[test]
    fn each_message_keeps_the_time_of_its_arrival() {
        let mut builder = BlockBuilder::default();
        let mut expected = Vec::new();
        for (number, arrived) in [5, 5, 7, 7, 6].into_iter().enumerate() {
            builder.arrived(arrived);
            builder.push(ENVELOPE, HEADER, Body::Slice(b"x"), Traits::default());
            expected.push(arrived);
            if number == 1 {
                assert!(matches!(builder.block.arrived, Arrivals::AtOnce(5)));
            }
        }
        let block = Arc::new(builder.finish());
        let mut messages: Vec<_> = (0..5)
            .map(|index| Message::new(Arc::clone(&block), index))
            .collect();
        assert!(messages.iter().map(Message::arrived).eq(expected.clone()));
        Message::compact(&mut messages);
        assert!(messages.iter().map(Message::arrived).eq(expected));
        builder.push(ENVELOPE, HEADER, Body::Slice(b"x"), Traits::default());
        let next = Message::new(Arc::new(builder.finish()), 0);
        assert_eq!(next.arrived(), 6, "the clock stands until it is moved");
    }
}
