//! Room for the next record: in the file that is written to, or in another one.

use std::io;
use std::time::{Duration, Instant};

use crate::store::files;
use crate::store::segment::Job;

use super::payload::put_checkpoint;
use super::record::RecordKind;
use super::spare::Urgency;
use super::writer::{LogWriter, record_bytes};

impl LogWriter {
    /// Whether the current file takes a record with such a payload, without
    /// what is kept back.
    pub(super) fn has_room(&self, payload_bytes: usize) -> bool {
        let room = self.log.room().saturating_sub(self.log.reserve());
        record_bytes(payload_bytes) <= room
    }

    pub(super) fn make_room_for(&mut self, payload_bytes: usize) -> io::Result<bool> {
        self.make_room(record_bytes(payload_bytes), Urgency::Messages)
    }

    /// Whether room was missing when it was last looked for, and none is in
    /// sight.
    pub(super) fn is_full(&self) -> bool {
        self.full_since.is_some() && self.spares.is_empty(Urgency::Messages)
    }

    /// Goes on in another file that takes `bytes`; `false` if the disk is full.
    pub(super) fn make_room(&mut self, bytes: u64, urgency: Urgency) -> io::Result<bool> {
        let pause = |since: Instant| since.elapsed() < FULL_PAUSE && self.spares.is_empty(urgency);
        if self.full_since.is_some_and(pause) {
            return Ok(false);
        }
        // What was written so far counts as settled in the new file's
        // checkpoint, so it must not be less durable than that.
        self.sync()?;
        match self.roll(bytes, urgency) {
            Ok(()) => {
                if urgency == Urgency::Messages && self.full_since.take().is_some() {
                    tracing::info!("there is room for the log again");
                }
                Ok(true)
            }
            Err(error) if files::is_full(&error) => {
                if self.full_since.is_none() {
                    tracing::error!(%error, "no room for the log: messages are refused");
                }
                self.full_since = Some(Instant::now());
                self.log.release_done(&self.ledger)?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// A new file, which begins with a checkpoint: what older ones say of
    /// settlements is not needed any more.
    pub(super) fn roll(&mut self, bytes: u64, urgency: Urgency) -> io::Result<()> {
        let (first, share) = (self.log.without_messages(), self.log.names_share());
        let moving = self.ledger.names.to_move(first, share);
        let mut checkpoint = Vec::new();
        put_checkpoint(&mut checkpoint, &self.ledger.checkpoint(&moving));
        let own = record_bytes(checkpoint.len());
        // At the start the older files alone know what is settled, until the
        // checkpoint is durable.
        if self.log.has_current() {
            self.log.release_done(&self.ledger)?;
        }
        self.log.roll(bytes + own, urgency)?;
        // There is no way back to the older file, even if all that is missing
        // is room.
        self.put_record(RecordKind::Checkpoint, 0, &checkpoint)
            .map_err(files::never_full)?;
        if !moving.is_empty() {
            // Files go that had them, however seldom else anything is synced.
            self.sync().map_err(files::never_full)?;
            self.ledger.names.moved(&moving, self.log.number());
        }
        if self.spares.is_empty(Urgency::Messages) {
            let _ = self.pager.send(Job::Prepare);
        }
        Ok(())
    }

    /// Whether the log is longer than it is set to be, for want of a better
    /// place for what it holds.
    pub(super) fn is_overgrown(&self, total_bytes: u64) -> bool {
        total_bytes > self.settings.log_bytes
    }

    /// The log's limit, less what it was given beyond its setting.
    pub(super) fn shrunk_limit(&self) -> u64 {
        (self.log_bytes_max - self.log_bytes_max / 8).max(self.settings.log_bytes)
    }
}

/// How long no other file is tried after the disk was found full.
const FULL_PAUSE: Duration = Duration::from_millis(100);
