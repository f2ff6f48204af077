//! The segments' pages: counted by their headers, and read one at a time where
//! every message is to be verified.

use std::io;
use std::ops::Range;

use serde::Serialize;

use crate::model::{Page, QueueId, Sequence, SequenceRange};
use crate::store::error::StoreError;
use crate::store::files::{Files, StoreFile};
use crate::store::ranges::RangeSet;
use crate::store::recovery::{next_page, page_at, read_page_octets};
use crate::store::segment::{
    PAGE_HEADER_BYTES, PageHeader, SEGMENT_HEADER_BYTES, SegmentNumber, each_entry, segment_number,
};

use super::read_only::ReadOnly;

/// What a segment file holds.
#[derive(Clone, Debug, Serialize)]
pub struct SegmentSummary {
    /// Whose messages they are.
    pub queue: u64,
    /// Pages with a whole header.
    pub pages: u64,
    /// Messages in them, settled ones included.
    pub messages: u64,
    /// The first place.
    pub first: Option<u64>,
    /// The one behind the last place.
    pub end: Option<u64>,
}

/// Octets of a page that hold no whole message.
#[derive(Clone, Debug)]
pub(super) struct BadEntry {
    pub(super) name: String,
    pub(super) queue: QueueId,
    /// Where in the file.
    pub(super) octets: Range<u64>,
    /// The page's places between those of the whole messages before and behind.
    pub(super) places: Vec<SequenceRange>,
}

/// Counts a segment's pages by their headers.
///
/// # Errors
/// If it cannot be read.
pub(super) fn summary(
    files: &ReadOnly,
    name: &str,
    of: SegmentNumber,
) -> io::Result<SegmentSummary> {
    let mut summary = SegmentSummary {
        queue: of.queue.0,
        pages: 0,
        messages: 0,
        first: None,
        end: None,
    };
    each_page(&*files.open(name)?, of, |_, header| {
        let places = header.places();
        summary.pages += 1;
        summary.messages += u64::from(header.messages);
        let first = summary.first.get_or_insert(places.first.0);
        *first = places.first.0.min(*first);
        let end = summary.end.get_or_insert(places.end.0);
        *end = places.end.0.max(*end);
        Ok(())
    })?;
    Ok(summary)
}

/// Reads every message of all segments that survive a start, a page at a time.
///
/// # Errors
/// If a file cannot be read.
pub(super) fn verify(files: &ReadOnly) -> Result<Vec<BadEntry>, StoreError> {
    let mut bad = Vec::new();
    for name in files.names().map_err(StoreError::io("its directory"))? {
        let Some(of) = segment_number(&name).filter(|of| !of.scratch) else {
            continue;
        };
        let handle = files.open(&name).map_err(StoreError::io(&name))?;
        each_page(&*handle, of, |at, header| {
            let page = Page {
                file: of.file,
                offset: at,
                bytes: header.page_bytes() as u32,
            };
            let octets = read_page_octets(&*handle, page)?;
            let payload = octets.get(PAGE_HEADER_BYTES..).unwrap_or_default();
            let payload = payload.get(..header.payload_bytes as usize);
            for (within, places) in bad_entries(header, payload.unwrap_or_default()) {
                let start = at + (PAGE_HEADER_BYTES + within.start) as u64;
                bad.push(BadEntry {
                    name: name.clone(),
                    queue: of.queue,
                    octets: start..start + within.len() as u64,
                    places,
                });
            }
            Ok(())
        })
        .map_err(StoreError::io(&name))?;
    }
    Ok(bad)
}

/// Octets between whole messages, with the places between them.
fn bad_entries(header: &PageHeader, payload: &[u8]) -> Vec<(Range<usize>, Vec<SequenceRange>)> {
    let mut bad = Vec::new();
    // Where their list is damaged, any place between may have been there.
    let listed = header.ranges(payload);
    let (ranges, list_bytes) = listed.unwrap_or_else(|| (vec![header.places()], 0));
    let (mut at, mut expected) = (list_bytes, header.first);
    let places = |first: Sequence, end: Sequence| -> Vec<SequenceRange> {
        let within = ranges.iter().map(|range| SequenceRange {
            first: range.first.max(first),
            end: range.end.min(end),
        });
        within.filter(|range| range.count() > 0).collect()
    };
    each_entry(header, payload, |place, octets, _| {
        if octets.start > at {
            bad.push((at..octets.start, places(expected, place)));
        }
        at = octets.end;
        expected = place.behind();
    });
    let end = header.payload_bytes as usize;
    if at < end {
        bad.push((at..end, places(expected, header.places().end)));
    }
    bad
}

/// Calls `found` with each page's place in the file and header, also behind
/// places that hold none.
fn each_page(
    handle: &dyn StoreFile,
    of: SegmentNumber,
    mut found: impl FnMut(u64, &PageHeader) -> io::Result<()>,
) -> io::Result<()> {
    let length = handle.len()?;
    let mut at = SEGMENT_HEADER_BYTES as u64;
    while at < length {
        if let Some(header) = page_at(handle, at, length, (of.queue, of.file))? {
            found(at, &header)?;
            at += header.page_bytes() as u64;
            continue;
        }
        let mut rest = vec![0; usize::try_from(length - at).unwrap_or(usize::MAX)];
        let count = handle.read_at(&mut rest, at)?;
        rest.truncate(count);
        match next_page(&rest, (of.queue, of.file)) {
            Some(behind) => at += behind as u64,
            None => break,
        }
    }
    Ok(())
}

impl BadEntry {
    /// Places whose messages are neither settled nor elsewhere.
    pub(super) fn lost(&self, settled: &RangeSet, elsewhere: &RangeSet) -> Vec<SequenceRange> {
        let gaps = self.places.iter().flat_map(|range| settled.gaps(*range));
        gaps.flat_map(|gap| elsewhere.gaps(gap).collect::<Vec<_>>())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Message, PageTag};
    use crate::store::segment::encode_page;

    #[test]
    fn a_flipped_bit_is_placed_at_its_message() {
        let messages: Vec<(Sequence, Message)> = [10, 11, 14, 15]
            .map(|place| {
                (
                    Sequence(place),
                    Message::single("", "key", b"header", b"body"),
                )
            })
            .into();
        let mut page = Vec::new();
        let (first, tag) = (Sequence(10), PageTag::default());
        let (header, _) = encode_page(&mut page, QueueId(1), 2, first, tag, &messages);
        let payload = page.split_off(PAGE_HEADER_BYTES);
        let payload = &payload[..header.payload_bytes as usize];
        assert!(
            bad_entries(&header, payload).is_empty(),
            "gaps are no damage"
        );
        let (_, list) = header.ranges(payload).expect("it is whole");
        let each = (payload.len() - list) / 4;
        for (message, place) in [10, 11, 14, 15].into_iter().enumerate() {
            let octets = list + message * each..list + (message + 1) * each;
            for at in octets.clone() {
                let mut flipped = payload.to_vec();
                flipped[at] ^= 0x10;
                let places = vec![SequenceRange::new(Sequence(place), 1)];
                let bad = bad_entries(&header, &flipped);
                assert_eq!(bad, [(octets.clone(), places)], "octet {at}");
            }
        }
        for at in 0..list {
            let mut flipped = payload.to_vec();
            flipped[at] ^= 0x10;
            let bad = bad_entries(&header, &flipped);
            assert_eq!(bad, [(0..list, Vec::new())], "octet {at}, no message is");
        }
    }
}
