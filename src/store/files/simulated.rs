//! Files in memory that lose, fail and run out of room as real ones do.
//!
//! Each file has what a program sees of it, what is durable, and for every
//! sector written since it was last synced the versions that may be on the disk
//! by now. Names are durable only after [`Files::sync_names`]. Everything that
//! changes something is an operation and is counted; a [`Fault`] strikes at one
//! of them.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::{Files, StoreFile};

/// A disk. Clones are the same one; those who outlive it are handed over by
/// [`Simulated::after_kill`] and [`Simulated::after_power_cut`].
#[derive(Clone)]
pub(in crate::store) struct Simulated {
    state: Arc<Mutex<State>>,
}

/// What changes something.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(in crate::store) enum Operation {
    Write,
    Sync,
    SyncNames,
    Create,
    Rename,
    Remove,
    Allocate,
    SetLen,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) enum Fault {
    /// The process stops in the middle of operation `at`, counted from 1: all
    /// that comes later fails.
    Crash { at: u64 },
    /// The `nth` operation of a kind fails, all others work. A sync that fails
    /// drops what it should have made durable, as kernels do.
    Fail {
        operation: Operation,
        nth: u64,
        error: io::ErrorKind,
    },
}

/// Small numbers out of a seed, the same ones each time.
#[derive(Clone, Debug)]
pub(in crate::store) struct Dice(pub(in crate::store) u64);

#[derive(Clone)]
struct State {
    files: BTreeMap<u64, FileState>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    /// Since names were last made durable.
    changes: Vec<NameChange>,
    next_file: u64,
    operations: u64,
    counts: BTreeMap<Operation, u64>,
    fault: Option<Fault>,
    crashed: bool,
    /// A file whose octets cannot be read.
    unreadable: Option<String>,
    /// How long a sync takes.
    sync_takes: Duration,
    capacity_bytes: u64,
    dice: Dice,
}

#[derive(Clone, Default)]
struct FileState {
    /// As a program sees it.
    content: Vec<u8>,
    durable: Vec<u8>,
    /// What was written to each sector since the last sync.
    versions: BTreeMap<u64, Vec<Vec<u8>>>,
    /// Octets that it takes on the disk.
    taken_bytes: u64,
}

#[derive(Clone)]
enum NameChange {
    Create(String, u64),
    Rename(String, String),
    Remove(String),
}

/// How an operation goes.
enum Outcome {
    Works,
    /// The process ends in it, so it may be done in part.
    Torn,
}

struct SimulatedFile {
    state: Arc<Mutex<State>>,
    file: u64,
}

impl Dice {
    /// Below `sides`, which is not 0.
    pub(in crate::store) fn roll(&mut self, sides: u64) -> u64 {
        // splitmix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }

    pub(in crate::store) fn coin(&mut self) -> bool {
        self.roll(2) == 0
    }
}

impl Simulated {
    /// An empty disk.
    pub(in crate::store) fn new(seed: u64) -> Self {
        Self::of(State {
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            changes: Vec::new(),
            next_file: 0,
            operations: 0,
            counts: BTreeMap::new(),
            fault: None,
            crashed: false,
            unreadable: None,
            sync_takes: Duration::ZERO,
            capacity_bytes: CAPACITY_BYTES,
            dice: Dice(seed),
        })
    }

    fn of(state: State) -> Self {
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Plans a fault; operations count from here.
    pub(in crate::store) fn plan(&self, fault: Option<Fault>) {
        let mut state = self.state.lock();
        state.fault = fault;
        state.operations = 0;
        state.counts.clear();
    }

    /// Gives the disk another size; what is on it stays.
    pub(in crate::store) fn resize(&self, capacity_bytes: u64) {
        self.state.lock().capacity_bytes = capacity_bytes;
    }

    /// Makes one file's octets unreadable.
    pub(in crate::store) fn make_unreadable(&self, name: &str) {
        self.state.lock().unreadable = Some(name.to_owned());
    }

    /// Makes syncs slow.
    pub(in crate::store) fn slow_down(&self, sync_takes: Duration) {
        self.state.lock().sync_takes = sync_takes;
    }

    pub(in crate::store) fn crashed(&self) -> bool {
        self.state.lock().crashed
    }

    /// Operations since the plan.
    pub(in crate::store) fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// Operations of a kind since the plan.
    pub(in crate::store) fn count(&self, operation: Operation) -> u64 {
        let state = self.state.lock();
        state.counts.get(&operation).copied().unwrap_or(0)
    }

    /// Octets that files take.
    pub(in crate::store) fn taken_bytes(&self) -> u64 {
        self.state.lock().taken_bytes()
    }

    /// A file's octets.
    pub(in crate::store) fn content(&self, name: &str) -> Vec<u8> {
        let state = self.state.lock();
        let file = state.names.get(name).and_then(|id| state.files.get(id));
        file.map(|file| file.content.clone()).unwrap_or_default()
    }

    /// Puts other octets into a file, durably.
    pub(in crate::store) fn overwrite(&self, name: &str, content: Vec<u8>) {
        let mut state = self.state.lock();
        let id = state.names.get(name).copied().expect("the file is there");
        let file = state.files.get_mut(&id).expect("a name has a file");
        file.durable.clone_from(&content);
        file.versions.clear();
        file.content = content;
    }

    /// The disk as the next process finds it, all that was written included,
    /// durable or not.
    pub(in crate::store) fn after_kill(&self) -> Self {
        let mut state = self.state.lock().clone();
        state.fault = None;
        state.crashed = false;
        state.operations = 0;
        state.counts.clear();
        Self::of(state)
    }

    /// The disk after a power cut: what is durable, and of the rest whatever
    /// had reached it.
    pub(in crate::store) fn after_power_cut(&self, seed: u64) -> Self {
        let mut dice = Dice(seed);
        let mut state = self.state.lock().clone();
        let names = surviving_names(&state, &mut dice);
        let mut files = BTreeMap::new();
        for id in names.values() {
            let file = state.files.get(id).expect("a name has a file");
            let content = file.survivors(&mut dice);
            let survivor = FileState {
                taken_bytes: file.taken_bytes.max(content.len() as u64),
                durable: content.clone(),
                content,
                versions: BTreeMap::new(),
            };
            files.insert(*id, survivor);
        }
        state.files = files;
        state.durable_names.clone_from(&names);
        state.names = names;
        state.changes.clear();
        state.fault = None;
        state.crashed = false;
        state.operations = 0;
        state.counts.clear();
        state.dice = dice;
        Self::of(state)
    }
}

fn surviving_names(state: &State, dice: &mut Dice) -> BTreeMap<String, u64> {
    let mut names = state.durable_names.clone();
    let all = state.changes.len();
    let until = match dice.roll(4) {
        0 => 0,
        1 => all,
        _ => dice.roll(all as u64 + 1) as usize,
    };
    let any = dice.coin();
    for change in &state.changes[..until] {
        if any && dice.roll(4) == 0 {
            continue;
        }
        match change {
            NameChange::Create(name, id) => {
                names.insert(name.clone(), *id);
            }
            NameChange::Rename(from, to) => {
                if let Some(id) = names.remove(from) {
                    names.insert(to.clone(), id);
                }
            }
            NameChange::Remove(name) => {
                names.remove(name);
            }
        }
    }
    names
}

impl State {
    fn taken_bytes(&self) -> u64 {
        let of = |id| self.files.get(id).map_or(0, |file| file.taken_bytes);
        self.names.values().map(of).sum()
    }

    fn begin(&mut self, operation: Operation) -> io::Result<Outcome> {
        if self.crashed {
            return Err(io::Error::other("the process is dead"));
        }
        self.operations += 1;
        let count = self.counts.entry(operation).or_default();
        *count += 1;
        match self.fault {
            Some(Fault::Crash { at }) if at == self.operations => {
                self.crashed = true;
                Ok(Outcome::Torn)
            }
            Some(Fault::Fail {
                operation: failing,
                nth,
                error,
            }) if failing == operation && nth == *count => Err(error.into()),
            _ => Ok(Outcome::Works),
        }
    }

    /// Begins something that is done as a whole or not at all; whether it is.
    fn begin_whole(&mut self, operation: Operation) -> io::Result<bool> {
        match self.begin(operation)? {
            Outcome::Works => Ok(true),
            Outcome::Torn => Ok(self.dice.coin()),
        }
    }

    /// Ends an operation: nobody hears of one that the process ended in.
    fn end(&self) -> io::Result<()> {
        if self.crashed {
            return Err(io::Error::other("the process is dead"));
        }
        Ok(())
    }

    fn file(&mut self, id: u64) -> io::Result<&mut FileState> {
        self.files
            .get_mut(&id)
            .ok_or_else(|| io::Error::other("a file that never was"))
    }

    /// Lets a file take more of the disk.
    fn take(&mut self, id: u64, bytes: u64) -> io::Result<()> {
        let (taken, capacity) = (self.taken_bytes(), self.capacity_bytes);
        let file = self.file(id)?;
        let more = bytes.saturating_sub(file.taken_bytes);
        if more > 0 && taken + more > capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.taken_bytes += more;
        Ok(())
    }
}

impl FileState {
    fn write(&mut self, octets: &[u8], offset: usize) {
        let end = offset + octets.len();
        if self.content.len() < end {
            self.content.resize(end, 0);
        }
        self.content[offset..end].copy_from_slice(octets);
        for sector in offset / SECTOR..end.div_ceil(SECTOR) {
            let until = ((sector + 1) * SECTOR).min(self.content.len());
            let version = self.content[sector * SECTOR..until].to_vec();
            self.versions
                .entry(sector as u64)
                .or_default()
                .push(version);
        }
    }

    /// What is on the disk after a power cut.
    fn survivors(&self, dice: &mut Dice) -> Vec<u8> {
        let mut content = self.durable.clone();
        let mode = dice.roll(4);
        for (sector, versions) in &self.versions {
            let chosen = match mode {
                0 => 0,
                1 => versions.len(),
                _ => dice.roll(versions.len() as u64 + 1) as usize,
            };
            let Some(version) = chosen.checked_sub(1).and_then(|at| versions.get(at)) else {
                continue;
            };
            let start = *sector as usize * SECTOR;
            if content.len() < start + version.len() {
                content.resize(start + version.len(), 0);
            }
            content[start..start + version.len()].copy_from_slice(version);
        }
        if dice.coin() {
            content.resize(self.content.len(), 0);
        }
        content
    }
}

impl Files for Simulated {
    fn open(&self, name: &str) -> io::Result<Arc<dyn StoreFile>> {
        let state = self.state.lock();
        state.end()?;
        let id = state.names.get(name).copied();
        let file = id.ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(SimulatedFile {
            state: Arc::clone(&self.state),
            file,
        }))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn StoreFile>> {
        let mut state = self.state.lock();
        let file = state.next_file;
        if state.begin_whole(Operation::Create)? {
            state.next_file += 1;
            state.files.insert(file, FileState::default());
            state.names.insert(name.to_owned(), file);
            state
                .changes
                .push(NameChange::Create(name.to_owned(), file));
        }
        state.end()?;
        Ok(Arc::new(SimulatedFile {
            state: Arc::clone(&self.state),
            file,
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.begin_whole(Operation::Rename)? {
            let file = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
            state.names.insert(to.to_owned(), file);
            let change = NameChange::Rename(from.to_owned(), to.to_owned());
            state.changes.push(change);
        }
        state.end()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.begin_whole(Operation::Remove)? {
            state.names.remove(name);
            state.changes.push(NameChange::Remove(name.to_owned()));
        }
        state.end()
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let state = self.state.lock();
        state.end()?;
        Ok(state.names.keys().cloned().collect())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.begin_whole(Operation::SyncNames)? {
            state.durable_names = state.names.clone();
            state.changes.clear();
        }
        state.end()
    }

    fn capacity_bytes(&self) -> io::Result<u64> {
        Ok(self.state.lock().capacity_bytes)
    }
}

impl StoreFile for SimulatedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.state.lock();
        state.end()?;
        if let Some(name) = &state.unreadable
            && state.names.get(name) == Some(&self.file)
        {
            return Err(io::Error::other("input/output error"));
        }
        let file = state.file(self.file)?;
        let rest = file.content.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&self, octets: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        let written = match state.begin(Operation::Write)? {
            Outcome::Works => octets.len(),
            Outcome::Torn => state.dice.roll(octets.len() as u64 + 1) as usize,
        };
        state.take(self.file, offset + octets.len() as u64)?;
        let file = state.file(self.file)?;
        file.write(&octets[..written], offset as usize);
        state.end()
    }

    fn sync(&self) -> io::Result<()> {
        let takes = self.state.lock().sync_takes;
        if !takes.is_zero() {
            std::thread::sleep(takes);
        }
        let mut state = self.state.lock();
        let works = state.begin_whole(Operation::Sync);
        let file = state.file(self.file)?;
        match works {
            Ok(true) => {
                file.durable = file.content.clone();
                file.versions.clear();
            }
            Ok(false) => {}
            Err(error) => {
                if !state.crashed {
                    let file = state.file(self.file)?;
                    file.content = file.durable.clone();
                    file.versions.clear();
                }
                return Err(error);
            }
        }
        state.end()
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.begin_whole(Operation::Allocate)? {
            state.take(self.file, bytes)?;
            let file = state.file(self.file)?;
            let length = file.content.len().max(bytes as usize);
            file.content.resize(length, 0);
        }
        state.end()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.begin_whole(Operation::SetLen)? {
            let file = state.file(self.file)?;
            file.content.resize(bytes as usize, 0);
            file.taken_bytes = file.taken_bytes.min(bytes);
        }
        state.end()
    }

    fn len(&self) -> io::Result<u64> {
        let mut state = self.state.lock();
        state.end()?;
        Ok(state.file(self.file)?.content.len() as u64)
    }
}

impl fmt::Debug for Simulated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("Simulated")
            .field("names", &state.names)
            .field("operations", &state.operations)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SimulatedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedFile")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

/// What a disk writes as a whole or not at all.
const SECTOR: usize = 512;
const CAPACITY_BYTES: u64 = 1 << 30;
