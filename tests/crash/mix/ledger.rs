//! The truth about messages of queues with features, as the clients saw it.
//!
//! ```text
//!          deliver       ack                 read, and old enough
//! Waiting ───────▶ Out ───────▶ AckSent ─▶ AckRead ─▶ (crash) ─▶ Gone
//!    ▲              │               └───────────┴───▶ (crash) ─▶ Unsure
//!    │              ├─ given back ─▶ Returned ─▶ (deliver) Out
//!    │              └─ rejected ───▶ Rejected ─▶ (deliver from the grave) Out
//!    └── crash ─────────────────────────┘
//! ```
//! A message that is not `Gone` is in its source, or, if something may have
//! killed it, in the grave; in one of the two, not in both. A move is one record,
//! but a crash may undo what was not written yet, so that a message that was
//! seen in the grave is in its source again. In one life nothing goes that way,
//! nor does anything come twice that was not given back.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::super::body::MessageId;
use super::super::written::Written;
use super::order::{Order, Reader};
use super::{Features, Label, MIXES, MixIndex, Place, wall};

/// What was delivered out of a grave is given to the log within that time: as
/// soon as it was handed out, by a thread that may have to wait for its turn.
const LETTER_GIVEN_WITHIN: Duration = Duration::from_millis(500);

/// Milliseconds by which the clients' clock and the broker's may differ: both
/// are the machine's, but the broker reads it once and then counts.
const CLOCKS_DIFFER: u64 = 5;

/// What is known of all messages of queues with features.
#[derive(Default)]
pub struct Ledger {
    queues: [Mix; MIXES],
    last_token: u64,
    findings: Vec<(Instant, String)>,
    pub counts: Counts,
}

/// How much was tried.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub published: u64,
    pub confirmed: u64,
    pub refused: u64,
    pub delivered: u64,
    pub letters: u64,
    pub acked: u64,
    pub rejected: u64,
    pub returned: u64,
    /// Deliveries of what was to come later.
    pub delayed: u64,
}

/// A queue and its grave.
#[derive(Default)]
struct Mix {
    features: Features,
    messages: HashMap<MessageId, Entry>,
    order: Order,
}

struct Entry {
    bytes: u32,
    label: Label,
    /// When, in milliseconds since 1970.
    confirmed: Option<u64>,
    refused: Option<Instant>,
    state: State,
    /// Who got it last.
    holder: usize,
    /// The last settlement, by its token.
    token: u64,
    /// A client has read it from its source.
    seen: bool,
    /// It may be in the grave.
    may_be_dead: bool,
    /// It is in the grave for good.
    is_dead: bool,
    /// When it was read from the grave in this life.
    dead_since: Option<Instant>,
    /// How often it was given back in this life.
    returns: u32,
    retry: Option<Retry>,
}

/// Given back, to be tried again no sooner than that.
#[derive(Clone, Copy)]
struct Retry {
    due: u64,
    /// Since when the broker is known to know.
    read: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Waiting,
    Out(Place),
    Returned,
    Rejected,
    AckSent,
    AckRead(Instant),
    /// There or not.
    Unsure,
    /// And the crashes since: kept for two, to name what comes back.
    Gone(u8),
}

/// What a client does with a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    Ack,
    Reject,
    /// `basic.nack` with requeue.
    Return,
}

/// A delivery, as a client sees it.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    pub queue: MixIndex,
    pub place: Place,
    pub body: &'a [u8],
    pub redelivered: bool,
    pub reader: Reader,
}

/// A settlement: of whom, and which.
pub type Settlement = (MessageId, u64);

impl Ledger {
    pub fn new(features: [Features; MIXES]) -> Self {
        let queues = features.map(|features| Mix {
            features,
            ..Mix::default()
        });
        Self {
            queues,
            ..Self::default()
        }
    }

    pub fn features(&self, queue: MixIndex) -> Features {
        self.queues[queue].features
    }

    /// A message is about to be sent.
    pub fn publish(&mut self, queue: MixIndex, id: MessageId, bytes: usize, label: Label) {
        self.counts.published += 1;
        let mix = &mut self.queues[queue];
        let entry = Entry {
            bytes: bytes as u32,
            // How often a message came back is not known to the clients alone.
            may_be_dead: label.expiration.is_some() || mix.features.delivery_limit.is_some(),
            label,
            confirmed: None,
            refused: None,
            state: State::Waiting,
            holder: 0,
            token: 0,
            seen: false,
            is_dead: false,
            dead_since: None,
            returns: 0,
            retry: None,
        };
        let earlier = mix.messages.insert(id, entry);
        assert!(earlier.is_none(), "the test published {id:?} twice");
    }

    /// Its confirm has come, or its refusal.
    pub fn answered(&mut self, queue: MixIndex, id: MessageId, confirmed: bool) {
        let entry = self.queues[queue].messages.get_mut(&id);
        let Some(entry) = entry else { return };
        if confirmed {
            self.counts.confirmed += 1;
            entry.confirmed = Some(wall());
        } else {
            self.counts.refused += 1;
            entry.refused = Some(Instant::now());
        }
    }

    /// A delivery has come; whose it is, unless that is not known.
    pub fn deliver(&mut self, seen: Seen<'_>) -> Option<MessageId> {
        self.counts.delivered += 1;
        let name = seen.place.name(seen.queue);
        let bytes = seen.body.len();
        let Some(id) = MessageId::of(seen.body) else {
            self.find(format!("damaged: {bytes} octets in {name}"));
            return None;
        };
        let Mix {
            features,
            messages,
            order,
        } = &mut self.queues[seen.queue];
        let Some(entry) = messages.get_mut(&id) else {
            self.find(format!(
                "invented: {id:?} in {name}, or gone for two crashes"
            ));
            return None;
        };
        let mut wrong = Vec::new();
        if entry.bytes as usize != bytes {
            wrong.push(format!("damaged: {} octets, now {bytes}", entry.bytes));
        }
        wrong.extend(entry.misplaced(&seen));
        wrong.extend(entry.mistimed(features, &seen, wall()));
        match seen.place {
            Place::Source => {
                let label = &entry.label;
                wrong.extend(order.deliver(features, label, id, seen.redelivered, seen.reader));
                entry.seen = true;
                entry.retry = None;
            }
            Place::Grave => {
                self.counts.letters += 1;
                entry.dead_since = Some(Instant::now());
            }
        }
        self.counts.delayed += u64::from(entry.label.delay.is_some());
        entry.holder = seen.reader.number();
        let before = std::mem::replace(&mut entry.state, State::Out(seen.place));
        let (reader, again) = (seen.reader, seen.redelivered);
        for what in wrong {
            self.find(format!(
                "{id:?} in {name}: {what} ({before:?}, {reader:?}, redelivered: {again})"
            ));
        }
        Some(id)
    }

    /// A message is about to be settled by who got it.
    pub fn settle(
        &mut self,
        queue: MixIndex,
        place: Place,
        id: MessageId,
        verdict: Verdict,
        holder: usize,
    ) -> Settlement {
        self.last_token += 1;
        let token = self.last_token;
        let mix = &mut self.queues[queue];
        // A broker that ends takes messages away and may give them to others.
        let is_his =
            |entry: &&mut Entry| entry.state == State::Out(place) && entry.holder == holder;
        if let Some(entry) = mix.messages.get_mut(&id).filter(is_his) {
            entry.token = token;
            entry.state = match verdict {
                Verdict::Ack => State::AckSent,
                Verdict::Reject => State::Rejected,
                Verdict::Return => State::Returned,
            };
            match verdict {
                Verdict::Ack => self.counts.acked += 1,
                Verdict::Reject => {
                    self.counts.rejected += 1;
                    entry.may_be_dead = true;
                }
                Verdict::Return => {
                    self.counts.returned += 1;
                    entry.returns += 1;
                    entry.retry = mix.features.retry_ms.map(|delay| Retry {
                        due: wall() + delay,
                        read: None,
                    });
                }
            }
            if place == Place::Source {
                mix.order.settle(&entry.label, id);
            }
        }
        (id, token)
    }

    /// The broker has answered something that was sent after these.
    pub fn settled(&mut self, queue: MixIndex, settlements: &[Settlement]) {
        let now = Instant::now();
        for (id, token) in settlements {
            let Some(entry) = self.queues[queue].messages.get_mut(id) else {
                continue;
            };
            if entry.token != *token {
                continue;
            }
            if entry.state == State::AckSent {
                entry.state = State::AckRead(now);
            }
            if let Some(retry) = &mut entry.retry {
                retry.read = Some(now);
            }
        }
    }

    /// That consumer is about to leave; what it holds comes back.
    pub fn leave(&mut self, queue: MixIndex, number: usize, held: &[MessageId]) {
        let mix = &mut self.queues[queue];
        mix.order.leave(number);
        for id in held {
            if let Some(entry) = mix.messages.get_mut(id) {
                if entry.state == State::Out(Place::Source) && entry.holder == number {
                    entry.state = State::Returned;
                }
                mix.order.settle(&entry.label, *id);
            }
        }
    }

    /// The broker died at that time; or it was stopped, which forgets nothing
    /// that it had read.
    pub fn ended(&mut self, at: Instant, crashed: bool, written: Written) {
        // One that is ending closes its connections one after the other, and
        // what the first of them held goes to the others.
        self.findings.retain(|(found, _)| *found < at);
        let mut refused_and_seen = Vec::new();
        for (queue, mix) in self.queues.iter_mut().enumerate() {
            mix.order = Order::default();
            for (id, entry) in &mut mix.messages {
                // Then its queue was full; a store that has failed refuses, too,
                // and may have kept what it refused.
                let refused = entry.refused.take();
                if refused.is_some_and(|refused| !crashed || refused < at) {
                    if entry.seen || entry.dead_since.is_some() {
                        refused_and_seen.push((*id, queue));
                    }
                    entry.state = State::Gone(0);
                }
                entry.end_life(|read| !crashed || written.has(read, at));
            }
            let is_kept = |entry: &Entry| !matches!(entry.state, State::Gone(3..));
            mix.messages.retain(|_, entry| is_kept(entry));
        }
        for (id, queue) in refused_and_seen {
            let name = Place::Source.name(queue);
            self.find(format!("{id:?} was refused by {name}, and delivered"));
        }
    }

    /// A message that must be there and was not seen since the broker started.
    pub fn missing(&self, queue: MixIndex) -> Option<MessageId> {
        let missing = self.missing_of(queue);
        missing.min()
    }

    /// All that could be found was taken; how many are lost.
    pub fn drained(&mut self, queue: MixIndex) -> usize {
        let lost: Vec<_> = self.missing_of(queue).collect();
        if let (Some(first), Some(last)) = (lost.iter().min(), lost.iter().max()) {
            let (count, name) = (lost.len(), Place::Source.name(queue));
            let finding = format!("lost: {count} confirmed in {name}, from {first:?} to {last:?}");
            self.find(finding);
        }
        for id in &lost {
            self.queues[queue].messages.remove(id);
        }
        // Others may be on their way to the grave, or wait for their time.
        for entry in self.queues[queue].messages.values_mut() {
            if entry.state == State::Waiting {
                entry.state = State::Unsure;
            }
        }
        lost.len()
    }

    /// The priority by which a message stands, where nothing stands in its place
    /// later than it was published.
    pub fn level(&self, queue: MixIndex, id: MessageId) -> Option<u8> {
        let Mix {
            features, messages, ..
        } = &self.queues[queue];
        let waits = features.delays || features.retry_ms.is_some();
        let entry = messages.get(&id).filter(|_| !waits)?;
        Some(features.level(&entry.label))
    }

    pub fn find(&mut self, finding: String) {
        self.findings.push((Instant::now(), finding));
    }

    /// Takes what was found wrong.
    pub fn findings(&mut self) -> impl Iterator<Item = String> {
        self.findings.drain(..).map(|(_, finding)| finding)
    }

    fn missing_of(&self, queue: MixIndex) -> impl Iterator<Item = MessageId> {
        let messages = self.queues[queue].messages.iter();
        messages
            .filter(|(_, entry)| entry.confirmed.is_some() && entry.state == State::Waiting)
            .map(|(id, _)| *id)
    }
}

impl Entry {
    /// Why it must not be where it was seen.
    fn misplaced(&self, seen: &Seen<'_>) -> Option<String> {
        if self.is_dead && seen.place == Place::Source {
            return Some("is back from its grave".to_owned());
        }
        if seen.place == Place::Grave && !self.may_be_dead {
            return Some("is dead without a cause".to_owned());
        }
        if seen.place == Place::Source && self.seen && !seen.redelivered {
            return Some("is not flagged, and was delivered before".to_owned());
        }
        match (self.state, seen.place) {
            (State::Waiting | State::Unsure | State::Returned, _) => None,
            (State::Rejected, Place::Grave) => None,
            (State::Rejected, Place::Source) => Some("was rejected".to_owned()),
            (State::Out(Place::Source), Place::Grave) => Some("is in both queues".to_owned()),
            (State::Out(_), _) => Some("came twice".to_owned()),
            (State::AckSent | State::AckRead(_), _) => Some("was acked".to_owned()),
            (State::Gone(crashes), _) => Some(format!(
                "was settled, lost or refused {crashes} crash(es) ago"
            )),
        }
    }

    /// Why it must not come at that moment.
    fn mistimed(&self, features: &Features, seen: &Seen<'_>, now: u64) -> Option<String> {
        let delay = self.label.delay.unwrap_or(0);
        let scheduled = self.label.sent + delay;
        if delay > 0 && now + CLOCKS_DIFFER < scheduled {
            return Some(format!("is early by {} ms", scheduled - now));
        }
        if seen.place == Place::Grave {
            return None;
        }
        if let Some(Retry { due, .. }) = self.retry
            && now + CLOCKS_DIFFER < due
        {
            return Some(format!("is tried again {} ms too early", due - now));
        }
        if let Some(limit) = features.delivery_limit
            && self.returns > limit
        {
            let returns = self.returns;
            return Some(format!(
                "came back {returns} times, with a limit of {limit}"
            ));
        }
        if let (Some(expiration), Some(confirmed)) = (self.label.expiration, self.confirmed)
            && let Reader::Getter { asked } = seen.reader
            && confirmed + delay + expiration + CLOCKS_DIFFER < asked
        {
            return Some("is delivered although it has expired".to_owned());
        }
        None
    }

    /// Its broker has ended; `lasts` says whether what it had read by then was
    /// written.
    fn end_life(&mut self, lasts: impl Fn(Instant) -> bool) {
        self.returns = 0;
        let dead_since = self.dead_since.take();
        self.is_dead |= dead_since.is_some_and(|since| lasts(since + LETTER_GIVEN_WITHIN));
        self.retry = self.retry.filter(|retry| retry.read.is_some_and(&lasts));
        self.state = match self.state {
            State::Waiting | State::Out(_) | State::Returned | State::Rejected => State::Waiting,
            State::AckRead(read) if lasts(read) => State::Gone(1),
            State::AckSent | State::AckRead(_) | State::Unsure => State::Unsure,
            State::Gone(crashes) => State::Gone(crashes + 1),
        };
    }
}
