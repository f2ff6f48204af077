//! Takes everything out of queues with features, once nobody else is there.

use std::time::{Duration, Instant};

use leveret_protocol::method::*;

use super::super::load::Truth;
use super::super::process::Broker;
use super::super::wire::{Event, Gone, Wire};
use super::ledger::{Seen, Verdict};
use super::order::Reader;
use super::{MIXES, MixIndex, Place, wall};

/// Requests under way at a time.
const GETS_AT_ONCE: usize = 64;

/// How long messages may take that wait for their time, or are on their way to
/// the grave.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Takes all messages, each from one of its two places.
pub struct Drain {
    wire: Wire,
}

impl Drain {
    /// Takes what is ready; to be called as soon as the broker is there, when
    /// not all is due yet. `None` if not all queues are there.
    pub fn start(broker: &Broker, truth: &Truth) -> Result<Option<Self>, Gone> {
        let mut wire = Wire::open(broker.address())?;
        for queue in 0..MIXES {
            for place in [Place::Source, Place::Grave] {
                if wire.look_up(place.name(queue))?.is_none() {
                    // Declaring it was never answered, or the definitions'
                    // check says it.
                    return Ok(None);
                }
            }
        }
        for queue in 0..MIXES {
            take_all(&mut wire, truth, queue, Place::Source, true)?;
        }
        Ok(Some(Self { wire }))
    }

    /// Takes the rest, as it comes.
    pub fn finish(mut self, truth: &Truth) -> Result<(), Gone> {
        for queue in 0..MIXES {
            let deadline = Instant::now() + PATIENCE;
            loop {
                // A letter is out of the one queue before anybody sees it gone,
                // so what is in neither is looked for once more.
                let is_last = truth.mix(|ledger| ledger.missing(queue)).is_none()
                    || Instant::now() > deadline;
                take_all(&mut self.wire, truth, queue, Place::Source, false)?;
                take_all(&mut self.wire, truth, queue, Place::Grave, false)?;
                if is_last {
                    break;
                }
                std::thread::sleep(PAUSE);
            }
            if truth.mix(|ledger| ledger.drained(queue)) > 0 {
                let mut ready = |place: Place| self.wire.look_up(place.name(queue));
                let (source, grave) = (ready(Place::Source)?, ready(Place::Grave)?);
                let seen = format!("where some are lost, {source:?} wait, {grave:?} in the grave");
                truth.mix(|ledger| ledger.find(seen));
            }
        }
        Ok(())
    }
}

/// Takes what is ready. If `by_level`, higher priorities come first.
fn take_all(
    wire: &mut Wire,
    truth: &Truth,
    queue: MixIndex,
    place: Place,
    by_level: bool,
) -> Result<(), Gone> {
    let name = place.name(queue);
    let get = BasicGet {
        queue: name,
        ..BasicGet::default()
    };
    let mut last_level = u8::MAX;
    loop {
        let asked = wall();
        for _ in 0..GETS_AT_ONCE {
            wire.put(1, &get);
        }
        let mut taken = Vec::new();
        for _ in 0..GETS_AT_ONCE {
            let (tag, redelivered, body) = match wire.await_next()? {
                Event::GetEmpty => continue,
                Event::Delivery {
                    tag,
                    redelivered,
                    body,
                } => (tag, redelivered, body),
                other => return Err(Gone::Refused(format!("{other:?} instead of a message"))),
            };
            let seen = Seen {
                queue,
                place,
                body: &body,
                redelivered,
                reader: Reader::Getter { asked },
            };
            truth.mix(|ledger| {
                let Some(id) = ledger.deliver(seen) else {
                    return;
                };
                taken.push((tag, id));
                let Some(level) = ledger.level(queue, id).filter(|_| by_level) else {
                    return;
                };
                if level > last_level {
                    ledger.find(format!("{id:?} in {name}: {level} came after {last_level}"));
                }
                last_level = level;
            });
        }
        let Some((last, _)) = taken.last().copied() else {
            return Ok(());
        };
        // Not before all have come: of a group, one is out at a time.
        let settle = |ledger: &mut super::Ledger| {
            let settled = taken
                .iter()
                .map(|(_, id)| ledger.settle(queue, place, *id, Verdict::Ack, 0));
            settled.collect::<Vec<_>>()
        };
        let settled = truth.mix(settle);
        wire.put(
            1,
            &BasicAck {
                delivery_tag: last,
                multiple: true,
            },
        );
        wire.look_up(name)?;
        truth.mix(|ledger| ledger.settled(queue, &settled));
    }
}
