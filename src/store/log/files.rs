//! The log's files: the one that is written to, and older ones that are kept
//! for as long as something in them is needed.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use foldhash::HashMap;

use crate::model::{QueueId, SequenceRange};
use crate::store::files::{Files, StoreFile, never_full};
use crate::store::ledger::Ledger;
use crate::store::octets::ALIGNMENT;

use super::record::{FILE_HEADER_BYTES, file_header};
use super::spare::{SPARES_KEPT_BACK, Spare, SpareFiles, Urgency};

/// All files of the log.
#[derive(Debug)]
pub(super) struct LogFiles {
    files: Arc<dyn Files>,
    spares: Arc<SpareFiles>,
    current: Option<Current>,
    older: VecDeque<OldFile>,
    last_number: u64,
}

/// The file that is written to.
#[derive(Debug)]
pub(super) struct Current {
    file: OldFile,
    /// Whether something was written since it was last synced.
    dirty: bool,
}

/// A file with records.
#[derive(Debug)]
pub(in crate::store) struct OldFile {
    pub(in crate::store) number: u64,
    pub(in crate::store) handle: Arc<dyn StoreFile>,
    pub(in crate::store) capacity: u64,
    /// Octets of it that hold something.
    pub(in crate::store) used: u64,
    /// For each queue, from the first to the last place whose message is here.
    pub(in crate::store) places: HashMap<QueueId, SequenceRange>,
    /// Whether it has a whole checkpoint, and so all that older files say of
    /// settlements.
    pub(in crate::store) has_checkpoint: bool,
}

/// The name of a log file.
pub(in crate::store) fn log_name(number: u64) -> String {
    format!("log-{number:016x}.log")
}

/// The number of a log file of that name.
pub(in crate::store) fn log_number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("log-")?.strip_suffix(".log")?;
    u64::from_str_radix(digits, 16).ok()
}

impl OldFile {
    pub(in crate::store) fn add_places(&mut self, queue: QueueId, places: SequenceRange) {
        let known = self.places.entry(queue).or_insert(places);
        known.first = known.first.min(places.first);
        known.end = known.end.max(places.end);
    }

    /// Whether nothing in it is needed. Queues that need none are forgotten, so
    /// that asking again costs little.
    fn is_done(&mut self, ledger: &Ledger) -> bool {
        if ledger.names.count_in(self.number) > 0 {
            return false;
        }
        while let Some((queue, places)) = self.places.iter().next() {
            if ledger.needs_any(*queue, *places) {
                return false;
            }
            let queue = *queue;
            self.places.remove(&queue);
        }
        true
    }
}

impl LogFiles {
    pub(super) fn new(
        files: Arc<dyn Files>,
        spares: Arc<SpareFiles>,
        older: VecDeque<OldFile>,
        last_number: u64,
    ) -> Self {
        Self {
            files,
            spares,
            current: None,
            older,
            last_number,
        }
    }

    /// Octets that the current file can still take.
    pub(super) fn room(&self) -> u64 {
        self.current.as_ref().map_or(0, |current| {
            current
                .file
                .capacity
                .saturating_sub(current.file.used + ALIGNMENT as u64)
        })
    }

    /// Octets of the current file that messages do not get while the disk is
    /// full, so that queues can be drained.
    ///
    /// A file without messages is given back once its successor has begun. So
    /// two files, spare or without messages, are enough to write settlements
    /// and to start anew for ever, and messages leave them alone.
    pub(super) fn reserve(&self) -> u64 {
        let Some(current) = &self.current else {
            return 0;
        };
        let capacity = current.file.capacity;
        let kept_back = self.spares.count() < SPARES_KEPT_BACK;
        if !self.spares.is_full() {
            // Where there is no file kept back yet, the next may not come.
            return if kept_back { capacity / 8 } else { 0 };
        }
        match current.file.places.is_empty() {
            true if kept_back => capacity,
            false if self.spares.count() == 0 => capacity,
            _ => capacity / 8,
        }
    }

    /// Octets of the current file.
    pub(super) fn capacity(&self) -> u64 {
        self.current.as_ref().map_or(0, |one| one.file.capacity)
    }

    /// The youngest file, if it has no message that is needed: it is to go once
    /// its successor has begun, with its names or none.
    pub(super) fn without_messages(&self) -> Option<u64> {
        let current = self.current.as_ref().map(|current| &current.file);
        let youngest = current.or_else(|| self.older.back());
        let empty = youngest.filter(|file| file.places.is_empty());
        empty.map(|file| file.number)
    }

    /// Octets of older files' names that a new file may begin with.
    pub(super) fn names_share(&self) -> u64 {
        self.spares.file_bytes() / 4
    }

    /// Whether messages were written to the current file.
    pub(super) fn has_messages(&self) -> bool {
        let current = self.current.as_ref();
        current.is_some_and(|current| !current.file.places.is_empty())
    }

    /// The numbers of a few older files, from the one with the fewest messages
    /// that are needed.
    pub(super) fn emptiest(&self, ledger: &Ledger, count: usize) -> Vec<u64> {
        let needed = |file: &OldFile| -> u64 {
            let places = file.places.iter();
            let messages: u64 = places
                .map(|(queue, places)| ledger.needed(*queue, *places))
                .sum();
            messages + ledger.names.count_in(file.number)
        };
        let mut files: Vec<_> = self
            .older
            .iter()
            .map(|one| (needed(one), one.number))
            .collect();
        files.sort_unstable();
        files
            .into_iter()
            .take(count)
            .map(|(_, number)| number)
            .collect()
    }

    /// An older file.
    pub(super) fn file(&self, number: u64) -> Option<&OldFile> {
        self.older.iter().find(|file| file.number == number)
    }

    pub(super) fn has_current(&self) -> bool {
        self.current.is_some()
    }

    /// The number of the current file.
    pub(super) fn number(&self) -> u64 {
        self.current.as_ref().map_or(0, |one| one.file.number)
    }

    /// Goes on in a new file with room for `bytes`.
    ///
    /// # Errors
    /// If there is no room for one: nothing has changed then.
    pub(super) fn roll(&mut self, bytes: u64, urgency: Urgency) -> io::Result<()> {
        let wanted = bytes + (FILE_HEADER_BYTES + ALIGNMENT) as u64;
        let spare = match self.spares.take(wanted, urgency) {
            Some(spare) => spare,
            None => {
                let is_first = self.current.is_none();
                self.spares.create(&*self.files, wanted, is_first)?
            }
        };
        self.last_number += 1;
        let number = self.last_number;
        let name = log_name(number);
        if let Err(error) = self.files.rename(&spare.name, &name) {
            self.give_back(spare)?;
            return Err(error);
        }
        // Whatever its cause, a failed sync is not one to go on after.
        self.files.sync_names().map_err(never_full)?;
        let mut start = file_header(number).to_vec();
        start.extend_from_slice(&[0; ALIGNMENT]);
        if let Err(error) = spare.handle.write_at(&start, 0) {
            self.files.remove(&name)?;
            return Err(error);
        }
        let file = OldFile {
            number,
            handle: spare.handle,
            capacity: spare.capacity,
            used: FILE_HEADER_BYTES as u64,
            places: HashMap::default(),
            // The first thing that is written to it.
            has_checkpoint: true,
        };
        let current = Current { file, dirty: true };
        if let Some(before) = self.current.replace(current) {
            self.older.push_back(before.file);
        }
        Ok(())
    }

    /// Appends whole records to the current file. `octets` must end with the
    /// zeros that mark the end of the log, which the next records overwrite.
    pub(super) fn append(&mut self, octets: &[u8]) -> io::Result<()> {
        let missing = || io::Error::other("the log has no file");
        let current = self.current.as_mut().ok_or_else(missing)?;
        debug_assert!(octets.ends_with(&[0; ALIGNMENT]), "no end is marked");
        current.dirty = true;
        current.file.handle.write_at(octets, current.file.used)?;
        current.file.used += (octets.len() - ALIGNMENT) as u64;
        Ok(())
    }

    pub(super) fn add_places(&mut self, queue: QueueId, places: SequenceRange) {
        if let Some(current) = &mut self.current {
            current.file.add_places(queue, places);
        }
    }

    pub(super) fn sync(&mut self) -> io::Result<()> {
        match &mut self.current {
            Some(current) if current.dirty => {
                current.file.handle.sync()?;
                current.dirty = false;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Octets of all files.
    pub(super) fn total_bytes(&self) -> u64 {
        self.older.iter().map(|file| file.capacity).sum::<u64>() + self.capacity()
    }

    pub(super) fn oldest(&self) -> Option<&OldFile> {
        self.older.front()
    }

    /// Gives files back of which nothing is needed any more.
    pub(super) fn release_done(&mut self, ledger: &Ledger) -> io::Result<()> {
        let mut index = 0;
        while let Some(file) = self.older.get_mut(index) {
            if file.is_done(ledger) {
                if let Some(file) = self.older.remove(index) {
                    self.release(file)?;
                }
            } else {
                index += 1;
            }
        }
        Ok(())
    }

    /// Gives files back that were never begun. They go before older ones: with
    /// nothing before it, such a file looks as if it had lost what it held.
    pub(super) fn release_blank(&mut self) -> io::Result<()> {
        let is_blank = |file: &OldFile| file.used <= FILE_HEADER_BYTES as u64;
        let mut any = false;
        while let Some(index) = self.older.iter().position(is_blank) {
            if let Some(file) = self.older.remove(index) {
                self.release(file)?;
                any = true;
            }
        }
        match any {
            // A power cut must not leave this one's name and take older ones'.
            true => self.files.sync_names().map_err(never_full),
            false => Ok(()),
        }
    }

    /// Before there is a current file: gives back what is not needed beside the
    /// youngest file with a checkpoint.
    pub(super) fn release_superseded(&mut self, ledger: &Ledger) -> io::Result<()> {
        self.release_blank()?;
        let youngest = self.older.iter().rposition(|file| file.has_checkpoint);
        if let Some(file) = youngest.and_then(|youngest| self.older.get(youngest)) {
            // It may have been written by a process that was killed then.
            file.handle.sync().map_err(never_full)?;
        }
        for (index, mut file) in std::mem::take(&mut self.older).into_iter().enumerate() {
            let is_superseded = youngest.is_some_and(|youngest| index < youngest);
            if is_superseded && file.is_done(ledger) {
                self.release(file)?;
            } else {
                self.older.push_back(file);
            }
        }
        Ok(())
    }

    /// Gives the oldest file back, whose messages are elsewhere now.
    pub(super) fn release_oldest(&mut self) -> io::Result<()> {
        match self.older.pop_front() {
            Some(file) => self.release(file),
            None => Ok(()),
        }
    }

    /// Gives an older file back, whose messages are elsewhere now.
    pub(super) fn release_number(&mut self, number: u64) -> io::Result<()> {
        let index = self.older.iter().position(|file| file.number == number);
        match index.and_then(|index| self.older.remove(index)) {
            Some(file) => self.release(file),
            None => Ok(()),
        }
    }

    fn release(&mut self, file: OldFile) -> io::Result<()> {
        let old = log_name(file.number);
        let name = self.spares.name();
        self.files.rename(&old, &name)?;
        let spare = Spare {
            name,
            handle: file.handle,
            capacity: file.capacity,
        };
        self.give_back(spare)
    }

    fn give_back(&self, spare: Spare) -> io::Result<()> {
        match self.spares.keep(spare) {
            Some(spare) => self.files.remove(&spare.name),
            None => Ok(()),
        }
    }
}
