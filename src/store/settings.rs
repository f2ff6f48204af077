//! How the store is run.

use crate::model::Fsync;

/// The store's settings.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// When what was written is made durable.
    pub fsync: Fsync,
    /// Octets of the log above which its oldest file is emptied.
    pub log_bytes: u64,
    /// Octets after which a segment is closed and another begun.
    pub segment_bytes: u64,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            fsync: Fsync::Always,
            log_bytes: 256 * 1024 * 1024,
            segment_bytes: 16 * 1024 * 1024,
        }
    }
}

impl StoreSettings {
    /// Octets of a log file and of the log, on a file system of this size: a
    /// small one is not to be filled by files that are mostly empty.
    pub(super) fn log_sizes(&self, capacity_bytes: u64) -> (u64, u64) {
        let file = (self.log_bytes / 16)
            .min(capacity_bytes / 32)
            .clamp(LOG_FILE_BYTES_MIN, LOG_FILE_BYTES_MAX);
        let log = self.log_bytes.min(capacity_bytes / 4).max(file * 4);
        (file / 4_096 * 4_096, log)
    }
}

// Tests go through many files with few messages.
const LOG_FILE_BYTES_MIN: u64 = if cfg!(test) { 4 } else { 256 } * 1024;
const LOG_FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
