//! What a broker must show after a restart, before any load.

use std::collections::{HashMap, HashSet};

use leveret_protocol::method::*;

use super::body::MessageId;
use super::ledger::{Ledger, QUEUES, QueueIndex};
use super::load::Truth;
use super::process::Broker;
use super::wire::{Event, Gone, Wire};

/// Requests under way while a queue is emptied.
const GETS_AT_ONCE: usize = 64;

/// Messages that are looked at without taking them, at most: all stay unsettled
/// until the last was seen.
const LOOK_MAX: usize = 1_500;

/// What happens to the backlog.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Drain {
    /// It stays, over several crashes.
    Keep,
    /// All of it is read and put back.
    Look,
    /// All of it is read and acked.
    Take,
}

/// Checks definitions, counts and, unless it is kept, the whole backlog. In
/// queues of `exact`, nothing may be flagged that was never delivered.
pub fn check(
    broker: &Broker,
    truth: &Truth,
    drain: Drain,
    exact: &[QueueIndex],
) -> Result<(), Gone> {
    let mut wire = Wire::open(broker.address())?;
    let mut ledger = truth.ledger.lock().expect("no panic");
    let mut definitions = truth.definitions.lock().expect("no panic");
    definitions.compare(&mut wire, &mut ledger.findings)?;
    let mut most_of_all = 0;
    let mut all_there = true;
    for (queue, name) in QUEUES.iter().enumerate() {
        let (least, most) = ledger.ready_bounds(queue);
        most_of_all = most_of_all.max(most);
        match wire.look_up(name)? {
            Some(ready) if (least..=most).contains(&(ready as usize)) => {}
            // Declaring it was never answered, or `compare` has said it.
            None => all_there = false,
            Some(ready) => ledger.find(format!(
                "count: {ready} ready in {name}, not {least} to {most}"
            )),
        }
    }
    let look = drain == Drain::Look && most_of_all <= LOOK_MAX;
    if drain == Drain::Keep || (drain == Drain::Look && !look) || !all_there {
        return Ok(());
    }
    let mut seen: [HashSet<MessageId>; QUEUES.len()] = Default::default();
    for (queue, seen) in seen.iter_mut().enumerate() {
        let exact = exact.contains(&queue);
        *seen = empty(&mut wire, &mut ledger, queue, !look, exact)?;
        ledger.drained(queue, seen);
    }
    ledger.judge_transactions(&seen);
    Ok(())
}

/// Reads a queue to its end; what was in it.
fn empty(
    wire: &mut Wire,
    ledger: &mut Ledger,
    queue: QueueIndex,
    take: bool,
    exact: bool,
) -> Result<HashSet<MessageId>, Gone> {
    let name = QUEUES[queue];
    let get = BasicGet {
        queue: name,
        ..BasicGet::default()
    };
    let mut seen = HashSet::new();
    let mut newest: HashMap<u16, u64> = HashMap::new();
    let mut more = true;
    while more {
        for _ in 0..GETS_AT_ONCE {
            wire.put(1, &get);
        }
        let mut last = None;
        let mut ids = Vec::new();
        for _ in 0..GETS_AT_ONCE {
            let (tag, redelivered, body) = match wire.await_next()? {
                Event::GetEmpty => {
                    more = false;
                    continue;
                }
                Event::Delivery {
                    tag,
                    redelivered,
                    body,
                } => (tag, redelivered, body),
                other => return Err(Gone::Refused(format!("{other:?} instead of a message"))),
            };
            last = Some(tag);
            let new = MessageId::of(&body).is_some_and(|id| ledger.undelivered(queue, id));
            let Some(id) = ledger.deliver(queue, &body, redelivered) else {
                continue;
            };
            ids.push(id);
            if !more {
                ledger.find(format!("{id:?} in {name} came after the queue was empty"));
            }
            if exact && new && redelivered {
                ledger.find(format!("flagged: {id:?} in {name} was sent to nobody"));
            }
            if !seen.insert(id) {
                ledger.find(format!("twice in one drain: {id:?} in {name}"));
            }
            // Also what was requeued is in its place again.
            let newest = newest.entry(id.producer).or_default();
            if id.sequence < *newest {
                ledger.find(format!("out of order: {id:?} after {newest} in {name}"));
            }
            *newest = id.sequence;
        }
        if take && let Some(delivery_tag) = last {
            for id in &ids {
                ledger.ack(queue, *id);
            }
            wire.put(
                1,
                &BasicAck {
                    delivery_tag,
                    multiple: true,
                },
            );
            wire.look_up(name)?;
            ledger.ack_read(queue, ids);
        }
    }
    if !take {
        wire.close_channel()?;
        wire.open_channel()?;
    }
    Ok(seen)
}
