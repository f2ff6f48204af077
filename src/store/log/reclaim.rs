//! Room on a full disk. Files of the log go as a whole, so a few messages that
//! stay in each of them would hold the room of all the others that went: then
//! what one file still needs is written again into room that is there already,
//! and its file is given back.
//!
//! [`super::carry`] empties the oldest file to keep the log short, and needs a
//! disk with room for that; this empties whichever file gives most.

use std::io;
use std::time::{Duration, Instant};

use crate::store::octets::ALIGNMENT;

use super::carry::{Carry, PlacesOf};
use super::record::{FLAG_CARRIED, RecordKind};
use super::spare::Urgency;
use super::writer::{LogWriter, record_bytes};

/// What a file still needs: payloads of records with their places.
type Needed = Vec<(Vec<u8>, Vec<PlacesOf>)>;

impl LogWriter {
    /// Empties one file, if there is one that mostly holds what is settled.
    pub(super) fn reclaim(&mut self) -> io::Result<()> {
        let now = Instant::now();
        if self.reclaim_at.is_some_and(|at| now < at) {
            return Ok(());
        }
        self.reclaim_at = Some(now + RECLAIM_EVERY);
        self.log.release_done(&self.ledger)?;
        for number in self.log.emptiest(&self.ledger, CANDIDATES) {
            let Some((needed, bytes)) = self.needed_of(number)? else {
                continue;
            };
            if !self.take_room(bytes)? {
                continue;
            }
            for (payload, places) in needed {
                if !self.write_record(RecordKind::Messages, FLAG_CARRIED, &payload)? {
                    // The file stays, and what was written is there twice.
                    debug_assert!(false, "there was room for all of it");
                    return Ok(());
                }
                for (queue, places) in places {
                    self.log.add_places(queue, places);
                }
            }
            self.names_moved(number);
            // As with every file that goes: what replaces it is durable.
            self.sync()?;
            self.log.release_number(number)?;
            self.reclaim_at = Some(now);
            tracing::debug!(number, bytes, "a file of the log was emptied");
            return Ok(());
        }
        Ok(())
    }

    /// What is still needed of a file and the octets that it takes as records;
    /// `None` if that is more than half of the file.
    fn needed_of(&self, number: u64) -> io::Result<Option<(Needed, u64)>> {
        let Some(file) = self.log.file(number) else {
            return Ok(None);
        };
        let mut carry = Carry::new(file);
        let (mut needed, mut bytes) = (Vec::new(), 0);
        while let Some((payload, places)) = carry.next_needed(&self.ledger)? {
            bytes += record_bytes(payload.len());
            if bytes > file.capacity / 2 {
                return Ok(None);
            }
            needed.push((payload, places));
        }
        if let Some(names) = self.names_of(number) {
            bytes += record_bytes(names.len());
            if bytes > file.capacity / 2 {
                return Ok(None);
            }
            needed.push((names, Vec::new()));
        }
        Ok(Some((needed, bytes)))
    }

    /// Sees to room for records of so many octets, beside what settlements may
    /// need; `false` if the files that are kept back are too few. The file that
    /// is emptied becomes the next one of them.
    fn take_room(&mut self, bytes: u64) -> io::Result<bool> {
        let fits = bytes + self.log.capacity() / 8 <= self.log.room();
        if fits && (self.log.has_messages() || self.spares.count() > 0) {
            return Ok(true);
        }
        if self.spares.count() < 2 {
            return Ok(false);
        }
        let bytes = bytes + ALIGNMENT as u64;
        self.make_room(bytes, Urgency::Settlements)
    }
}

/// How often it is looked for files worth emptying, while there are none.
const RECLAIM_EVERY: Duration = Duration::from_millis(250);
/// Files that are read for it at most.
const CANDIDATES: usize = 3;
