//! Room on a full disk. Files of the log go as a whole, so a few messages that
//! stay in each of them would hold the room of all the others that went: then
//! what one file still needs is written again into room that is there already,
//! and its file is given back.
//!
//! [`super::carry`] empties the oldest file to keep the log short, and needs a
//! disk with room for that; this empties whichever file gives most.

use std::io;
use std::time::{Duration, Instant};

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
            let Some(needed) = self.needed_of(number)? else {
                continue;
            };
            if !self.write_again(&needed)? {
                continue;
            }
            self.names_moved(number);
            // As with every file that goes: what replaces it is durable.
            self.sync()?;
            self.log.release_number(number)?;
            self.reclaim_at = Some(now);
            tracing::debug!(number, "a file of the log was emptied");
            return Ok(());
        }
        Ok(())
    }

    /// What is still needed of a file; `None` if that is so much that little would
    /// come of writing it again.
    fn needed_of(&self, number: u64) -> io::Result<Option<Needed>> {
        let Some(file) = self.log.file(number) else {
            return Ok(None);
        };
        let worth_it = file.capacity.min(self.spares.file_bytes()) / 3 * 2;
        let mut carry = Carry::new(file);
        let (mut needed, mut bytes) = (Vec::new(), 0);
        while let Some((payload, places)) = carry.next_needed(&self.ledger)? {
            bytes += record_bytes(payload.len());
            if bytes > worth_it {
                return Ok(None);
            }
            needed.push((payload, places));
        }
        if let Some(names) = self.names_of(number) {
            bytes += record_bytes(names.len());
            if bytes > worth_it {
                return Ok(None);
            }
            needed.push((names, Vec::new()));
        }
        Ok(Some(needed))
    }

    /// Writes records into what room the current file has and then into one of the
    /// files that are kept back: the file that is emptied becomes the next one of
    /// them. `false` if there is no room; then some may be there twice.
    ///
    /// The current file is filled first, or files would be exchanged for others
    /// that are no better filled, over and over.
    fn write_again(&mut self, needed: &Needed) -> io::Result<bool> {
        let bytes_of = |(payload, _): &(Vec<u8>, _)| record_bytes(payload.len());
        let mut left: u64 = needed.iter().map(bytes_of).sum();
        if !self.takes(left) && self.spares.count() < 2 {
            return Ok(false);
        }
        let mut rolled = false;
        for one @ (payload, places) in needed {
            let bytes = bytes_of(one);
            if !rolled && !self.takes(bytes) {
                // It has room for all that is left.
                rolled = self.make_room(left, Urgency::Settlements)?;
                if !rolled {
                    return Ok(false);
                }
            }
            self.put_record(RecordKind::Messages, FLAG_CARRIED, payload)?;
            for (queue, places) in places {
                self.log.add_places(*queue, *places);
            }
            left -= bytes;
        }
        Ok(true)
    }

    /// Whether the current file takes so many octets, beside what settlements may
    /// need.
    fn takes(&self, bytes: u64) -> bool {
        bytes + self.log.capacity() / 8 <= self.log.room()
            && (self.log.has_messages() || self.spares.count() > 0)
    }
}

/// How often it is looked for files worth emptying, while there are none.
const RECLAIM_EVERY: Duration = Duration::from_millis(250);
/// Files that are read for it at most.
const CANDIDATES: usize = 3;
