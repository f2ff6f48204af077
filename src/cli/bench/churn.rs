//! Opening and closing as fast as the broker answers: connections, channels or queues.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use leveret_protocol::FieldTable;
use leveret_protocol::method::{ChannelClose, ChannelOpen, QueueDeclare, QueueDelete};

use super::args::Churn;
use super::client::{ClientError, Connection};
use super::dialogue::{self, Crowd, Dialogue, Script};
use super::mode_report::ModeReport;
use super::open_files;
use super::process;
use super::repeat::{self, Measured, Turn, Worker};
use super::scenario::Scenario;
use super::slots::{Ask, Slots, Steps};

/// Runs it.
///
/// # Errors
/// If the broker cannot be reached. What goes wrong later is in the report.
pub fn execute(what: Churn, pipeline: u16, scenario: &Scenario) -> anyhow::Result<ModeReport> {
    let process = process::of(scenario)?;
    let control = Connection::control(&scenario.uri)?;
    let numbers = 0..scenario.producers;
    let measured = match what {
        Churn::Connections => {
            open_files::allow(u64::from(pipeline) * u64::from(scenario.producers))?;
            let address = control.peer_address()?;
            let name = "leveret bench churn";
            let script = Script::log_in(&scenario.uri, &control, name).then_close();
            let mut workers: Vec<_> = numbers
                .map(|_| Dialer {
                    script: &script,
                    address,
                    pipeline,
                    patience: scenario.drain_timeout,
                })
                .collect();
            repeat::run(&mut workers, scenario, process.as_ref())?
        }
        Churn::Channels => {
            let mut workers = numbers
                .map(|number| Churner::open(scenario, number, pipeline, Channels))
                .collect::<Result<Vec<_>, _>>()?;
            let measured = repeat::run(&mut workers, scenario, process.as_ref())?;
            close(workers, measured)
        }
        Churn::Queues => {
            let mut workers = numbers
                .map(|number| {
                    let queues = Queues::new(scenario, number, pipeline);
                    let mut churner = Churner::open(scenario, number, pipeline, queues)?;
                    churner.slots.open_channels()?;
                    Ok(churner)
                })
                .collect::<Result<Vec<_>, ClientError>>()?;
            let measured = repeat::run(&mut workers, scenario, process.as_ref())?;
            close(workers, measured)
        }
    };
    let report = ModeReport::new(scenario, &control, measured);
    control.close();
    Ok(report)
}

/// Closes what still stands, unless something has gone wrong.
fn close<S: Steps>(workers: Vec<Churner<S>>, measured: Measured) -> Measured {
    if measured.errors.is_empty() {
        workers.into_iter().for_each(|one| one.slots.close());
    }
    measured
}

/// Opens and closes connections, so many at once.
struct Dialer<'a> {
    script: &'a Script,
    address: SocketAddr,
    pipeline: u16,
    patience: Duration,
}

impl Worker for Dialer<'_> {
    fn work(&mut self, turn: &mut Turn<'_>) -> Result<(), ClientError> {
        let mut calls = Calls {
            address: self.address,
            turn,
        };
        dialogue::lead(self.script, self.pipeline.into(), self.patience, &mut calls)
    }
}

struct Calls<'a, 'b> {
    address: SocketAddr,
    turn: &'a mut Turn<'b>,
}

impl Crowd for Calls<'_, '_> {
    fn next(&mut self) -> io::Result<Option<Dialogue>> {
        Dialogue::dial_in(self.turn, self.address)
    }

    fn done(&mut self, dialogue: Dialogue) -> io::Result<()> {
        self.turn.end(dialogue.began_ns);
        dialogue.forget()
    }
}

/// A connection whose slots repeat what the steps say.
struct Churner<S> {
    slots: Slots,
    steps: S,
}

impl<S: Steps> Churner<S> {
    fn open(
        scenario: &Scenario,
        number: u16,
        pipeline: u16,
        steps: S,
    ) -> Result<Self, ClientError> {
        let name = format!("leveret bench churn {number}");
        let slots = Slots::connect(scenario, &name, pipeline)?;
        Ok(Self { slots, steps })
    }
}

impl<S: Steps> Worker for Churner<S> {
    fn work(&mut self, turn: &mut Turn<'_>) -> Result<(), ClientError> {
        self.slots.repeat(&mut self.steps, turn)
    }
}

/// A channel opens and closes.
struct Channels;

impl Steps for Channels {
    fn ask(&mut self, to: &mut Ask<'_>, step: u8) -> Option<&'static str> {
        match step {
            0 => {
                to.ask(&ChannelOpen { out_of_band: "" });
                Some("channel.open-ok")
            }
            1 => {
                to.ask(&ChannelClose {
                    reply_code: 200,
                    reply_text: "",
                    class_id: 0,
                    method_id: 0,
                });
                Some("channel.close-ok")
            }
            _ => None,
        }
    }
}

/// An exclusive queue, one for each slot, is declared and deleted.
struct Queues {
    names: Vec<String>,
    arguments: FieldTable,
}

impl Queues {
    fn new(scenario: &Scenario, number: u16, pipeline: u16) -> Self {
        let prefix = &scenario.prefix;
        Self {
            names: (0..pipeline)
                .map(|slot| format!("{prefix}-{number}-{slot}"))
                .collect(),
            arguments: scenario.queue_arguments.clone(),
        }
    }
}

impl Steps for Queues {
    fn ask(&mut self, to: &mut Ask<'_>, step: u8) -> Option<&'static str> {
        let queue = self.names.get(usize::from(to.slot))?;
        match step {
            0 => {
                to.ask(&QueueDeclare {
                    queue,
                    exclusive: true,
                    arguments: self.arguments.clone(),
                    ..QueueDeclare::default()
                });
                Some("queue.declare-ok")
            }
            1 => {
                to.ask(&QueueDelete {
                    queue,
                    ..QueueDelete::default()
                });
                Some("queue.delete-ok")
            }
            _ => None,
        }
    }
}
