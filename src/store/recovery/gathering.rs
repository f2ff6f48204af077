//! One queue while recovery puts it together.

use std::collections::BTreeMap;

use foldhash::HashSet;

use crate::model::{Message, PageTag, QueueId, Sequence, SequenceRange};
use crate::store::error::StoreError;
use crate::store::ledger::Ledger;
use crate::store::log::{CameBack, QueueState};
use crate::store::names::FoundNames;
use crate::store::ranges::RangeSet;
use crate::store::segment::{MessageBuilder, Registry, each_message};

use super::segments::{FoundPage, PageState, payload, read_page_octets};
use super::{RecoveredContent, RecoveredQueue, RecoveredRun};

/// One queue while it is put together.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    pub(super) next: Sequence,
    pub(super) redelivered_below: Sequence,
    pub(super) settled: RangeSet,
    pub(super) returned: BTreeMap<Sequence, CameBack>,
    pub(super) pages: Vec<FoundPage>,
    pub(super) paged: RangeSet,
    pub(super) resident: Vec<(Sequence, Message)>,
    pub(super) names: FoundNames,
}

impl Gathering {
    pub(super) fn needs(&self, place: Sequence) -> bool {
        !self.settled.contains(place) && !self.paged.contains(place)
    }

    pub(super) fn needs_any(&self, places: SequenceRange) -> bool {
        self.settled
            .gaps(places)
            .any(|gap| !self.paged.contains_all(gap))
    }

    pub(super) fn finish(
        mut self,
        id: QueueId,
        clean: bool,
        registry: &Registry,
        ledger: &mut Ledger,
    ) -> Result<RecoveredQueue, StoreError> {
        let mut live = RangeSet::default();
        let mut paged = Vec::new();
        let mut leftovers = Vec::new();
        for found in std::mem::take(&mut self.pages) {
            if found.state == PageState::Torn {
                if !self.settled.contains_all(found.header.places()) {
                    leftovers.push(found);
                }
                continue;
            }
            let unsettled: Vec<SequenceRange> = found
                .ranges
                .iter()
                .flat_map(|range| self.settled.gaps(*range))
                .collect();
            if unsettled.is_empty() {
                continue;
            }
            if unsettled.iter().any(|range| live.contains_any(*range)) {
                leftovers.push(found);
                continue;
            }
            unsettled.iter().for_each(|range| live.insert(*range));
            let count = unsettled.iter().map(|range| range.count()).sum();
            paged.push((found, count, unsettled));
        }
        for (place, _) in &self.resident {
            live.insert(SequenceRange::new(*place, 1));
        }
        // Pages of the same places as others have, and torn ones: what is
        // nowhere else is taken from them, and then they are needed as others.
        let mut others = Vec::new();
        for mut found in leftovers {
            found.ranges = self.take_page(&found, registry, &mut live)?;
            if !found.ranges.is_empty() {
                others.push(found);
            }
        }
        // A message that was carried may be there twice.
        self.resident.sort_by_key(|(place, _)| *place);
        self.resident.dedup_by_key(|(place, _)| *place);
        // What is neither here nor there is settled, or never came to be.
        let mut settled = RangeSet::default();
        for gap in live.gaps(SequenceRange {
            first: Sequence(0),
            end: self.next,
        }) {
            settled.insert(gap);
        }
        let redelivered_below = if clean {
            self.redelivered_below
        } else {
            self.next
        };
        self.returned.retain(|place, _| live.contains(*place));
        ledger.restore(&QueueState {
            queue: id,
            next: self.next,
            redelivered_below,
            settled: settled.iter().collect(),
            returned: self
                .returned
                .iter()
                .map(|(place, came_back)| (*place, *came_back))
                .collect(),
            segments: Vec::new(),
        });
        let names = ledger.names.restore(id, self.names);
        let needed = || paged.iter().map(|(found, ..)| found).chain(&others);
        for found in needed() {
            let file = found.page.file;
            ledger.page_written(id, file, &found.ranges, found.page.bytes.into());
            if found.state == PageState::Durable {
                let durable = found.page.offset + u64::from(found.page.bytes);
                ledger.pages_synced(id, file, durable, &found.ranges);
            }
        }
        let files: HashSet<u64> = needed().map(|found| found.page.file).collect();
        for file in registry.of_queue(id) {
            if !files.contains(&file) {
                registry.remove(file).map_err(StoreError::io("a segment"))?;
            }
        }
        // Also for pages that are written later: a run out of a restored queue
        // has the same gaps.
        registry.set_gone(id, settled);
        Ok(RecoveredQueue {
            queue: id,
            next: self.next,
            redelivered_below,
            deliveries: self.returned,
            runs: runs(paged, self.resident),
            names,
        })
    }

    /// Takes the messages of a page that are nowhere else; their places.
    fn take_page(
        &mut self,
        found: &FoundPage,
        registry: &Registry,
        live: &mut RangeSet,
    ) -> Result<Vec<SequenceRange>, StoreError> {
        let octets = registry
            .open(found.page.file)
            .and_then(|handle| read_page_octets(&*handle, found.page))
            .map_err(StoreError::io("a segment"))?;
        let mut places = Vec::new();
        let mut builder = MessageBuilder::default();
        each_message(&found.header, payload(&octets), |place, stored| {
            if stored.traits.persistent() && !self.settled.contains(place) && !live.contains(place)
            {
                places.push(place);
                builder.push(&stored);
            }
        });
        let mut taken = RangeSet::default();
        for place in &places {
            live.insert(SequenceRange::new(*place, 1));
            taken.insert(SequenceRange::new(*place, 1));
        }
        self.resident
            .extend(places.into_iter().zip(builder.finish()));
        Ok(taken.iter().collect())
    }
}

/// Pages and single messages, by the first place of each run.
fn runs(
    paged: Vec<(FoundPage, u64, Vec<SequenceRange>)>,
    resident: Vec<(Sequence, Message)>,
) -> Vec<RecoveredRun> {
    let mut runs = Vec::new();
    let mut resident = resident.into_iter().peekable();
    let mut take_until = |end: Option<Sequence>, runs: &mut Vec<RecoveredRun>| {
        let mut messages = Vec::new();
        while let Some((place, _)) = resident.peek()
            && end.is_none_or(|end| *place < end)
        {
            messages.extend(resident.next());
        }
        if let Some((first, _)) = messages.first() {
            runs.push(RecoveredRun {
                first: *first,
                count: messages.len() as u64,
                stored_bytes: messages
                    .iter()
                    .map(|(_, message)| message.stored_bytes() as u64)
                    .sum(),
                tag: PageTag::default(),
                places: None,
                content: RecoveredContent::Resident(messages),
            });
        }
    };
    for (found, count, unsettled) in paged {
        take_until(Some(found.header.first), &mut runs);
        let share = found.header.stored_bytes / u64::from(found.header.messages.max(1));
        runs.push(RecoveredRun {
            first: found.header.first,
            count,
            stored_bytes: share * count,
            tag: found.header.tag,
            places: Some(unsettled),
            content: RecoveredContent::Paged(found.page),
        });
    }
    take_until(None, &mut runs);
    runs
}
