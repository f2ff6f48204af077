//! What survives: the write-ahead log, segments, recovery, metadata.
//!
//! It knows queues by their [`QueueId`](crate::model::QueueId) and messages by
//! their [`Sequence`](crate::model::Sequence), and nothing of exchanges,
//! consumers or channels. `docs/storage.md` describes every octet on disk.

pub mod metadata;
