//! The write-ahead log: files of records, one after another, shared by all
//! queues. What is in it and nowhere else is never older than the log's limit
//! of size: what is still needed of the oldest file is carried to the newest.

mod carry;
mod files;
mod payload;
mod reclaim;
mod record;
mod room;
mod scan;
mod spare;
mod writer;

#[cfg(test)]
mod tests;

pub(super) use files::{OldFile, log_name, log_number};
#[cfg(test)]
pub(super) use payload::put_body;
pub(super) use payload::{
    CameBack, Checkpoint, Messages, NAME_BYTES, QueueState, Stored, read_checkpoint, read_messages,
    read_settlements, read_stored,
};
pub use payload::{Names, NewRecord, Returned, Run, Settled};
pub(super) use payload::{put_message, put_messages};
pub use record::RecordKind;
pub(super) use record::{
    FILE_HEADER_BYTES, FLAG_CLEAN, FORMAT_VERSION, FileHeader, HEADER_BYTES, Header, Layout,
    read_file_header,
};
pub(super) use scan::scan;
pub use scan::{Damage, DamageKind};
pub(super) use spare::{SpareFiles, is_spare, prepare_spares, remove_unfinished};
pub(super) use writer::{LogSettings, LogWriter};
