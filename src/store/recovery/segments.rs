//! Recovery's look at segments: which pages there are, and what they are worth.

use std::io;

use crate::model::{Page, QueueId, SequenceRange};
use crate::store::error::StoreError;
use crate::store::files::StoreFile;
use crate::store::log::{self, Damage};
use crate::store::octets;
use crate::store::segment::{
    PAGE_HEADER_BYTES, PageHeader, SEGMENT_HEADER_BYTES, SEGMENT_VERSION, each_message,
    read_ranges, read_segment_header, segment_number,
};

use super::Recovering;

impl Recovering<'_> {
    /// Finds a segment's pages; removes what belongs to no queue.
    pub(super) fn read_segment(&mut self, name: &str) -> Result<(), StoreError> {
        let Some(found) = segment_number(name) else {
            return Ok(());
        };
        self.next_segment = self.next_segment.max(found.file + 1);
        if found.scratch || !self.queues.contains_key(&found.queue) {
            return self.files.remove(name).map_err(StoreError::io(name));
        }
        let handle = self.files.open(name).map_err(StoreError::io(name))?;
        let pages =
            self.walk(name, &*handle, found.queue, found.file)
                .map_err(|error| match error {
                    Walk::Io(error) => StoreError::io(name)(error),
                    Walk::Newer(version) => StoreError::newer(name, version, SEGMENT_VERSION),
                })?;
        self.registry.add(found.queue, found.file, false, None);
        if let Some(queue) = self.queues.get_mut(&found.queue) {
            for found in pages {
                queue.next = queue.next.max(found.header.places().end);
                queue.pages.push(found);
            }
        }
        Ok(())
    }

    fn walk(
        &mut self,
        name: &str,
        handle: &dyn StoreFile,
        queue: QueueId,
        file: u64,
    ) -> Result<Vec<FoundPage>, Walk> {
        let length = handle.len()?;
        let durable = self.durable.get(&file).copied().unwrap_or(0);
        let mut header = [0; SEGMENT_HEADER_BYTES];
        handle.read_at(&mut header, 0)?;
        if let Some((version, ..)) = read_segment_header(&header)
            && version > SEGMENT_VERSION
        {
            return Err(Walk::Newer(version));
        }
        let mut pages = Vec::new();
        let mut at = SEGMENT_HEADER_BYTES as u64;
        while at < length {
            let Some(header) = page_at(handle, at, length, (queue, file))? else {
                match self.resume_walk(name, handle, at, length, durable, (queue, file))? {
                    Some(next) => at = next,
                    None => break,
                }
                continue;
            };
            let page = Page {
                file,
                offset: at,
                bytes: header.page_bytes() as u32,
            };
            let end = at + u64::from(page.bytes);
            let ranges = read_ranges(handle, page, &header)?;
            let state = if end <= durable {
                if ranges.is_none() {
                    self.list_lost(name, handle, page)?;
                }
                PageState::Durable
            } else if ranges.is_some() && is_whole(handle, &header, page)? {
                PageState::Whole
            } else {
                self.cut(name, at, end);
                PageState::Torn
            };
            pages.push(FoundPage {
                header,
                page,
                // Which places it stands for is not known without their list.
                state: ranges.as_ref().map_or(PageState::Torn, |_| state),
                ranges: ranges.unwrap_or_default(),
            });
            at = end;
        }
        if pages.iter().any(|found| found.state == PageState::Whole) {
            // The log may never have got what they hold.
            handle.sync()?;
        }
        if length < durable {
            let lost = Damage {
                from: length,
                to: durable,
                kind: log::DamageKind::Lost,
            };
            self.keep_aside(name, lost, &[]);
        }
        Ok(pages)
    }

    /// Reports a durable page whose list of places is damaged.
    fn list_lost(&mut self, name: &str, handle: &dyn StoreFile, page: Page) -> io::Result<()> {
        let octets = read_page_octets(handle, page)?;
        let lost = Damage {
            from: page.offset,
            to: page.offset + u64::from(page.bytes),
            kind: log::DamageKind::Lost,
        };
        self.keep_aside(name, lost, &octets);
        Ok(())
    }

    /// Where the next page begins behind a place that holds none.
    fn resume_walk(
        &mut self,
        name: &str,
        handle: &dyn StoreFile,
        from: u64,
        length: u64,
        durable: u64,
        (queue, file): (QueueId, u64),
    ) -> Result<Option<u64>, Walk> {
        let mut rest = vec![0; usize::try_from(length - from).unwrap_or(usize::MAX)];
        let count = handle.read_at(&mut rest, from)?;
        rest.truncate(count);
        let next = next_page(&rest, (queue, file)).map(|at| from + at as u64);
        let to = next.unwrap_or(length);
        if from >= durable {
            self.cut(name, from, to);
            return Ok(next);
        }
        let lost = Damage {
            from,
            to,
            kind: log::DamageKind::Lost,
        };
        let octets = rest.get(..(to - from) as usize).unwrap_or_default();
        self.keep_aside(name, lost, octets);
        Ok(next)
    }

    /// Messages of segments that were not to survive count as settled.
    pub(super) fn find_transient(&mut self) -> Result<(), StoreError> {
        for queue in self.queues.values_mut() {
            queue
                .pages
                .sort_by_key(|found| (found.header.first, found.page.file, found.page.offset));
            for found in &queue.pages {
                let places = found.header.places();
                if found.state != PageState::Torn {
                    for range in &found.ranges {
                        queue.paged.insert(*range);
                    }
                }
                if found.header.persistent == found.header.messages
                    || queue.settled.contains_all(places)
                {
                    continue;
                }
                let handle = self.registry.open(found.page.file);
                let octets = handle.and_then(|handle| read_page_octets(&*handle, found.page));
                let octets = octets.map_err(StoreError::io("a segment"))?;
                each_message(&found.header, payload(&octets), |place, stored| {
                    if !stored.traits.persistent() {
                        queue.settled.insert(SequenceRange::new(place, 1));
                    }
                });
            }
        }
        Ok(())
    }
}

#[derive(Clone, Debug)]
pub(super) struct FoundPage {
    pub(super) header: PageHeader,
    pub(super) page: Page,
    pub(super) state: PageState,
    /// The places that it holds, as far as that is known.
    pub(super) ranges: Vec<SequenceRange>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum PageState {
    /// A checkpoint calls it durable.
    Durable,
    /// It is whole as it was read, which may have been from the system's cache:
    /// the log must keep what it has of it.
    Whole,
    /// It does not stand for its places: the log has its messages, unless the
    /// disk has damaged it.
    Torn,
}

/// The header of the page at that place of a segment, if a whole page of this
/// queue and file can be there.
pub(in crate::store) fn page_at(
    handle: &dyn StoreFile,
    at: u64,
    length: u64,
    (queue, file): (QueueId, u64),
) -> io::Result<Option<PageHeader>> {
    let mut octets = [0; PAGE_HEADER_BYTES];
    let count = handle.read_at(&mut octets, at)?;
    Ok(octets
        .get(..count)
        .and_then(PageHeader::decode)
        .filter(|header| header.queue == queue && header.file == file)
        .filter(|header| at + header.page_bytes() as u64 <= length))
}

/// Where in `rest`, at whose start no page is, the next one begins.
pub(in crate::store) fn next_page(rest: &[u8], (queue, file): (QueueId, u64)) -> Option<usize> {
    let mut aligned = (octets::ALIGNMENT..rest.len()).step_by(octets::ALIGNMENT);
    aligned.find(|at| {
        let header = rest.get(*at..).and_then(PageHeader::decode);
        header.is_some_and(|header| header.queue == queue && header.file == file)
    })
}

fn is_whole(handle: &dyn StoreFile, header: &PageHeader, page: Page) -> io::Result<bool> {
    let octets = read_page_octets(handle, page)?;
    let mut count = 0;
    each_message(header, payload(&octets), |_, _| count += 1);
    Ok(count == header.messages)
}

pub(in crate::store) fn read_page_octets(
    handle: &dyn StoreFile,
    page: Page,
) -> io::Result<Vec<u8>> {
    let mut octets = vec![0; page.bytes as usize];
    let count = handle.read_at(&mut octets, page.offset)?;
    octets.truncate(count);
    Ok(octets)
}

pub(super) fn payload(page: &[u8]) -> &[u8] {
    page.get(PAGE_HEADER_BYTES..).unwrap_or_default()
}

pub(super) enum Walk {
    Io(io::Error),
    Newer(u16),
}

impl From<io::Error> for Walk {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
