//! Writing what is left of a segment into another, so that its file can go. The
//! queue knows nothing of it: the registry says where a page is now.
//!
//! Nothing is ever missing on the way: the file goes once the new pages are
//! durable, and until then recovery takes each place once from either.

use std::io;

use crate::model::{Page, QueueId, Sequence, SequenceRange};
use crate::store::files;
use crate::store::ranges::RangeSet;
use crate::store::recovery::{page_at, read_page_octets};

use super::page::{MessageBuilder, PAGE_HEADER_BYTES, SEGMENT_HEADER_BYTES, each_message};
use super::pager::{Lane, Pager, SegmentEvent};

/// What came of it.
enum Moved {
    Whole,
    /// Something in it is damaged, and is left for whoever may want to read it.
    Damaged,
}

impl Pager {
    /// Writes the messages in these places elsewhere and removes the file.
    pub(super) fn move_segment(&mut self, queue: QueueId, file: u64, places: &[SequenceRange]) {
        let again = match self.move_pages(queue, file, places) {
            Ok(Moved::Whole) => {
                self.remove(queue, file);
                tracing::debug!(file, "what was left of a segment was written elsewhere");
                return;
            }
            Ok(Moved::Damaged) => {
                tracing::warn!(file, "a segment has damaged messages and stays");
                false
            }
            Err(error) => {
                tracing::warn!(file, %error, "a segment cannot be written elsewhere");
                files::is_full(&error)
            }
        };
        self.segment_event(SegmentEvent::NotMoved { queue, file, again });
    }

    fn move_pages(
        &mut self,
        queue: QueueId,
        file: u64,
        places: &[SequenceRange],
    ) -> io::Result<Moved> {
        // Nothing more is written to it, least of all what is taken out of it.
        self.begin_other_file(file);
        let mut moves = Vec::new();
        let moved = self.move_pages_to(queue, file, places, &mut moves);
        // Where it ended early, it goes on from there the next time.
        if !self.sync() {
            return Err(io::Error::other("it cannot be made durable"));
        }
        self.registry.redirect(&moves);
        moved
    }

    fn move_pages_to(
        &mut self,
        queue: QueueId,
        file: u64,
        places: &[SequenceRange],
        moves: &mut Vec<(Page, Page)>,
    ) -> io::Result<Moved> {
        let mut wanted = RangeSet::default();
        places.iter().for_each(|range| wanted.insert(*range));
        let handle = self.registry.open(file)?;
        let length = handle.len()?;
        let mut at = SEGMENT_HEADER_BYTES as u64;
        while at < length {
            let Some(header) = page_at(&*handle, at, length, (queue, file))? else {
                return Ok(Moved::Damaged);
            };
            let bytes = header.page_bytes() as u32;
            let page = Page {
                file,
                offset: at,
                bytes,
            };
            at += u64::from(bytes);
            if !wanted.contains_any(header.places()) || self.registry.is_moved(page) {
                continue;
            }
            let octets = read_page_octets(&*handle, page)?;
            let payload = octets.get(PAGE_HEADER_BYTES..).unwrap_or_default();
            let (mut kept, mut builder) = (Vec::new(), MessageBuilder::default());
            let mut whole = 0;
            each_message(&header, payload, |place, stored| {
                whole += 1;
                if wanted.contains(place) {
                    kept.push(place);
                    builder.push(&stored);
                }
            });
            if whole != header.messages {
                return Ok(Moved::Damaged);
            }
            let kept: Vec<(Sequence, _)> = kept.into_iter().zip(builder.finish()).collect();
            if let Some((first, _)) = kept.first() {
                let lane = Lane::Moved(queue);
                let moved = self.write_page(lane, *first, header.tag, &kept)?;
                moves.push((page, moved));
            }
        }
        Ok(Moved::Whole)
    }
}
