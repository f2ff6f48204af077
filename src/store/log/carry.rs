//! Emptying the oldest file: what is still needed of it is written again at the
//! end of the log, a little at a time, and then it goes. So the log, and the
//! time that recovery takes, stay within bounds, whatever single messages are
//! left for however long.

use std::io;
use std::sync::Arc;

use crate::model::{QueueId, Sequence, SequenceRange};
use crate::store::files::StoreFile;
use crate::store::ledger::Ledger;
use crate::store::octets;

use super::files::OldFile;
use super::payload::{Messages, Run, put_carried, read_messages};
use super::record::{FILE_HEADER_BYTES, FLAG_CARRIED, HEADER_BYTES, Header, RecordKind};
use super::writer::LogWriter;

/// A file that is being emptied: the oldest.
#[derive(Debug)]
pub(super) struct Carry {
    number: u64,
    handle: Arc<dyn StoreFile>,
    at: u64,
    used: u64,
    carried_bytes: u64,
}

impl LogWriter {
    /// Begins or goes on with emptying the oldest file, if there are too many.
    pub(super) fn carry_on(&mut self) -> io::Result<()> {
        let total_bytes = self.log.total_bytes();
        let is_within = self.carry.is_none() && total_bytes <= self.log_bytes_max;
        if self.is_full() || (is_within && self.is_overgrown(total_bytes)) {
            return self.reclaim();
        }
        self.reclaim_at = None;
        if self.carry.is_none() {
            if self.log.total_bytes() <= self.log_bytes_max {
                return Ok(());
            }
            self.log.release_done(&self.ledger)?;
            let Some(oldest) = self.log.oldest() else {
                return Ok(());
            };
            if self.log.total_bytes() <= self.log_bytes_max {
                return Ok(());
            }
            self.carry = Some(Carry::new(oldest));
        }
        let Some(mut carry) = self.carry.take() else {
            return Ok(());
        };
        if self.log.oldest().map(|file| file.number) != Some(carry.number) {
            // All in it was settled meanwhile.
            return Ok(());
        }
        let mut step = 0;
        while carry.at < carry.used && step < STEP_BYTES {
            let Some((header, payload)) = carry.next_record()? else {
                carry.at = carry.used;
                break;
            };
            let bytes = header.record_bytes() as u64;
            if let Some((payload, runs)) = needed_of_record(&header, &payload, &self.ledger) {
                let fits = self.has_room(payload.len()) || self.make_room_for(payload.len())?;
                if !fits || !self.write_record(RecordKind::Messages, FLAG_CARRIED, &payload)? {
                    // The disk is full: the file stays until there is room.
                    self.carry = Some(carry);
                    return Ok(());
                }
                carry.carried_bytes += payload.len() as u64;
                for (queue, places) in runs {
                    self.log.add_places(queue, places);
                }
            }
            carry.at += bytes;
            step += bytes;
        }
        if carry.at < carry.used {
            self.carry = Some(carry);
            return Ok(());
        }
        if !self.move_names(carry.number)? {
            self.carry = Some(carry);
            return Ok(());
        }
        self.finish_carry(&carry)
    }

    fn finish_carry(&mut self, carry: &Carry) -> io::Result<()> {
        // Even where confirms do not wait for the disk: until now these messages
        // were there twice.
        self.sync()?;
        self.log.release_oldest()?;
        // Where most of a file is still needed, going round faster would only
        // write the same again and again.
        if carry.carried_bytes > carry.used / 2 {
            self.log_bytes_max += self.log_bytes_max / 4;
            tracing::debug!(bytes = self.log_bytes_max, "the log is given more room");
        } else if carry.carried_bytes < carry.used / 8 {
            self.log_bytes_max = self.shrunk_limit();
        }
        Ok(())
    }
}

impl Carry {
    /// To go through a file from its start.
    pub(super) fn new(file: &OldFile) -> Self {
        Self {
            number: file.number,
            handle: Arc::clone(&file.handle),
            at: FILE_HEADER_BYTES as u64,
            used: file.used,
            carried_bytes: 0,
        }
    }

    /// What is left of the next record of which anything is.
    pub(super) fn next_needed(
        &mut self,
        ledger: &Ledger,
    ) -> io::Result<Option<(Vec<u8>, Vec<PlacesOf>)>> {
        while self.at < self.used {
            let Some((header, payload)) = self.next_record()? else {
                break;
            };
            self.at += header.record_bytes() as u64;
            let needed = needed_of_record(&header, &payload, ledger);
            if needed.is_some() {
                return Ok(needed);
            }
        }
        Ok(None)
    }

    /// The record at this place. Recovery has read this file, or this process
    /// wrote it, so all of them are whole unless the disk fails.
    fn next_record(&mut self) -> io::Result<Option<(Header, Vec<u8>)>> {
        loop {
            let mut header = [0; HEADER_BYTES];
            if self.handle.read_at(&mut header, self.at)? < HEADER_BYTES {
                return Ok(None);
            }
            let decoded = Header::decode(&header).filter(|header| header.file == self.number);
            let Some(header) = decoded else {
                // A damaged place that recovery has reported.
                self.at += octets::ALIGNMENT as u64;
                if self.at >= self.used {
                    return Ok(None);
                }
                continue;
            };
            let mut payload = vec![0; header.payload_bytes as usize];
            let read = self
                .handle
                .read_at(&mut payload, self.at + HEADER_BYTES as u64)?;
            payload.truncate(read);
            if crc32c::crc32c(&payload) != header.payload_crc {
                let (number, at) = (self.number, self.at);
                tracing::error!(number, at, "a record of the log has been damaged");
                self.at += octets::ALIGNMENT as u64;
                continue;
            }
            return Ok(Some((header, payload)));
        }
    }
}

fn needed_of_record(
    header: &Header,
    payload: &[u8],
    ledger: &Ledger,
) -> Option<(Vec<u8>, Vec<PlacesOf>)> {
    if header.kind != RecordKind::Messages {
        return None;
    }
    still_needed(&read_messages(header.layout, payload)?, ledger)
}

/// What is left of a record, as the payload of a new one with the places of
/// each of its queues; `None` if that is nothing.
fn still_needed(messages: &Messages<'_>, ledger: &Ledger) -> Option<(Vec<u8>, Vec<PlacesOf>)> {
    /// The number that a message has in the new record.
    const NOT_YET: u32 = u32::MAX;
    let mut numbers = vec![NOT_YET; messages.messages.len()];
    let mut kept = Vec::new();
    let mut runs: Vec<Run> = Vec::new();
    for run in &messages.runs {
        for index in 0..run.count {
            let place = Sequence(run.first.0 + u64::from(index));
            if !ledger.needs(run.queue, place) {
                continue;
            }
            let message = (run.message + index) as usize;
            let (Some(number), Some(stored)) =
                (numbers.get_mut(message), messages.messages.get(message))
            else {
                continue;
            };
            if *number == NOT_YET {
                *number = kept.len() as u32;
                kept.push(stored);
            }
            match runs.last_mut() {
                Some(last)
                    if last.queue == run.queue
                        && last.first.0 + u64::from(last.count) == place.0
                        && last.message + last.count == *number =>
                {
                    last.count += 1;
                }
                _ => runs.push(Run {
                    queue: run.queue,
                    first: place,
                    message: *number,
                    count: 1,
                }),
            }
        }
    }
    if runs.is_empty() {
        return None;
    }
    let mut payload = Vec::new();
    put_carried(&mut payload, &runs, &kept);
    let places = runs
        .iter()
        .map(|run| (run.queue, SequenceRange::new(run.first, run.count.into())))
        .collect();
    Some((payload, places))
}

/// Places of one queue.
pub(super) type PlacesOf = (QueueId, SequenceRange);

/// Octets of the oldest file that are looked at between two group commits.
const STEP_BYTES: u64 = 512 * 1024;
