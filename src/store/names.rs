//! The names that queues remember, and in which file of the log each of them
//! stands. Kept by the log's thread alone, like the ledger that it is part of.
//!
//! A name is written down in the record of its message, and outlives it. A file
//! is needed for as long as it has names that are remembered and that no
//! younger file has, so names *move*: each new file begins with those of the
//! oldest files, as many as are worth the room, and the rest of a file that is
//! emptied is written again at the end of the log.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use foldhash::{HashMap, HashSet};

use crate::model::{NameHash, QueueId};

use super::log::{NAME_BYTES, Names};

/// The names of all queues.
#[derive(Debug, Default)]
pub(super) struct NameLedger {
    queues: HashMap<QueueId, Remembered>,
    /// How many names each file has.
    files: BTreeMap<u64, u64>,
}

/// The names of one queue.
#[derive(Debug, Default)]
struct Remembered {
    count_max: u64,
    time_max: u64,
    /// Oldest first.
    order: VecDeque<Place>,
    known: HashSet<NameHash>,
}

/// A name in the log.
#[derive(Clone, Copy, Debug)]
struct Place {
    time: u64,
    name: NameHash,
    file: u64,
}

/// What recovery found of one queue's names.
#[derive(Debug, Default)]
pub(super) struct FoundNames {
    count_max: u64,
    time_max: u64,
    /// When each was seen, and the youngest file that has it.
    names: HashMap<NameHash, (u64, u64)>,
}

impl NameLedger {
    /// Names were written to a file.
    pub(super) fn note(&mut self, names: &Names, file: u64) {
        let queue = self.queues.entry(names.queue).or_default();
        (queue.count_max, queue.time_max) = (names.count_max, names.time_max);
        for (time, name) in &names.seen {
            queue.take(*time, *name, file, &mut self.files);
        }
    }

    /// What recovery found of a queue's names; which of them are remembered,
    /// oldest first.
    pub(super) fn restore(&mut self, id: QueueId, found: FoundNames) -> Vec<(u64, NameHash)> {
        if found.names.is_empty() {
            return Vec::new();
        }
        let mut places: Vec<_> = found.names.into_iter().collect();
        places.sort_unstable_by_key(|(name, (time, _))| (*time, *name));
        let queue = self.queues.entry(id).or_default();
        (queue.count_max, queue.time_max) = (found.count_max, found.time_max);
        for (name, (time, file)) in places {
            queue.take(time, name, file, &mut self.files);
        }
        let order = queue.order.iter();
        order.map(|place| (place.time, place.name)).collect()
    }

    /// Whether a queue remembers a name that is in the log.
    pub(super) fn knows(&self, queue: QueueId, name: &NameHash) -> bool {
        self.queues
            .get(&queue)
            .is_some_and(|queue| queue.known.contains(name))
    }

    /// All names that a queue remembers.
    pub(super) fn of_queue(&self, queue: QueueId) -> Option<Names> {
        let remembered = self.queues.get(&queue)?;
        let order = remembered.order.iter();
        Some(Names {
            queue,
            count_max: remembered.count_max,
            time_max: remembered.time_max,
            seen: order.map(|place| (place.time, place.name)).collect(),
        })
    }

    /// A queue was deleted.
    pub(super) fn forget(&mut self, queue: QueueId) {
        let Some(queue) = self.queues.remove(&queue) else {
            return;
        };
        for place in &queue.order {
            leave(&mut self.files, place.file);
        }
    }

    /// How many names are in that file and in no younger one.
    pub(super) fn count_in(&self, file: u64) -> u64 {
        self.files.get(&file).copied().unwrap_or_default()
    }

    /// Files whose names together take no more than so many octets: one that is
    /// to be left by all means, then the oldest.
    pub(super) fn to_move(&self, first: Option<u64>, bytes: u64) -> BTreeSet<u64> {
        let bytes_of = |file| self.count_in(file) * NAME_BYTES as u64;
        let mut files: BTreeSet<u64> = first
            .filter(|file| bytes_of(*file) > 0)
            .into_iter()
            .collect();
        let mut total = first.map_or(0, bytes_of);
        for file in self.files.keys() {
            if Some(*file) != first {
                total += bytes_of(*file);
                if total > bytes {
                    break;
                }
                files.insert(*file);
            }
        }
        files
    }

    /// All names that are in these files.
    pub(super) fn of_files(&self, files: &BTreeSet<u64>) -> Vec<Names> {
        if files.is_empty() {
            return Vec::new();
        }
        let is_left = |file| files.contains(&file);
        let mut all: Vec<Names> = self
            .queues
            .iter()
            .map(|(id, queue)| Names {
                queue: *id,
                count_max: queue.count_max,
                time_max: queue.time_max,
                seen: queue
                    .order
                    .iter()
                    .filter(|place| is_left(place.file))
                    .map(|place| (place.time, place.name))
                    .collect(),
            })
            .filter(|names| !names.seen.is_empty())
            .collect();
        all.sort_unstable_by_key(|names| names.queue);
        all
    }

    /// The names of these files are in another one now.
    pub(super) fn moved(&mut self, files: &BTreeSet<u64>, to: u64) {
        let is_left = |file| files.contains(&file);
        let mut count = 0;
        self.files.retain(|file, names| {
            let left = is_left(*file);
            count += if left { *names } else { 0 };
            !left
        });
        if count == 0 {
            return;
        }
        *self.files.entry(to).or_default() += count;
        for queue in self.queues.values_mut() {
            for place in &mut queue.order {
                if is_left(place.file) {
                    place.file = to;
                }
            }
        }
    }
}

impl FoundNames {
    /// Names were found in a file, which is no older than those before.
    pub(super) fn add(&mut self, names: &Names, file: u64) {
        (self.count_max, self.time_max) = (names.count_max, names.time_max);
        for (time, name) in &names.seen {
            let known = self.names.entry(*name).or_default();
            *known = (known.0.max(*time), file);
        }
    }
}

impl Remembered {
    /// As the queue itself does it.
    fn take(&mut self, time: u64, name: NameHash, file: u64, files: &mut BTreeMap<u64, u64>) {
        self.forget_old(time, files);
        if !self.known.insert(name) {
            return;
        }
        while self.order.len() as u64 >= self.count_max.max(1) {
            self.forget_first(files);
        }
        self.order.push_back(Place { time, name, file });
        *files.entry(file).or_default() += 1;
    }

    fn forget_old(&mut self, now: u64, files: &mut BTreeMap<u64, u64>) {
        while self.time_max > 0
            && let Some(first) = self.order.front()
            && first.time.saturating_add(self.time_max) <= now
        {
            self.forget_first(files);
        }
    }

    fn forget_first(&mut self, files: &mut BTreeMap<u64, u64>) {
        if let Some(first) = self.order.pop_front() {
            self.known.remove(&first.name);
            leave(files, first.file);
        }
    }
}

fn leave(files: &mut BTreeMap<u64, u64>, file: u64) {
    if let Some(count) = files.get_mut(&file) {
        *count -= 1;
        if *count == 0 {
            files.remove(&file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUE: QueueId = QueueId(7);

    fn names(queue: QueueId, time: u64, numbers: std::ops::Range<u8>) -> Names {
        let seen = numbers.map(|number| (time, NameHash::of(&[number])));
        Names {
            queue,
            count_max: 5,
            time_max: 10,
            seen: seen.collect(),
        }
    }

    fn known(ledger: &NameLedger, queue: QueueId) -> Vec<u8> {
        let knows = |number: &u8| ledger.knows(queue, &NameHash::of(&[*number]));
        (0..20).filter(knows).collect()
    }

    #[test]
    fn it_keeps_what_the_rule_says_and_no_file_for_more() {
        let mut ledger = NameLedger::default();
        ledger.note(&names(QUEUE, 0, 0..4), 1);
        ledger.note(&names(QUEUE, 0, 3..7), 2);
        assert_eq!(known(&ledger, QUEUE), [2, 3, 4, 5, 6], "by count");
        assert_eq!((ledger.count_in(1), ledger.count_in(2)), (2, 3));
        ledger.note(&names(QUEUE, 10, 8..9), 3);
        assert_eq!(known(&ledger, QUEUE), [8], "by time");
        assert_eq!([1, 2, 3].map(|file| ledger.count_in(file)), [0, 0, 1]);
        ledger.forget(QUEUE);
        assert_eq!((known(&ledger, QUEUE), ledger.count_in(3)), (vec![], 0));
    }

    #[test]
    fn the_names_of_the_oldest_files_move() {
        let mut ledger = NameLedger::default();
        let other = QueueId(8);
        ledger.note(&names(QUEUE, 0, 0..2), 1);
        ledger.note(&names(other, 1, 2..3), 2);
        ledger.note(&names(QUEUE, 1, 3..4), 3);
        let bytes = |names| names * NAME_BYTES as u64;
        for (shows, first, room, expected) in [
            ("those of the oldest do not fit", None, 1, vec![]),
            ("two files fit", None, 3, vec![1, 2]),
            ("all fit", None, 4, vec![1, 2, 3]),
            ("one goes by all means", Some(1), 0, vec![1]),
            ("and the oldest if there is room", Some(3), 3, vec![1, 3]),
            ("it may have none", Some(9), 2, vec![1]),
        ] {
            let found = ledger.to_move(first, bytes(room));
            assert_eq!(found, BTreeSet::from_iter(expected), "{shows}");
        }
        let oldest = BTreeSet::from([1, 2]);
        let expected = [names(QUEUE, 0, 0..2), names(other, 1, 2..3)];
        assert_eq!(ledger.of_files(&oldest), expected);
        ledger.moved(&oldest, 4);
        let counts = [1, 2, 3, 4].map(|file| ledger.count_in(file));
        assert_eq!(counts, [0, 0, 1, 3]);
        assert_eq!(ledger.of_files(&oldest), []);
        assert_eq!(known(&ledger, QUEUE), [0, 1, 3]);
    }
}
