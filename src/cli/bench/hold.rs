//! Many connections or queues that are opened and then left alone: how long it takes, and what
//! the broker's memory grows by.

use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use leveret_protocol::FieldTable;
use leveret_protocol::method::{QueueDeclare, QueueDelete};

use super::args::Hold;
use super::client::{ClientError, Connection};
use super::dialogue::{self, Crowd, Dialogue, Script};
use super::mode_report::{Growth, ModeReport};
use super::open_files;
use super::process::{self, Process, ProcessFigures};
use super::repeat::{self, Measured, Turn, Worker};
use super::scenario::Scenario;
use super::slots::{Ask, Slots, Steps};

/// Runs it.
///
/// # Errors
/// If the broker cannot be reached, or this process may not open as many sockets. What goes
/// wrong later is in the report.
pub fn execute(
    what: Hold,
    count: u64,
    pipeline: u16,
    scenario: &Scenario,
) -> anyhow::Result<ModeReport> {
    let process = process::of(scenario)?;
    let process = process.as_ref();
    let control = Connection::control(&scenario.uri)?;
    let numbers = 0..scenario.producers;
    let (measured, growth) = match what {
        Hold::Connections => {
            open_files::allow(count)?;
            let script = Script::log_in(&scenario.uri, &control, "leveret bench held")
                .then_consume(&scenario.queue_arguments);
            let address = control.peer_address()?;
            let mut holders: Vec<_> = numbers
                .map(|_| Holder {
                    script: &script,
                    address,
                    pipeline: pipeline.into(),
                    patience: scenario.drain_timeout,
                    held: Vec::new(),
                })
                .collect();
            let (mut measured, growth) = hold(&mut holders, scenario, process)?;
            let closed = holders.into_iter().filter_map(|one| one.close().err());
            measured
                .errors
                .extend(closed.map(|error| error.to_string()));
            (measured, growth)
        }
        Hold::Queues => {
            let mut declarers = numbers
                .map(|number| Declarer::open(scenario, number, pipeline))
                .collect::<Result<Vec<_>, _>>()?;
            let (mut measured, growth) = hold(&mut declarers, scenario, process)?;
            declarers.iter_mut().for_each(|one| one.queues.turn_over());
            let deleted = repeat::run(&mut declarers, scenario, None)?;
            measured.errors.extend(deleted.errors);
            if measured.errors.is_empty() {
                declarers.into_iter().for_each(|one| one.slots.close());
            }
            (measured, growth)
        }
    };
    let report = ModeReport::new(scenario, &control, measured).with_growth(growth);
    control.close();
    Ok(report)
}

/// Opens everything and looks at the process before, and after a while without any work.
fn hold<W: Worker>(
    workers: &mut [W],
    scenario: &Scenario,
    process: Option<&Process>,
) -> anyhow::Result<(Measured, Option<Growth>)> {
    let before = process.map(Process::usage).transpose()?;
    let mut measured = repeat::run(workers, scenario, None)?;
    thread::sleep(QUIET);
    let Some((before, after)) = before.zip(process.map(Process::usage)) else {
        return Ok((measured, None));
    };
    let growth = match after {
        Ok(after) => {
            let figures = ProcessFigures::between(before, after, measured.count);
            measured.process = Some(figures);
            let (before, after) = (before.rss_bytes, after.rss_bytes);
            Some(Growth::new(before, after, measured.count))
        }
        Err(error) => {
            measured.errors.push(Process::lost(&error));
            None
        }
    };
    Ok((measured, growth))
}

/// Opens its share of the connections and keeps them.
struct Holder<'a> {
    script: &'a Script,
    address: SocketAddr,
    pipeline: usize,
    patience: Duration,
    held: Vec<Dialogue>,
}

impl Worker for Holder<'_> {
    fn work(&mut self, turn: &mut Turn<'_>) -> Result<(), ClientError> {
        let mut opening = Opening {
            address: self.address,
            held: &mut self.held,
            turn,
        };
        dialogue::lead(self.script, self.pipeline, self.patience, &mut opening)
    }
}

impl Holder<'_> {
    fn close(self) -> Result<(), ClientError> {
        let script = Script::default().then_close();
        let mut closing = Closing(self.held);
        dialogue::lead(&script, self.pipeline, self.patience, &mut closing)
    }
}

struct Opening<'a, 'b> {
    address: SocketAddr,
    held: &'a mut Vec<Dialogue>,
    turn: &'a mut Turn<'b>,
}

impl Crowd for Opening<'_, '_> {
    fn next(&mut self) -> io::Result<Option<Dialogue>> {
        Dialogue::dial_in(self.turn, self.address)
    }

    fn done(&mut self, dialogue: Dialogue) -> io::Result<()> {
        self.turn.end(dialogue.began_ns);
        self.held.push(dialogue);
        Ok(())
    }
}

struct Closing(Vec<Dialogue>);

impl Crowd for Closing {
    fn next(&mut self) -> io::Result<Option<Dialogue>> {
        let mut dialogue = self.0.pop();
        dialogue.iter_mut().for_each(Dialogue::turn_over);
        Ok(dialogue)
    }

    fn done(&mut self, dialogue: Dialogue) -> io::Result<()> {
        dialogue.forget()
    }
}

/// Declares its share of the queues, and deletes them.
struct Declarer {
    slots: Slots,
    queues: Queues,
}

impl Declarer {
    fn open(scenario: &Scenario, number: u16, pipeline: u16) -> Result<Self, ClientError> {
        let name = format!("leveret bench held {number}");
        let mut slots = Slots::connect(scenario, &name, pipeline)?;
        slots.open_channels()?;
        let queues = Queues {
            prefix: format!("{}-{number}", scenario.prefix),
            durable: scenario.durable,
            arguments: scenario.queue_arguments.clone(),
            delete: false,
            next: 0,
        };
        Ok(Self { slots, queues })
    }
}

impl Worker for Declarer {
    fn work(&mut self, turn: &mut Turn<'_>) -> Result<(), ClientError> {
        self.slots.repeat(&mut self.queues, turn)
    }
}

/// One queue after the other.
struct Queues {
    prefix: String,
    durable: bool,
    arguments: FieldTable,
    delete: bool,
    next: u64,
}

impl Queues {
    /// From declaring to deleting.
    fn turn_over(&mut self) {
        (self.delete, self.next) = (true, 0);
    }
}

impl Steps for Queues {
    fn ask(&mut self, to: &mut Ask<'_>, step: u8) -> Option<&'static str> {
        if step > 0 {
            return None;
        }
        let queue = &format!("{}-{}", self.prefix, self.next);
        self.next += 1;
        if self.delete {
            to.ask(&QueueDelete {
                queue,
                ..QueueDelete::default()
            });
            return Some("queue.delete-ok");
        }
        to.ask(&QueueDeclare {
            queue,
            durable: self.durable,
            arguments: self.arguments.clone(),
            ..QueueDeclare::default()
        });
        Some("queue.declare-ok")
    }
}

/// Long enough for what the broker does after it has answered.
const QUIET: Duration = Duration::from_secs(1);
