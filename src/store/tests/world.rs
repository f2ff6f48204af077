//! A store with a model of what it owes beside it.
//!
//! A [`World`] plays the part of the queues: it appends, settles, pages out,
//! all by dice. After the store's end, whatever that was, [`World::check`]
//! holds a reopened one to it:
//!
//! - what was reported durable and never settled is there, once, in order;
//! - what was settled before a later append was reported durable stays away;
//! - a record counts as a whole or not at all, with the names of its messages;
//! - a copy that was reported durable has a name that is there;
//! - what was found, or missing, after a start stays so.
//!
//! Every other queue is one list in the order of arrival. The others keep three,
//! as a queue with priorities does: their pages have gaps in which live messages
//! of other lists lie, in the log or in other pages.

mod check;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use self::check::messages_of;
use crate::model::{
    BlockBuilder, Body, Message, NameHash, Page, PageTag, Progress, QueueId, Sequence,
    SequenceRange, Ticket, Traits, Verdict,
};
use crate::store::files::Files;
use crate::store::files::simulated::{Dice, Simulated};
use crate::store::{
    Names, NewRecord, Opened, PageOutJob, Returned, Run, Settled, Store, StoreError, StoreSettings,
};

pub(super) struct World {
    pub(super) dice: Dice,
    queues: BTreeMap<QueueId, Queue>,
    /// Of this life.
    records: Vec<Record>,
    last_ticket: Ticket,
    next_queue: u64,
    next_body: u64,
    end: End,
    /// Settlements may be held back for want of room.
    pub(super) was_full: bool,
}

/// How a life ended.
enum End {
    /// Not yet, or with so much decided.
    Abrupt(Option<Progress>),
    Clean,
}

#[derive(Default)]
struct Queue {
    next: u64,
    /// It was this far, durably, when the store was opened.
    opened_next: u64,
    held: BTreeMap<u64, Held>,
    pages: Vec<(Page, Vec<u64>)>,
    /// By the times at which they were seen, which are all different.
    names: BTreeMap<u64, Named>,
}

/// A name that a queue was told.
struct Named {
    name: NameHash,
    came: Came,
    /// Records of copies that it was needed for.
    repeated: Vec<usize>,
}

/// A message at its place.
struct Held {
    message: Message,
    body: String,
    came: Came,
    settled: Vec<Settlement>,
    /// Deliveries and the time that are durable, and each that was told since.
    came_back: (u32, u64),
    returned: Vec<((u32, u64), Ticket)>,
    paged: bool,
    /// Which of its queue's lists it is in.
    class: u8,
}

#[derive(Clone, Copy, PartialEq)]
enum Came {
    /// Found at the start, so it is durable.
    Before,
    With(usize),
    /// Not persistent: never appended.
    Transient,
}

enum Settlement {
    /// On its own, after this ticket was given out.
    After(Ticket),
    With(usize),
}

struct Record {
    ticket: Ticket,
    places: Vec<(QueueId, u64)>,
    settles: Vec<(QueueId, u64)>,
}

pub(super) fn settings() -> StoreSettings {
    StoreSettings {
        log_bytes: 32 * 1024,
        segment_bytes: 2 * 1024,
        ..StoreSettings::default()
    }
}

pub(super) fn message(body: &str, persistent: bool) -> Message {
    let mut builder = BlockBuilder::default();
    builder.arrived(arrival(body));
    let body = Body::Slice(body.as_bytes());
    builder.push(b"\0\x05queue", b"header", body, Traits::new(persistent));
    Message::new(Arc::new(builder.finish()), 0)
}

/// When a message with that body arrived.
pub(super) fn arrival(body: &str) -> u64 {
    1_700_000_000_000 + number(body)
}

/// The number that bodies begin with.
fn number(body: &str) -> u64 {
    let digits = body.split(' ').next().unwrap_or_default();
    digits.parse().expect("bodies begin with a number")
}

fn has_lists(queue: QueueId) -> bool {
    queue.0.is_multiple_of(2)
}

/// Which list a message is in.
fn class(queue: QueueId, body: &str) -> u8 {
    if has_lists(queue) {
        (number(body) % 3) as u8
    } else {
        0
    }
}

/// What a page is tagged with.
fn tag(class: u8, first: u64) -> PageTag {
    PageTag {
        class,
        due: 1_800_000_000_000 + first,
    }
}

pub(super) fn body(message: &Message) -> String {
    let octets = match message.body() {
        Body::Slice(octets) => octets.to_vec(),
        Body::Chunks(chunks) => chunks.concat(),
    };
    String::from_utf8(octets).expect("bodies are text")
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self::with_queues_from(seed, 1)
    }

    /// A world that shares its store with others, whose queues have other
    /// numbers.
    pub(super) fn with_queues_from(seed: u64, first_queue: u64) -> Self {
        Self {
            dice: Dice(seed),
            queues: BTreeMap::new(),
            records: Vec::new(),
            last_ticket: Ticket(0),
            next_queue: first_queue,
            next_body: 0,
            end: End::Abrupt(None),
            was_full: false,
        }
    }

    pub(super) fn open(&self, disk: &Simulated) -> Result<Opened, StoreError> {
        self.open_files(Arc::new(disk.clone()))
    }

    pub(super) fn open_files(&self, files: Arc<dyn Files>) -> Result<Opened, StoreError> {
        let queues: Vec<QueueId> = self.queues().collect();
        Store::open(files, &settings(), &queues, Box::new(|| {}))
    }

    pub(super) fn queues(&self) -> impl Iterator<Item = QueueId> {
        self.queues.keys().copied()
    }

    /// Lives for so many steps, or until the store or the disk is dead.
    pub(super) fn live(&mut self, store: &Store, disk: &Simulated, steps: u32) {
        for _ in 0..steps {
            if disk.crashed() || store.failure().is_some() {
                return;
            }
            self.step(store);
        }
    }

    /// Does something.
    pub(super) fn step(&mut self, store: &Store) {
        self.register_some(store);
        match self.dice.roll(100) {
            0..30 => self.append(store, 1),
            30..38 => self.append(store, 3),
            38..41 => self.repeat(store),
            41..48 => self.transact(store),
            48..53 => self.enqueue_transient(),
            53..66 => self.settle(store),
            66..70 => self.thin_out(store),
            70..75 => self.give_back(store),
            75..88 => self.page_out(store),
            88..92 => self.read_pages(store),
            92..94 => self.register(store),
            94..95 => self.forget(store),
            _ => std::thread::sleep(Duration::from_millis(4)),
        }
    }

    /// Notes what is decided; what comes after does not count.
    pub(super) fn ends_abruptly(&mut self, store: &Store) {
        self.end = End::Abrupt(Some(store.progress()));
    }

    pub(super) fn ends_cleanly(&mut self, store: &Store) {
        store.close();
        assert_eq!(store.failure(), None);
        self.end = End::Clean;
    }

    pub(super) fn register_some(&mut self, store: &Store) {
        while self.queues.len() < 3 {
            self.register(store);
        }
    }

    fn register(&mut self, store: &Store) {
        if self.queues.len() >= 5 {
            return;
        }
        let id = QueueId(self.next_queue);
        self.next_queue += 1;
        store.register(id);
        self.queues.insert(id, Queue::default());
    }

    fn forget(&mut self, store: &Store) {
        if self.queues.len() > 3 {
            let id = self.any_queue();
            self.queues.remove(&id);
            store.forget(id, true);
        }
    }

    fn any_queue(&mut self) -> QueueId {
        let index = self.dice.roll(self.queues.len() as u64) as usize;
        *self.queues.keys().nth(index).expect("there are queues")
    }

    fn bodies(&mut self) -> Vec<String> {
        let count = 1 + self.dice.roll(4);
        let mut bodies = Vec::new();
        for _ in 0..count {
            self.next_body += 1;
            let long = if self.dice.roll(20) == 0 { 3_000 } else { 200 };
            let filler = self.dice.roll(long) as usize;
            bodies.push(format!("{} {}", self.next_body, "x".repeat(filler)));
        }
        bodies
    }

    /// Appends messages to so many queues at once.
    pub(super) fn append(&mut self, store: &Store, queues: u64) {
        self.append_with(store, queues, &[]);
    }

    fn append_with(&mut self, store: &Store, queues: u64, settles: &[(QueueId, u64)]) {
        let bodies = self.bodies();
        let messages: Vec<Message> = bodies.iter().map(|body| message(body, true)).collect();
        let ids: BTreeSet<QueueId> = (0..queues).map(|_| self.any_queue()).collect();
        let record = self.records.len();
        let (mut runs, mut places, mut names) = (Vec::new(), Vec::new(), Vec::new());
        for id in ids {
            let queue = self.queues.get_mut(&id).expect("one of ours");
            runs.push(Run {
                queue: id,
                first: Sequence(queue.next),
                message: 0,
                count: messages.len() as u32,
            });
            for (message, body) in messages.iter().zip(&bodies) {
                places.push((id, queue.next));
                queue.push(message, body, Came::With(record), class(id, body));
            }
            names.push(queue.name(id, record, &bodies));
        }
        let settled: Vec<Settled> = settles
            .iter()
            .map(|(queue, place)| Settled {
                queue: *queue,
                range: SequenceRange::new(Sequence(*place), 1),
            })
            .collect();
        let record = NewRecord {
            settled: &settled,
            runs: &runs,
            messages: &messages,
            names: &names,
            ..NewRecord::default()
        };
        self.last_ticket = match messages.as_slice() {
            [_] if self.dice.coin() => {
                let ticket = store.append_to_commit(&record);
                if store.commit(true) && store.failure().is_none() {
                    assert!(store.progress().durable >= ticket, "it was to be decided");
                }
                ticket
            }
            _ => store.append_record(&record),
        };
        self.records.push(Record {
            ticket: self.last_ticket,
            places,
            settles: settles.to_vec(),
        });
        if self.dice.roll(4) > 0 {
            wait(store, self.last_ticket);
        }
    }

    /// Publishes a copy of something: only that it was is to be remembered.
    fn repeat(&mut self, store: &Store) {
        let id = self.any_queue();
        let (record, ago) = (self.records.len(), self.dice.roll(10) as usize);
        let queue = self.queues.get_mut(&id).expect("one of ours");
        let Some(named) = queue.names.values_mut().rev().nth(ago) else {
            return;
        };
        named.repeated.push(record);
        self.last_ticket = store.append_record(&NewRecord {
            repeated: &[(id, named.name)],
            ..NewRecord::default()
        });
        self.records.push(Record {
            ticket: self.last_ticket,
            places: Vec::new(),
            settles: Vec::new(),
        });
    }

    /// Settles some in the record that appends others.
    fn transact(&mut self, store: &Store) {
        let mut settles = Vec::new();
        let record = self.records.len();
        for _ in 0..1 + self.dice.roll(3) {
            let id = self.any_queue();
            let pick = self.dice.roll(4) as usize;
            let queue = self.queues.get_mut(&id).expect("one of ours");
            if let Some((place, held)) = queue.live_mut().nth(pick) {
                held.settled.push(Settlement::With(record));
                settles.push((id, place));
            }
        }
        self.append_with(store, 2, &settles);
    }

    fn enqueue_transient(&mut self) {
        let id = self.any_queue();
        for body in self.bodies() {
            let queue = self.queues.get_mut(&id).expect("one of ours");
            let class = class(id, &body);
            queue.push(&message(&body, false), &body, Came::Transient, class);
        }
    }

    /// Settles the oldest messages of a queue, or single ones.
    pub(super) fn settle(&mut self, store: &Store) {
        let id = self.any_queue();
        let (after, skipped) = (self.last_ticket, self.dice.roll(8));
        let (skipped, count) = match skipped {
            skipped @ 0..3 => (skipped as usize, 1),
            _ => (0, 1 + self.dice.roll(20) as usize),
        };
        let queue = self.queues.get_mut(&id).expect("one of ours");
        let mut settled = Vec::new();
        for (place, held) in queue.live_mut().skip(skipped).take(count) {
            held.settled.push(Settlement::After(after));
            let range = SequenceRange::new(Sequence(place), 1);
            settled.push(Settled { queue: id, range });
        }
        store.settle(&settled, &[]);
    }

    /// Settles most of a queue's oldest messages, so that little is left of its
    /// pages.
    fn thin_out(&mut self, store: &Store) {
        let id = self.any_queue();
        let (after, stays) = (self.last_ticket, self.dice.roll(5) as usize);
        let queue = self.queues.get_mut(&id).expect("one of ours");
        let mut settled = Vec::new();
        for (index, (place, held)) in queue.live_mut().take(40).enumerate() {
            if index % 5 != stays {
                held.settled.push(Settlement::After(after));
                let range = SequenceRange::new(Sequence(place), 1);
                settled.push(Settled { queue: id, range });
            }
        }
        store.settle(&settled, &[]);
    }

    /// Settles everything that is held.
    pub(super) fn settle_all(&mut self, store: &Store) {
        let after = self.last_ticket;
        let mut settled = Vec::new();
        for (id, queue) in &mut self.queues {
            for (place, held) in queue.live_mut() {
                held.settled.push(Settlement::After(after));
                let range = SequenceRange::new(Sequence(place), 1);
                settled.push(Settled { queue: *id, range });
            }
        }
        store.settle(&settled, &[]);
    }

    fn give_back(&mut self, store: &Store) {
        let id = self.any_queue();
        let (after, due) = (self.last_ticket, self.dice.roll(3) * 1_000);
        let queue = self.queues.get_mut(&id).expect("one of ours");
        if let Some((place, held)) = queue.live_mut().next()
            && held.came != Came::Transient
        {
            let told = held.returned.iter().map(|(told, _)| *told).max();
            let deliveries = told.unwrap_or(held.came_back).0 + 1;
            held.returned.push(((deliveries, due), after));
            let returned = Returned {
                queue: id,
                place: Sequence(place),
                deliveries,
                due,
            };
            store.settle(&[], &[returned]);
        }
    }

    pub(super) fn page_out(&mut self, store: &Store) {
        let id = self.any_queue();
        let most = 1 + self.dice.roll(10) as usize;
        // It may stay in memory, to be written again with others.
        let kept = self.dice.roll(6) == 0;
        let class = has_lists(id).then(|| self.dice.roll(3) as u8);
        let queue = self.queues.get_mut(&id).expect("one of ours");
        let places = match class {
            Some(class) => queue.resident_of(class, most),
            None => queue.resident_run(most),
        };
        let Some(first) = places.first().copied() else {
            return;
        };
        let messages: Vec<(Sequence, Message)> = places
            .iter()
            .map(|place| (Sequence(*place), queue.held[place].message.clone()))
            .collect();
        let (done, written) = mpsc::channel();
        store.page_out(PageOutJob {
            queue: id,
            durable: true,
            first: Sequence(first),
            tag: tag(class.unwrap_or_default(), first),
            messages: Box::new(messages),
            done: Box::new(move |page| done.send(page).expect("somebody waits")),
        });
        let page = written.recv().expect("the pager is alive");
        if let Some(page) = page {
            if !kept {
                for place in &places {
                    queue.held.get_mut(place).expect("it is held").paged = true;
                }
            }
            queue.pages.push((page, places));
        }
    }

    /// Reads pages and compares what comes with what must.
    pub(super) fn read_pages(&mut self, store: &Store) {
        let id = self.any_queue();
        let queue = self.queues.get_mut(&id).expect("one of ours");
        let live = |held: &BTreeMap<u64, Held>, place: &u64| {
            held.get(place).is_some_and(|held| held.settled.is_empty())
        };
        let held = &queue.held;
        queue
            .pages
            .retain(|(_, places)| places.iter().any(|place| live(held, place)));
        for (page, places) in &queue.pages {
            let content = store.read_page(*page);
            if store.failure().is_some() {
                return;
            }
            let first = places.first().copied().unwrap_or_default();
            let found = messages_of(first, &content);
            if content.messages.is_empty() && !places.iter().any(|place| live(held, place)) {
                continue;
            }
            let there = |place: &u64| found.get(place).map(|(body, _)| body);
            let mut wanted = places.iter().filter(|place| live(held, place));
            let is_whole = wanted.all(|place| there(place) == Some(&held[place].body));
            if !is_whole && fails_soon(store) {
                return;
            }
            let damaged = &content.damaged;
            assert!(damaged.is_empty(), "{id:?} {page:?}: {damaged:?}");
            for place in places.iter().filter(|place| live(held, place)) {
                assert_eq!(
                    there(place),
                    Some(&held[place].body),
                    "{id:?} place {place}"
                );
            }
        }
    }

    /// The places of each record of this life.
    pub(super) fn records(&self) -> Vec<BTreeSet<(QueueId, u64)>> {
        let places = |record: &Record| record.places.iter().copied().collect();
        self.records.iter().map(places).collect()
    }

    pub(super) fn last_ticket(&self) -> Ticket {
        self.last_ticket
    }

    pub(super) fn any_page(&self) -> Option<Page> {
        let mut pages = self.queues.values().flat_map(|queue| &queue.pages);
        pages.next().map(|(page, _)| *page)
    }

    /// The verdict on what was appended last.
    pub(super) fn last_verdict(&self, store: &Store) -> Verdict {
        wait(store, self.last_ticket);
        store.progress().verdict(self.last_ticket)
    }
}

impl Queue {
    fn push(&mut self, message: &Message, body: &str, came: Came, class: u8) {
        let held = Held {
            message: message.clone(),
            body: body.to_owned(),
            came,
            settled: Vec::new(),
            came_back: (0, 0),
            returned: Vec::new(),
            paged: false,
            class,
        };
        self.held.insert(self.next, held);
        self.next += 1;
    }

    /// Names of new messages.
    fn name(&mut self, queue: QueueId, record: usize, bodies: &[String]) -> Names {
        let mut seen = Vec::new();
        for body in bodies {
            let name = NameHash::of(body.as_bytes());
            seen.push((arrival(body), name));
            let named = Named {
                name,
                came: Came::With(record),
                repeated: Vec::new(),
            };
            self.names.insert(arrival(body), named);
        }
        Names {
            queue,
            count_max: NAMES_MAX,
            time_max: 0,
            seen,
        }
    }

    fn live_mut(&mut self) -> impl Iterator<Item = (u64, &mut Held)> {
        let live = |(_, held): &(&u64, &mut Held)| held.settled.is_empty();
        let places = self.held.iter_mut().filter(live);
        places.map(|(place, held)| (*place, held))
    }

    /// The oldest messages of a list that are in memory only.
    fn resident_of(&self, class: u8, most: usize) -> Vec<u64> {
        let of_list = |held: &Held| held.class == class && !held.paged && held.settled.is_empty();
        let places = self.held.iter().filter(|(_, held)| of_list(held));
        places.map(|(place, _)| *place).take(most).collect()
    }

    /// The oldest messages that are in memory only, without gaps but for those
    /// that were there at the start.
    fn resident_run(&self, most: usize) -> Vec<u64> {
        let mut run: Vec<u64> = Vec::new();
        for (place, held) in &self.held {
            if held.paged || !held.settled.is_empty() {
                if run.is_empty() {
                    continue;
                }
                break;
            }
            if let Some(last) = run.last()
                && last + 1 < *place
                && *place > self.opened_next
            {
                break;
            }
            run.push(*place);
            if run.len() == most {
                break;
            }
        }
        run
    }
}

/// Whether the store is dead, or will be: another thread may have met the end of
/// the disk and not have said so yet.
fn fails_soon(store: &Store) -> bool {
    let until = Instant::now() + Duration::from_secs(5);
    while store.failure().is_none() && Instant::now() < until {
        std::thread::yield_now();
    }
    store.failure().is_some()
}

/// Names that a queue remembers.
const NAMES_MAX: u64 = 10;

pub(super) fn wait(store: &Store, ticket: Ticket) {
    loop {
        let progress = store.progress();
        if progress.durable >= ticket || progress.stopped {
            return;
        }
        std::thread::sleep(Duration::from_micros(20));
    }
}
