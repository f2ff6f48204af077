//! A page: consecutive messages of one queue in a segment file, written and
//! read in one piece. `docs/storage.md` has the layout.
//!
//! Every message has a checksum of its own, so that a damaged one costs itself
//! alone: the next is found by looking for the place where one begins.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::model::{
    Block, BlockBuilder, Body, LARGE_BODY_BYTES, Message, PageTag, QueueId, Sequence, SequenceRange,
};
use crate::store::log::{Layout, Stored, put_message, read_stored};
use crate::store::octets::{self, Reader};
use crate::store::ranges::RangeSet;

use super::pager::PageSource;
use super::places::{put_list, ranges_of};

/// Octets of a page's header.
pub(in crate::store) const PAGE_HEADER_BYTES: usize = 64;
/// Octets in front of a message as a record has it: checksum and index.
const CHECKED_BYTES: usize = 8;
/// Octets of a segment file's header.
pub(in crate::store) const SEGMENT_HEADER_BYTES: usize = 64;
/// The version of the segments' format.
pub(in crate::store) const SEGMENT_VERSION: u16 = 2;

const FILE_MAGIC: [u8; 8] = *b"LEVRSEG\0";
const CRC_FROM: usize = 8;

/// A page's header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::store) struct PageHeader {
    pub(in crate::store) layout: Layout,
    /// Octets behind the header, padding not counted.
    pub(in crate::store) payload_bytes: u32,
    /// Places from the first message's to the last one's.
    pub(in crate::store) count: u32,
    /// How many of the places hold a message.
    pub(in crate::store) messages: u32,
    pub(in crate::store) first: Sequence,
    pub(in crate::store) queue: QueueId,
    pub(in crate::store) file: u64,
    /// How many of the messages are persistent.
    pub(in crate::store) persistent: u32,
    /// Octets of the messages themselves.
    pub(in crate::store) stored_bytes: u64,
    pub(in crate::store) tag: PageTag,
}

/// Messages read back from a page.
#[derive(Debug, Default)]
pub struct PageContent {
    /// In the order of their places.
    pub messages: Vec<Message>,
    /// Their places, unless they are consecutive from the page's first.
    pub places: Option<Vec<Sequence>>,
    /// Places whose messages are damaged.
    pub damaged: Vec<Sequence>,
    /// Whether none is, needed or not.
    pub is_whole: bool,
    /// What the messages come to, as stored.
    pub stored_bytes: u64,
}

impl PageHeader {
    /// From the place of its first message to that of its last.
    pub(in crate::store) fn places(&self) -> SequenceRange {
        SequenceRange::new(self.first, self.count.into())
    }

    /// Octets of the page in the file.
    pub(in crate::store) fn page_bytes(&self) -> usize {
        (PAGE_HEADER_BYTES + self.payload_bytes as usize).next_multiple_of(octets::ALIGNMENT)
    }

    fn encode(&self) -> [u8; PAGE_HEADER_BYTES] {
        let mut out = Vec::with_capacity(PAGE_HEADER_BYTES);
        out.extend_from_slice(&magic(self.layout));
        octets::put_u32(&mut out, 0);
        octets::put_u32(&mut out, self.payload_bytes);
        octets::put_u32(&mut out, self.count);
        octets::put_u64(&mut out, self.first.0);
        octets::put_u64(&mut out, self.queue.0);
        octets::put_u64(&mut out, self.file);
        octets::put_u32(&mut out, self.persistent);
        octets::put_u32(&mut out, self.messages);
        octets::put_u64(&mut out, self.stored_bytes);
        out.push(self.tag.class);
        out.extend_from_slice(self.tag.due.to_le_bytes().get(..7).unwrap_or_default());
        let mut header = [0; PAGE_HEADER_BYTES];
        header[..out.len()].copy_from_slice(&out);
        let crc = self.layout.header_crc(&header);
        header[4..CRC_FROM].copy_from_slice(&crc.to_le_bytes());
        header
    }

    /// The header at the start of `octets`; `None` if there is no whole and
    /// right one.
    pub(in crate::store) fn decode(octets: &[u8]) -> Option<Self> {
        let header = octets.get(..PAGE_HEADER_BYTES)?;
        let mut reader = Reader::new(header);
        let layout = match reader.octets(4)? {
            b"LVP1" => Layout::V1,
            b"LVP2" => Layout::V2,
            _ => return None,
        };
        if reader.u32()? != layout.header_crc(header) {
            return None;
        }
        let payload_bytes = reader.u32()?;
        let count = reader.u32()?;
        let first = Sequence(reader.u64()?);
        let queue = QueueId(reader.u64()?);
        let file = reader.u64()?;
        let persistent = reader.u32()?;
        let messages = reader.u32()?;
        let stored_bytes = reader.u64()?;
        // Zero in version 1, which is what no tag means.
        let tag = reader.u64()?;
        Some(Self {
            layout,
            payload_bytes,
            count,
            messages,
            first,
            queue,
            file,
            persistent,
            stored_bytes,
            tag: PageTag {
                class: tag as u8,
                due: tag >> 8,
            },
        })
    }

    /// What a page's messages are tied to it with: octets of another page or an
    /// older file, where they are found in its place, are not taken for its own.
    pub(super) fn seed(&self) -> u32 {
        seed(self.queue, self.file, self.first)
    }
}

fn magic(layout: Layout) -> [u8; 4] {
    match layout {
        Layout::V1 => *b"LVP1",
        Layout::V2 => *b"LVP2",
    }
}

fn seed(queue: QueueId, file: u64, first: Sequence) -> u32 {
    let mut octets = [0; 24];
    octets[..8].copy_from_slice(&queue.0.to_le_bytes());
    octets[8..16].copy_from_slice(&file.to_le_bytes());
    octets[16..].copy_from_slice(&first.0.to_le_bytes());
    crc32c::crc32c(&octets)
}

/// Writes messages as a page; `first` is the place of the first one. Its header
/// and the places that it holds.
pub(in crate::store) fn encode_page(
    out: &mut Vec<u8>,
    queue: QueueId,
    file: u64,
    first: Sequence,
    tag: PageTag,
    messages: &dyn PageSource,
) -> (PageHeader, Vec<SequenceRange>) {
    out.clear();
    out.resize(PAGE_HEADER_BYTES, 0);
    let seed = seed(queue, file, first);
    let ranges = ranges_of(messages);
    put_list(out, seed, first, &ranges);
    let (mut persistent, mut stored_bytes, mut count, mut number) = (0, 0, 0, 0);
    messages.each(&mut |place, message| {
        let start = out.len();
        let index = place.0.saturating_sub(first.0) as u32;
        count = index + 1;
        number += 1;
        octets::put_u32(out, 0);
        octets::put_u32(out, index);
        put_message(out, message);
        let crc = crc32c::crc32c_append(seed, out.get(start + 4..).unwrap_or_default());
        octets::overwrite(out, start, &crc.to_le_bytes());
        persistent += u32::from(message.persistent());
        stored_bytes += message.stored_bytes() as u64;
    });
    let header = PageHeader {
        layout: Layout::V2,
        payload_bytes: (out.len() - PAGE_HEADER_BYTES) as u32,
        count,
        messages: number,
        first,
        queue,
        file,
        persistent,
        stored_bytes,
        tag,
    };
    octets::overwrite(out, 0, &header.encode());
    octets::pad(out);
    (header, ranges)
}

/// Goes through the messages of a page, whole ones only.
pub(in crate::store) fn each_message<'a>(
    header: &PageHeader,
    payload: &'a [u8],
    mut found: impl FnMut(Sequence, Stored<'a>),
) {
    each_entry(header, payload, |place, _, stored| found(place, stored));
}

/// The same, with the octets of the payload that each of them takes: what lies
/// between two is damaged.
pub(in crate::store) fn each_entry<'a>(
    header: &PageHeader,
    payload: &'a [u8],
    mut found: impl FnMut(Sequence, Range<usize>, Stored<'a>),
) {
    let seed = header.seed();
    // Where the list of places is damaged, the first message is looked for too.
    let mut at = header.ranges(payload).map_or(0, |(_, bytes)| bytes);
    let mut expected = 0;
    while at < payload.len() && expected < header.count {
        let rest = payload.get(at..).unwrap_or_default();
        match entry(header.layout, rest, seed) {
            Some((index, stored, bytes)) if index >= expected && index < header.count => {
                let place = Sequence(header.first.0 + u64::from(index));
                found(place, at..at + bytes, stored);
                expected = index + 1;
                at += bytes;
            }
            // Damaged: the next one begins somewhere behind.
            _ => at += 1,
        }
    }
}

/// The message at the start of `octets`, if it is whole: its index in the page,
/// itself, and the octets that it takes.
fn entry(layout: Layout, octets: &[u8], seed: u32) -> Option<(u32, Stored<'_>, usize)> {
    let mut reader = Reader::new(octets);
    let crc = reader.u32()?;
    let index = reader.u32()?;
    let stored = read_stored(layout, &mut reader)?;
    let lengths = stored.envelope.len() + stored.header.len() + stored.body.len();
    let bytes = CHECKED_BYTES + layout.entry_bytes() + lengths;
    let right = crc32c::crc32c_append(seed, octets.get(4..bytes)?) == crc;
    right.then_some((index, stored, bytes))
}

/// Makes messages out of a page; `wants` passes over places that are not needed
/// any more. Where the page's list of places is damaged too, it is not known of
/// which ones messages are missing.
pub(in crate::store) fn read_page(
    header: &PageHeader,
    payload: &[u8],
    mut wants: impl FnMut(Sequence, bool) -> bool,
) -> PageContent {
    let mut builder = MessageBuilder::default();
    let mut places = Vec::with_capacity(header.messages as usize);
    let (mut there, mut whole) = (RangeSet::default(), 0);
    each_message(header, payload, |place, stored| {
        whole += 1;
        there.insert(SequenceRange::new(place, 1));
        if wants(place, stored.traits.persistent()) {
            builder.push(&stored);
            places.push(place);
        }
    });
    let is_whole = whole == header.messages;
    let mut damaged = Vec::new();
    if !is_whole && let Some((ranges, _)) = header.ranges(payload) {
        let gaps = ranges.iter().flat_map(|range| there.gaps(*range));
        damaged.extend(gaps.flat_map(|gap| (gap.first.0..gap.end.0).map(Sequence)));
    }
    let messages = builder.finish();
    let consecutive = places.len() == header.count as usize;
    PageContent {
        stored_bytes: messages
            .iter()
            .map(|message| message.stored_bytes() as u64)
            .sum(),
        messages,
        places: (!consecutive).then_some(places),
        damaged,
        is_whole,
    }
}

/// Makes messages out of what files hold, many in one block.
#[derive(Debug, Default)]
pub(in crate::store) struct MessageBuilder {
    block: BlockBuilder,
    messages: Vec<Message>,
}

impl MessageBuilder {
    pub(in crate::store) fn push(&mut self, stored: &Stored<'_>) {
        if stored.body.len() >= LARGE_BODY_BYTES {
            self.close();
            self.block.arrived(stored.arrived);
            let body = vec![Bytes::copy_from_slice(stored.body)];
            self.block
                .push_large(stored.envelope, stored.header, body, stored.traits);
            self.close();
            return;
        }
        self.block.arrived(stored.arrived);
        self.block.push(
            stored.envelope,
            stored.header,
            Body::Slice(stored.body),
            stored.traits,
        );
        if self.block.is_full() {
            self.close();
        }
    }

    pub(in crate::store) fn finish(mut self) -> Vec<Message> {
        self.close();
        self.messages
    }

    fn close(&mut self) {
        if self.block.is_empty() {
            return;
        }
        let block: Arc<Block> = Arc::new(self.block.finish());
        let count = block.len() as u32;
        self.messages
            .extend((0..count).map(|index| Message::new(Arc::clone(&block), index)));
    }
}

/// The header of a segment file.
pub(in crate::store) fn segment_header(queue: QueueId, file: u64) -> [u8; SEGMENT_HEADER_BYTES] {
    let mut header = [0; SEGMENT_HEADER_BYTES];
    header[..8].copy_from_slice(&FILE_MAGIC);
    header[8..10].copy_from_slice(&SEGMENT_VERSION.to_le_bytes());
    header[16..24].copy_from_slice(&queue.0.to_le_bytes());
    header[24..32].copy_from_slice(&file.to_le_bytes());
    let crc = crc32c::crc32c(&header[..32]);
    header[32..36].copy_from_slice(&crc.to_le_bytes());
    header
}

/// Version, queue and file of a segment file's header; `None` if it is damaged.
pub(in crate::store) fn read_segment_header(octets: &[u8]) -> Option<(u16, QueueId, u64)> {
    let header = octets.get(..SEGMENT_HEADER_BYTES)?;
    let mut reader = Reader::new(header);
    let magic = reader.octets(8)?;
    let version = reader.u16()?;
    reader.octets(6)?;
    let (queue, file) = (QueueId(reader.u64()?), reader.u64()?);
    let right = magic == FILE_MAGIC && reader.u32()? == crc32c::crc32c(&header[..32]);
    right.then_some((version, queue, file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::log::put_body;

    fn messages() -> Vec<(Sequence, Message)> {
        (0..20)
            .map(|number| {
                let body = format!("body {number}");
                let message = Message::single("exchange", "key", b"header", body.as_bytes());
                (Sequence(100 + number), message)
            })
            .collect()
    }

    fn body(message: &Message) -> Vec<u8> {
        let mut out = Vec::new();
        put_body(&mut out, message.body());
        out
    }

    const TAG: PageTag = PageTag {
        class: 7,
        due: 1_700_000_000_000,
    };

    fn encode(
        page: &mut Vec<u8>,
        messages: &Vec<(Sequence, Message)>,
    ) -> (PageHeader, Vec<SequenceRange>) {
        encode_page(page, QueueId(1), 2, messages[0].0, TAG, messages)
    }

    #[test]
    fn a_page_reads_back() {
        let messages = messages();
        let mut page = Vec::new();
        let (header, _) = encode(&mut page, &messages);
        assert_eq!(PageHeader::decode(&page), Some(header));
        assert_eq!(page.len(), header.page_bytes());
        let payload = &page[PAGE_HEADER_BYTES..];
        let content = read_page(&header, payload, |_, _| true);
        assert!(content.damaged.is_empty() && content.places.is_none());
        assert!(
            content
                .messages
                .iter()
                .map(body)
                .eq(messages.iter().map(|(_, message)| body(message)))
        );
        let even = read_page(&header, payload, |place, _| place.0 % 2 == 0);
        assert_eq!(even.messages.len(), 10);
        assert_eq!(even.places.map(|places| places[1]), Some(Sequence(102)));
    }

    /// Others may be alive in a page's gaps, so it must not speak for them.
    #[test]
    fn a_page_with_gaps_knows_its_places() {
        let mut messages = messages();
        messages.retain(|(place, _)| place.0 % 3 != 0);
        let mut page = Vec::new();
        let (header, ranges) = encode(&mut page, &messages);
        assert_eq!(PageHeader::decode(&page), Some(header));
        assert_eq!((header.count, header.messages, header.tag), (20, 14, TAG));
        let payload = &page[PAGE_HEADER_BYTES..];
        let (listed, bytes) = header.ranges(payload).expect("it is whole");
        assert_eq!(listed, ranges);
        let places: Vec<Sequence> = messages.iter().map(|(place, _)| *place).collect();
        let of_ranges = listed.iter().flat_map(|range| range.first.0..range.end.0);
        assert!(of_ranges.map(Sequence).eq(places.iter().copied()));
        let content = read_page(&header, payload, |_, _| true);
        assert_eq!(content.places, Some(places));
        for at in 0..header.payload_bytes as usize {
            let mut flipped = payload.to_vec();
            flipped[at] ^= 0x40;
            let content = read_page(&header, &flipped, |_, _| true);
            let (damaged, whole) = (content.damaged, content.messages.len());
            if at < bytes {
                assert_eq!((damaged.len(), whole), (0, 14), "octet {at}");
                assert_eq!(header.ranges(&flipped), None, "octet {at}");
            } else {
                assert_eq!((damaged.len(), whole), (1, 13), "octet {at}");
                assert_ne!(damaged[0].0 % 3, 0, "octet {at}");
            }
        }
    }

    #[test]
    fn a_flipped_bit_costs_one_message_at_most() {
        let messages = messages();
        let mut page = Vec::new();
        let (header, _) = encode(&mut page, &messages);
        for place in PAGE_HEADER_BYTES..PAGE_HEADER_BYTES + header.payload_bytes as usize {
            let mut flipped = page.clone();
            flipped[place] ^= 0x40;
            let content = read_page(&header, &flipped[PAGE_HEADER_BYTES..], |_, _| true);
            assert_eq!(content.damaged.len(), 1, "octet {place}");
            assert_eq!(content.messages.len(), 19);
            let places = content.places.expect("one is missing");
            for (place, message) in places.iter().zip(&content.messages) {
                let expected = format!("body {}", place.0 - 100);
                assert_eq!(body(message), expected.as_bytes());
            }
        }
    }
}
