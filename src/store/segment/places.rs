//! Which places a page holds. Where they are not consecutive, a list of them
//! stands between the page's header and its first message: a place that it does
//! not name may be a live message elsewhere, in another page or in the log.

use std::io;

use crate::model::{Page, Sequence, SequenceRange};
use crate::store::files::StoreFile;
use crate::store::log::Layout;
use crate::store::octets::{self, Reader};

use super::page::{PAGE_HEADER_BYTES, PageHeader};
use super::pager::PageSource;

/// Octets in front of the list: how many ranges, checksum.
const LIST_HEADER_BYTES: usize = 8;
/// Octets of a range: the index of its first place in the page, and its count.
const RANGE_BYTES: usize = 8;

/// The places of messages, as the ranges that they form.
pub(super) fn ranges_of(messages: &dyn PageSource) -> Vec<SequenceRange> {
    let mut ranges: Vec<SequenceRange> = Vec::new();
    messages.each(&mut |place, _| match ranges.last_mut() {
        Some(last) if last.end == place => last.end.0 += 1,
        last => {
            debug_assert!(last.is_none_or(|last| last.end < place), "places ascend");
            ranges.push(SequenceRange::new(place, 1));
        }
    });
    ranges
}

/// Appends the list of these places of a page from `first` on; none where they
/// are consecutive.
pub(super) fn put_list(out: &mut Vec<u8>, seed: u32, first: Sequence, ranges: &[SequenceRange]) {
    if ranges.len() < 2 {
        return;
    }
    let start = out.len();
    octets::put_u32(out, ranges.len() as u32);
    octets::put_u32(out, 0);
    for range in ranges {
        octets::put_u32(out, range.first.0.saturating_sub(first.0) as u32);
        octets::put_u32(out, range.count() as u32);
    }
    let crc = list_crc(seed, out.get(start..).unwrap_or_default());
    octets::overwrite(out, start + 4, &crc.to_le_bytes());
}

impl PageHeader {
    /// Whether a list of its places stands behind it.
    fn has_list(&self) -> bool {
        self.layout != Layout::V1 && self.messages < self.count
    }

    /// The places of its messages, and how many octets of the payload their
    /// list takes; `None` if that is damaged.
    pub(in crate::store) fn ranges(&self, payload: &[u8]) -> Option<(Vec<SequenceRange>, usize)> {
        if !self.has_list() {
            // Pages of version 1 had gaps only where messages had been settled
            // before, so that nothing of them is anywhere else.
            return Some((vec![self.places()], 0));
        }
        let count = Reader::new(payload).u32()? as usize;
        let bytes = list_bytes(count)?;
        let list = payload.get(..bytes)?;
        let mut reader = Reader::new(list.get(4..)?);
        if reader.u32()? != list_crc(self.seed(), list) {
            return None;
        }
        let mut ranges = Vec::with_capacity(count);
        let mut behind = 0;
        for _ in 0..count {
            let (index, count) = (reader.u32()?, reader.u32()?);
            let end = index.checked_add(count)?;
            if index < behind || end > self.count {
                return None;
            }
            behind = end;
            let first = Sequence(self.first.0.checked_add(index.into())?);
            ranges.push(SequenceRange::new(first, count.into()));
        }
        let total: u64 = ranges.iter().map(|range| range.count()).sum();
        (total == u64::from(self.messages)).then_some((ranges, bytes))
    }
}

/// The places of a page's messages out of its file, without reading these;
/// `None` if their list is damaged.
pub(in crate::store) fn read_ranges(
    handle: &dyn StoreFile,
    page: Page,
    header: &PageHeader,
) -> io::Result<Option<Vec<SequenceRange>>> {
    if !header.has_list() {
        return Ok(Some(vec![header.places()]));
    }
    let at = page.offset + PAGE_HEADER_BYTES as u64;
    let mut count = [0; 4];
    if handle.read_at(&mut count, at)? < count.len() {
        return Ok(None);
    }
    let bytes = list_bytes(u32::from_le_bytes(count) as usize);
    let Some(bytes) = bytes.filter(|bytes| *bytes <= header.payload_bytes as usize) else {
        return Ok(None);
    };
    let mut list = vec![0; bytes];
    let read = handle.read_at(&mut list, at)?;
    list.truncate(read);
    Ok(header.ranges(&list).map(|(ranges, _)| ranges))
}

fn list_bytes(count: usize) -> Option<usize> {
    count
        .checked_mul(RANGE_BYTES)?
        .checked_add(LIST_HEADER_BYTES)
}

/// Of all of the list but the checksum itself.
fn list_crc(seed: u32, list: &[u8]) -> u32 {
    let (count, ranges) = (list.get(..4), list.get(LIST_HEADER_BYTES..));
    let crc = crc32c::crc32c_append(seed, count.unwrap_or_default());
    crc32c::crc32c_append(crc, ranges.unwrap_or_default())
}
