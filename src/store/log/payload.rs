//! What records hold: messages with their places, settlements, checkpoints.
//! `docs/storage.md` has the layouts.

use crate::model::{Body, Message, NameHash, QueueId, Sequence, SequenceRange, Traits};
use crate::store::octets::{self, Reader};

use super::record::Layout;

/// Consecutive messages of a record that went to consecutive places of a queue.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Run {
    /// Where they went.
    pub queue: QueueId,
    /// The place of the first of them.
    pub first: Sequence,
    /// Which of the record's messages is the first.
    pub message: u32,
    /// How many there are.
    pub count: u32,
}

/// Places of a queue that are settled.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Settled {
    /// In which queue.
    pub queue: QueueId,
    /// Which places.
    pub range: SequenceRange,
}

/// A message that went back to its place, with how often a client may have seen
/// it by now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Returned {
    /// To which queue.
    pub queue: QueueId,
    /// To which place.
    pub place: Sequence,
    /// Deliveries so far.
    pub deliveries: u32,
    /// Not to be delivered before then, in milliseconds since 1970; 0 if it may
    /// be at once.
    pub due: u64,
}

/// Names of messages that a queue remembers, to tell copies by them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Names {
    /// Which queue.
    pub queue: QueueId,
    /// How many it remembers.
    pub count_max: u64,
    /// For how long, in milliseconds; 0 if that has no end.
    pub time_max: u64,
    /// When each was seen, in milliseconds since 1970, oldest first.
    pub seen: Vec<(u64, NameHash)>,
}

/// A record to be appended: it counts as a whole or not at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewRecord<'a> {
    /// Places that are settled with it.
    pub settled: &'a [Settled],
    /// Where the messages went.
    pub runs: &'a [Run],
    /// The messages.
    pub messages: &'a [Message],
    /// Names of these messages that are remembered from then on.
    pub names: &'a [Names],
    /// Names that must be known by then, in the log or in this record: those
    /// of messages that were left out as copies. Otherwise the record is
    /// refused, or reported so.
    pub repeated: &'a [(QueueId, NameHash)],
}

impl NewRecord<'_> {
    /// Octets that it takes in the log, not much less.
    pub(in crate::store) fn bytes_about(&self) -> usize {
        let messages = self.messages.iter().map(Message::stored_bytes);
        messages.sum::<usize>()
            + self.messages.len() * Layout::V2.entry_bytes()
            + self.runs.len() * RUN_BYTES
            + self.settled.len() * SETTLED_BYTES
    }
}

/// A message as a file holds it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::store) struct Stored<'a> {
    pub(in crate::store) envelope: &'a [u8],
    pub(in crate::store) header: &'a [u8],
    pub(in crate::store) body: &'a [u8],
    pub(in crate::store) traits: Traits,
    /// In milliseconds since 1970; 0 if that is not known.
    pub(in crate::store) arrived: u64,
}

/// What a messages record holds.
#[derive(Debug, Default, Eq, PartialEq)]
pub(in crate::store) struct Messages<'a> {
    pub(in crate::store) settled: Vec<Settled>,
    pub(in crate::store) runs: Vec<Run>,
    pub(in crate::store) messages: Vec<Stored<'a>>,
    pub(in crate::store) names: Vec<Names>,
}

/// What a settlements record holds.
#[derive(Debug, Default, Eq, PartialEq)]
pub(in crate::store) struct Settlements {
    pub(in crate::store) settled: Vec<Settled>,
    pub(in crate::store) returned: Vec<Returned>,
}

/// What a checkpoint holds.
#[derive(Debug, Default, Eq, PartialEq)]
pub(in crate::store) struct Checkpoint {
    pub(in crate::store) queues: Vec<QueueState>,
    /// Names that are moved here from older files, or all of them.
    pub(in crate::store) names: Vec<Names>,
}

/// What a checkpoint says of one queue.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(in crate::store) struct QueueState {
    pub(in crate::store) queue: QueueId,
    /// The place that its next message gets.
    pub(in crate::store) next: Sequence,
    /// A client may have seen what lies below.
    pub(in crate::store) redelivered_below: Sequence,
    pub(in crate::store) settled: Vec<SequenceRange>,
    /// Messages that came back and are not settled.
    pub(in crate::store) returned: Vec<(Sequence, CameBack)>,
    /// Its segments' files, each with the octets of it that are durable.
    pub(in crate::store) segments: Vec<(u64, u64)>,
}

/// Deliveries so far and when the message is due. Of two, the greater holds.
pub(in crate::store) type CameBack = (u32, u64);

const SETTLED_BYTES: usize = 24;
const RUN_BYTES: usize = 24;
/// Octets in front of a queue's names.
const NAMES_BYTES: usize = 28;
/// Octets of one name.
pub(in crate::store) const NAME_BYTES: usize = 24;

impl Layout {
    /// Octets in front of a message: lengths, flags and times.
    pub(in crate::store) fn entry_bytes(self) -> usize {
        match self {
            Self::V1 => 12,
            Self::V2 => 20,
        }
    }

    fn came_back_bytes(self) -> usize {
        match self {
            Self::V1 => 4,
            Self::V2 => 12,
        }
    }

    fn read_came_back(self, reader: &mut Reader<'_>) -> Option<CameBack> {
        let deliveries = reader.u32()?;
        let due = match self {
            Self::V1 => 0,
            Self::V2 => reader.u64()?,
        };
        Some((deliveries, due))
    }
}

/// Appends a messages record's payload.
pub(in crate::store) fn put_messages(out: &mut Vec<u8>, record: &NewRecord<'_>) {
    put_runs(out, record.settled, record.runs);
    put_count(out, record.messages.len());
    for message in record.messages {
        put_message(out, message);
    }
    put_names(out, record.names);
}

/// Appends the payload of a messages record whose messages come from files.
pub(in crate::store) fn put_carried(out: &mut Vec<u8>, runs: &[Run], messages: &[&Stored<'_>]) {
    put_runs(out, &[], runs);
    put_count(out, messages.len());
    for message in messages {
        put_stored(out, message);
    }
    put_names(out, &[]);
}

fn put_runs(out: &mut Vec<u8>, settled: &[Settled], runs: &[Run]) {
    put_settled(out, settled);
    put_count(out, runs.len());
    for run in runs {
        octets::put_u64(out, run.queue.0);
        octets::put_u64(out, run.first.0);
        octets::put_u32(out, run.message);
        octets::put_u32(out, run.count);
    }
}

fn put_names(out: &mut Vec<u8>, names: &[Names]) {
    put_count(out, names.len());
    for of_queue in names {
        octets::put_u64(out, of_queue.queue.0);
        octets::put_u64(out, of_queue.count_max);
        octets::put_u64(out, of_queue.time_max);
        put_count(out, of_queue.seen.len());
        for (time, name) in &of_queue.seen {
            octets::put_u64(out, *time);
            out.extend_from_slice(&name.octets());
        }
    }
}

/// Appends a message.
pub(in crate::store) fn put_message(out: &mut Vec<u8>, message: &Message) {
    let (envelope, header) = (message.envelope(), message.header());
    put_entry(
        out,
        envelope.len(),
        header.len(),
        message.body_bytes(),
        message.traits(),
        message.arrived(),
    );
    out.extend_from_slice(envelope);
    out.extend_from_slice(header);
    put_body(out, message.body());
}

/// Appends a message that comes from a file.
fn put_stored(out: &mut Vec<u8>, message: &Stored<'_>) {
    put_entry(
        out,
        message.envelope.len(),
        message.header.len(),
        message.body.len(),
        message.traits,
        message.arrived,
    );
    out.extend_from_slice(message.envelope);
    out.extend_from_slice(message.header);
    out.extend_from_slice(message.body);
}

/// Appends a body.
pub(in crate::store) fn put_body(out: &mut Vec<u8>, body: Body<'_>) {
    match body {
        Body::Slice(body) => out.extend_from_slice(body),
        Body::Chunks(chunks) => chunks.iter().for_each(|chunk| out.extend_from_slice(chunk)),
    }
}

/// Appends what stands in front of a message. A header fits into a frame and a
/// body into its limit, so both have 32 bits; an envelope is two short strings.
fn put_entry(
    out: &mut Vec<u8>,
    envelope: usize,
    header: usize,
    body: usize,
    traits: Traits,
    arrived: u64,
) {
    octets::put_u32(out, header as u32);
    octets::put_u32(out, body as u32);
    out.extend_from_slice(&(envelope as u16).to_le_bytes());
    out.push(traits.bits());
    out.push(0);
    octets::put_u64(out, arrived);
}

/// Reads what stands in front of a message, then itself.
pub(in crate::store) fn read_stored<'a>(
    layout: Layout,
    reader: &mut Reader<'a>,
) -> Option<Stored<'a>> {
    let (header, body) = (reader.u32()?, reader.u32()?);
    let (envelope, flags, _) = (reader.u16()?, reader.u8()?, reader.u8()?);
    let arrived = match layout {
        Layout::V1 => 0,
        Layout::V2 => reader.u64()?,
    };
    Some(Stored {
        envelope: reader.octets(envelope.into())?,
        header: reader.octets(header as usize)?,
        body: reader.octets(body as usize)?,
        traits: Traits::from_bits(flags),
        arrived,
    })
}

/// Appends a settlements record's payload.
pub(in crate::store) fn put_settlements(
    out: &mut Vec<u8>,
    settled: &[Settled],
    returned: &[Returned],
) {
    put_settled(out, settled);
    put_count(out, returned.len());
    for returned in returned {
        octets::put_u64(out, returned.queue.0);
        octets::put_u64(out, returned.place.0);
        put_came_back(out, (returned.deliveries, returned.due));
    }
}

fn put_came_back(out: &mut Vec<u8>, (deliveries, due): CameBack) {
    octets::put_u32(out, deliveries);
    octets::put_u64(out, due);
}

fn put_settled(out: &mut Vec<u8>, settled: &[Settled]) {
    put_count(out, settled.len());
    for Settled { queue, range } in settled {
        octets::put_u64(out, queue.0);
        put_range(out, *range);
    }
}

fn put_range(out: &mut Vec<u8>, range: SequenceRange) {
    octets::put_u64(out, range.first.0);
    octets::put_u64(out, range.count());
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    octets::put_u32(out, u32::try_from(count).unwrap_or(u32::MAX));
}

/// Appends a checkpoint's payload.
pub(in crate::store) fn put_checkpoint(out: &mut Vec<u8>, checkpoint: &Checkpoint) {
    let Checkpoint { queues, names } = checkpoint;
    put_count(out, queues.len());
    for state in queues {
        octets::put_u64(out, state.queue.0);
        octets::put_u64(out, state.next.0);
        octets::put_u64(out, state.redelivered_below.0);
        put_count(out, state.settled.len());
        for range in &state.settled {
            put_range(out, *range);
        }
        put_count(out, state.returned.len());
        for (place, came_back) in &state.returned {
            octets::put_u64(out, place.0);
            put_came_back(out, *came_back);
        }
        put_count(out, state.segments.len());
        for (file, durable_bytes) in &state.segments {
            octets::put_u64(out, *file);
            octets::put_u64(out, *durable_bytes);
        }
    }
    put_names(out, names);
}

/// Reads a messages record; `None` if it is not one from end to end.
pub(in crate::store) fn read_messages(layout: Layout, payload: &[u8]) -> Option<Messages<'_>> {
    let mut reader = Reader::new(payload);
    let settled = read_settled(&mut reader)?;
    let mut runs = Vec::new();
    for _ in 0..reader.count(RUN_BYTES)? {
        runs.push(Run {
            queue: QueueId(reader.u64()?),
            first: Sequence(reader.u64()?),
            message: reader.u32()?,
            count: reader.u32()?,
        });
    }
    let count = reader.count(layout.entry_bytes())?;
    let mut messages = Vec::with_capacity(count);
    for _ in 0..count {
        messages.push(read_stored(layout, &mut reader)?);
    }
    let names = read_names(layout, &mut reader)?;
    let reaches = |run: &Run| u64::from(run.message) + u64::from(run.count);
    let fit = runs.iter().all(|run| reaches(run) <= count as u64);
    (fit && reader.is_empty()).then_some(Messages {
        settled,
        runs,
        messages,
        names,
    })
}

/// Reads a settlements record; `None` if it is not one from end to end.
pub(in crate::store) fn read_settlements(layout: Layout, payload: &[u8]) -> Option<Settlements> {
    let mut reader = Reader::new(payload);
    let settled = read_settled(&mut reader)?;
    let mut returned = Vec::new();
    for _ in 0..reader.count(16 + layout.came_back_bytes())? {
        let (queue, place) = (QueueId(reader.u64()?), Sequence(reader.u64()?));
        let (deliveries, due) = layout.read_came_back(&mut reader)?;
        returned.push(Returned {
            queue,
            place,
            deliveries,
            due,
        });
    }
    reader
        .is_empty()
        .then_some(Settlements { settled, returned })
}

/// Reads a checkpoint; `None` if it is not one from end to end.
pub(in crate::store) fn read_checkpoint(layout: Layout, payload: &[u8]) -> Option<Checkpoint> {
    let mut reader = Reader::new(payload);
    let mut queues = Vec::new();
    for _ in 0..reader.count(36)? {
        let mut state = QueueState {
            queue: QueueId(reader.u64()?),
            next: Sequence(reader.u64()?),
            redelivered_below: Sequence(reader.u64()?),
            ..QueueState::default()
        };
        for _ in 0..reader.count(16)? {
            state.settled.push(read_range(&mut reader)?);
        }
        for _ in 0..reader.count(8 + layout.came_back_bytes())? {
            let place = Sequence(reader.u64()?);
            let came_back = layout.read_came_back(&mut reader)?;
            state.returned.push((place, came_back));
        }
        for _ in 0..reader.count(16)? {
            state.segments.push((reader.u64()?, reader.u64()?));
        }
        queues.push(state);
    }
    let names = read_names(layout, &mut reader)?;
    reader.is_empty().then_some(Checkpoint { queues, names })
}

fn read_names(layout: Layout, reader: &mut Reader<'_>) -> Option<Vec<Names>> {
    let mut names = Vec::new();
    if layout == Layout::V1 {
        return Some(names);
    }
    for _ in 0..reader.count(NAMES_BYTES)? {
        let mut of_queue = Names {
            queue: QueueId(reader.u64()?),
            count_max: reader.u64()?,
            time_max: reader.u64()?,
            seen: Vec::new(),
        };
        for _ in 0..reader.count(NAME_BYTES)? {
            of_queue
                .seen
                .push((reader.u64()?, NameHash::from_octets(reader.array()?)));
        }
        names.push(of_queue);
    }
    Some(names)
}

fn read_settled(reader: &mut Reader<'_>) -> Option<Vec<Settled>> {
    let count = reader.count(SETTLED_BYTES)?;
    let mut settled = Vec::with_capacity(count);
    for _ in 0..count {
        settled.push(Settled {
            queue: QueueId(reader.u64()?),
            range: read_range(reader)?,
        });
    }
    Some(settled)
}

fn read_range(reader: &mut Reader<'_>) -> Option<SequenceRange> {
    Some(SequenceRange::new(Sequence(reader.u64()?), reader.u64()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUE: QueueId = QueueId(7);

    fn range(first: u64, count: u64) -> SequenceRange {
        SequenceRange::new(Sequence(first), count)
    }

    fn names() -> Vec<Names> {
        let seen = |time, name: &[u8]| (time, NameHash::of(name));
        vec![
            Names {
                queue: QUEUE,
                count_max: 1_000,
                time_max: 60_000,
                seen: vec![seen(1_700_000_000_000, b"a"), seen(1_700_000_000_001, b"b")],
            },
            Names::default(),
        ]
    }

    #[test]
    fn messages_read_back_and_nothing_shorter_or_longer_does() {
        let messages = [
            Message::single("logs", "a.b", b"header", b"body"),
            Message::single("", "queue", b"h", b""),
        ];
        let settled = [Settled {
            queue: QUEUE,
            range: range(3, 4),
        }];
        let run = Run {
            queue: QUEUE,
            first: Sequence(9),
            message: 0,
            count: 2,
        };
        let names = names();
        let mut payload = Vec::new();
        let record = NewRecord {
            settled: &settled,
            runs: &[run],
            messages: &messages,
            names: &names,
            ..NewRecord::default()
        };
        put_messages(&mut payload, &record);
        let read = read_messages(Layout::V2, &payload).expect("what was written");
        assert_eq!(
            (read.settled.as_slice(), read.runs, read.names),
            (&settled[..], vec![run], names)
        );
        for (read, message) in read.messages.iter().zip(&messages) {
            assert_eq!(read.envelope, message.envelope());
            assert_eq!(read.header, message.header());
            assert_eq!(read.body.len(), message.body_bytes());
        }
        for length in 0..payload.len() {
            assert_eq!(
                read_messages(Layout::V2, &payload[..length]),
                None,
                "cut at {length}"
            );
        }
        payload.push(0);
        assert_eq!(read_messages(Layout::V2, &payload), None);
    }

    #[test]
    fn a_run_of_more_messages_than_there_are_is_damage() {
        let message = Message::single("", "queue", b"h", b"");
        let run = Run {
            queue: QUEUE,
            first: Sequence(0),
            message: 1,
            count: 1,
        };
        let mut payload = Vec::new();
        let record = NewRecord {
            runs: &[run],
            messages: &[message],
            ..NewRecord::default()
        };
        put_messages(&mut payload, &record);
        assert_eq!(read_messages(Layout::V2, &payload), None);
    }

    #[test]
    fn settlements_and_checkpoints_read_back() {
        let settled = vec![Settled {
            queue: QUEUE,
            range: range(0, 100),
        }];
        let returned = vec![Returned {
            queue: QUEUE,
            place: Sequence(101),
            deliveries: 3,
            due: 1_700_000_000_000,
        }];
        let mut payload = Vec::new();
        put_settlements(&mut payload, &settled, &returned);
        let read = read_settlements(Layout::V2, &payload);
        assert_eq!(read, Some(Settlements { settled, returned }));
        assert_eq!(read_settlements(Layout::V2, &payload[1..]), None);

        let state = QueueState {
            queue: QUEUE,
            next: Sequence(200),
            redelivered_below: Sequence(50),
            settled: vec![range(0, 100), range(120, 1)],
            returned: vec![(Sequence(101), (3, 1_700_000_000_000))],
            segments: vec![(4, 4_096)],
        };
        let checkpoint = Checkpoint {
            queues: vec![state, QueueState::default()],
            names: names(),
        };
        let mut payload = Vec::new();
        put_checkpoint(&mut payload, &checkpoint);
        assert_eq!(read_checkpoint(Layout::V2, &payload), Some(checkpoint));
        assert_eq!(
            read_checkpoint(Layout::V2, &payload[..payload.len() - 1]),
            None
        );
    }

    #[test]
    fn a_count_that_lies_takes_no_memory() {
        let payload = u32::MAX.to_le_bytes();
        assert_eq!(read_messages(Layout::V2, &payload), None);
        assert_eq!(read_settlements(Layout::V2, &payload), None);
        assert_eq!(read_checkpoint(Layout::V2, &payload), None);
    }
}
