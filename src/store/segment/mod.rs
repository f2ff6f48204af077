//! Segments: files of one queue each, made of pages that hold messages out of
//! memory. Those of durable queues survive; scratch ones are for queues that
//! do not, and are gone at the next start.

mod moving;
mod page;
mod pager;
mod places;
mod registry;
mod syncing;

pub use page::PageContent;
#[cfg(test)]
pub(super) use page::encode_page;
pub(super) use page::{
    MessageBuilder, PAGE_HEADER_BYTES, PageHeader, SEGMENT_HEADER_BYTES, SEGMENT_VERSION,
    each_entry, each_message, read_segment_header,
};
pub(super) use pager::{Job, Pager, SegmentEvent};
pub use pager::{PageOutJob, PageSource};
pub(super) use places::read_ranges;
pub(super) use registry::{Registry, SegmentNumber, segment_number};
pub(super) use syncing::syncing;
