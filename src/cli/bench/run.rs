//! The supervisor of a run: opens everything, starts the threads, marks the measured window,
//! sees to it that what was published arrives, and puts the outcomes together.
//!
//! ```text
//! attach consumers ─▶ connect producers ─▶ warm up ─▶ measure ─▶ stop producers ─▶ drain
//!                                          (a fixed count is measured as a whole)
//! ```
//! Rates of a timed run are the differences of the counters between the two ends of the
//! window; latencies are those of the messages that were due in it.

use std::io;
use std::sync::atomic::Ordering;
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::client::Connection;
use super::consumer::{Consumer, ConsumerOutcome};
use super::process::{self, Process, Usage};
use super::producer::{Producer, ProducerOutcome};
use super::progress::Progress;
use super::report::Report;
use super::scenario::{Direction, Length, Scenario};
use super::shared::{self, Clock, ConsumerCounters, ProducerCounters, Signals, nanoseconds};
use super::topology;

/// Everything that a run found out.
#[derive(Debug)]
pub struct Findings {
    /// The broker's `product` and `version`.
    pub broker: (String, String),
    /// Of each producer.
    pub producers: Vec<ProducerOutcome>,
    /// Of each consumer.
    pub consumers: Vec<ConsumerOutcome>,
    /// The counters at both ends of the measured window; `None` for a run that is measured
    /// as a whole, or that ended before.
    pub window: Option<(Totals, Totals)>,
    /// The counters at the end.
    pub totals: Totals,
    /// Messages that the queues held before.
    pub ready_before: u64,
    /// Messages that the queues hold now, if nobody consumed.
    pub ready_after: Option<u64>,
    /// Nothing moved for the drain timeout.
    pub stalled: bool,
    /// Processor time of this process between start and end of the load.
    pub cpu: Duration,
    /// What the broker's process had used at both ends of what was measured; `None` if
    /// nobody asked, or the window was not reached.
    pub usage: Option<io::Result<(Usage, Usage)>>,
}

/// The sum of all threads' counters at one moment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Totals {
    /// When that was.
    pub at_ns: u64,
    /// Messages written to sockets.
    pub published: u64,
    /// Messages acked by the broker.
    pub confirmed: u64,
    /// Deliveries.
    pub consumed: u64,
    /// Messages that a consumer saw for the first time.
    pub fresh: u64,
}

/// Runs a scenario.
///
/// # Errors
/// If the broker cannot be reached or refuses what the scenario needs. What goes wrong
/// later is in the report.
pub fn execute(scenario: &Scenario) -> anyhow::Result<Report> {
    let mut control = Connection::control(&scenario.uri)?;
    let broker = control.broker();
    let ready_before = topology::set_up(&mut control, scenario)
        .context("cannot declare what the run needs")?
        .iter()
        .sum();

    let process = process::of(scenario)?;
    let load = Load::new(scenario, process.as_ref());
    let mut findings = load.run(broker, ready_before)?;
    if scenario.direction == Direction::PublishOnly {
        let ready = topology::ready_counts(&mut control, scenario).context("cannot count")?;
        findings.ready_after = Some(ready.iter().sum());
    } else {
        topology::tear_down(&mut control, scenario).context("cannot delete the queues")?;
    }
    control.close();
    Ok(Report::new(scenario, findings))
}

/// What all threads of a run can see.
#[derive(Debug)]
struct Load<'a> {
    scenario: &'a Scenario,
    process: Option<&'a Process>,
    clock: Clock,
    signals: Signals,
    producers: Vec<ProducerCounters>,
    consumers: Vec<ConsumerCounters>,
}

impl<'a> Load<'a> {
    fn new(scenario: &'a Scenario, process: Option<&'a Process>) -> Self {
        Self {
            scenario,
            process,
            clock: Clock::start(),
            signals: Signals::new(),
            producers: (0..scenario.producers)
                .map(|_| ProducerCounters::default())
                .collect(),
            consumers: (0..scenario.consumers)
                .map(|_| ConsumerCounters::default())
                .collect(),
        }
    }

    fn run(&self, broker: (String, String), ready_before: u64) -> anyhow::Result<Findings> {
        let cpu_before = process::own_cpu();
        let usage_before = self.usage();
        thread::scope(|scope| {
            // However this closure ends, the threads must, or the scope waits for ever.
            let _finish = FinishOnDrop(&self.signals);
            let consumers = self.start_consumers(scope)?;
            let (producers, start_ns) = self.start_producers(scope)?;
            let mut supervisor = Supervisor {
                load: self,
                progress: Progress::new(progress_length(self.scenario, ready_before)),
                start_ns,
                shown: Totals::default(),
                moved: (Totals::default(), Instant::now()),
                stalled: false,
                usage: (usage_before, None),
            };
            let window = supervisor.measure();
            shared::raise(&self.signals.stop);
            supervisor.drain(ready_before);
            let cpu = process::own_cpu().saturating_sub(cpu_before);
            let Supervisor { stalled, usage, .. } = supervisor;
            shared::raise(&self.signals.finish);
            Ok(Findings {
                broker,
                producers: join(producers)?,
                consumers: join(consumers)?,
                window,
                totals: self.totals(),
                ready_before,
                ready_after: None,
                stalled,
                cpu,
                usage: usage.0.zip(usage.1).map(|(from, to)| Ok((from?, to?))),
            })
        })
    }

    fn start_consumers<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
    ) -> anyhow::Result<Vec<ScopedJoinHandle<'scope, ConsumerOutcome>>> {
        let mut threads = Vec::new();
        let mut expected = 0;
        for (number, counters) in (0..).zip(&self.consumers) {
            let consumer =
                Consumer::open(self.scenario, number, self.clock, &self.signals, counters)
                    .with_context(|| format!("consumer {number} cannot start"))?;
            expected += self.scenario.queues_of(number).len() as u64;
            let thread = thread::Builder::new()
                .name(format!("consumer-{number}"))
                .spawn_scoped(scope, move || consumer.run())?;
            threads.push(thread);
        }
        let deadline = Instant::now() + ATTACH_TIMEOUT;
        while shared::read(&self.signals.attached) < expected {
            if shared::raised(&self.signals.failed) {
                shared::raise(&self.signals.finish);
                let outcomes = join(threads)?;
                let error = outcomes.into_iter().find_map(|outcome| outcome.error);
                return Err(error.map_or_else(
                    || anyhow::anyhow!("a consumer cannot start"),
                    anyhow::Error::from,
                ));
            }
            if Instant::now() > deadline {
                bail!("the broker did not start all consumers in time");
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(threads)
    }

    fn start_producers<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
    ) -> anyhow::Result<(Vec<ScopedJoinHandle<'scope, ProducerOutcome>>, u64)> {
        let producers = (0..)
            .zip(&self.producers)
            .map(|(number, counters)| {
                Producer::open(self.scenario, number, self.clock, &self.signals, counters)
                    .with_context(|| format!("producer {number} cannot start"))
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let start_ns = self.clock.now_ns() + START_DELAY_NS;
        let window_start_ns = match self.scenario.length {
            Length::Count(_) => start_ns,
            Length::Time { warmup, .. } => start_ns + nanoseconds(warmup),
            // The backlog was stamped by another process with another clock.
            Length::Backlog => u64::MAX,
        };
        self.signals
            .window_start_ns
            .store(window_start_ns, Ordering::Relaxed);
        let threads = (0u16..)
            .zip(producers)
            .map(|(number, producer)| {
                let scenario = self.scenario;
                let clock = self.clock;
                thread::Builder::new()
                    .name(format!("producer-{number}"))
                    .spawn_scoped(scope, move || {
                        sleep_until(clock, start_ns);
                        producer.run(scenario, start_ns)
                    })
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok((threads, start_ns))
    }

    fn totals(&self) -> Totals {
        let mut totals = Totals {
            at_ns: self.clock.now_ns(),
            ..Totals::default()
        };
        for counters in &self.producers {
            totals.published += shared::read(&counters.published);
            totals.confirmed += shared::read(&counters.confirmed);
        }
        for counters in &self.consumers {
            totals.consumed += shared::read(&counters.consumed);
            totals.fresh += shared::read(&counters.fresh);
        }
        totals
    }

    fn usage(&self) -> Option<io::Result<Usage>> {
        self.process.map(Process::usage)
    }

    fn all_quiet(&self) -> bool {
        self.producers
            .iter()
            .all(|counters| shared::raised(&counters.quiet))
    }
}

/// Watches the counters while the threads work.
#[derive(Debug)]
struct Supervisor<'a> {
    load: &'a Load<'a>,
    progress: Progress,
    start_ns: u64,
    /// The totals that the progress bar showed last.
    shown: Totals,
    /// The last totals that differed from those before, and when that was.
    moved: (Totals, Instant),
    stalled: bool,
    /// At the start and at the end of what is measured.
    usage: (Option<io::Result<Usage>>, Option<io::Result<Usage>>),
}

impl Supervisor<'_> {
    /// Waits until the run is over but for draining; the totals at both ends of the window.
    fn measure(&mut self) -> Option<(Totals, Totals)> {
        match self.load.scenario.length {
            Length::Time { warmup, measured } => {
                let from_ns = self.start_ns + nanoseconds(warmup);
                let from = self.wait_until(from_ns)?;
                self.usage.0 = self.load.usage();
                let to = self.wait_until(from_ns + nanoseconds(measured))?;
                self.usage.1 = self.load.usage();
                Some((from, to))
            }
            Length::Count(_) => {
                self.usage.0 = self.load.usage();
                while !self.load.all_quiet() && self.goes_on() {
                    self.tick(TICK);
                }
                None
            }
            Length::Backlog => None,
        }
    }

    /// Waits until all that was published, or was there before, has arrived.
    fn drain(&mut self, ready_before: u64) {
        let fan = self.load.scenario.fan();
        while self.goes_on() {
            if self.load.all_quiet() {
                let totals = self.load.totals();
                let expected = totals.published * fan + ready_before;
                if self.load.consumers.is_empty() || totals.fresh >= expected {
                    self.usage.1 = self.usage.1.take().or_else(|| self.load.usage());
                    // A message that comes twice would come about now.
                    thread::sleep(AFTERMATH);
                    return;
                }
            }
            self.tick(TICK);
        }
    }

    fn wait_until(&mut self, until_ns: u64) -> Option<Totals> {
        loop {
            let left_ns = until_ns.saturating_sub(self.load.clock.now_ns());
            if left_ns == 0 {
                return Some(self.load.totals());
            }
            if shared::raised(&self.load.signals.failed) {
                return None;
            }
            self.tick(Duration::from_nanos(left_ns).min(TICK));
        }
    }

    /// Whether there is hope: no thread has failed, and something has moved of late.
    fn goes_on(&mut self) -> bool {
        let totals = Totals {
            at_ns: 0,
            ..self.load.totals()
        };
        if totals != self.moved.0 {
            self.moved = (totals, Instant::now());
        }
        self.stalled = self.moved.1.elapsed() > self.load.scenario.drain_timeout;
        !self.stalled && !shared::raised(&self.load.signals.failed)
    }

    fn tick(&mut self, pause: Duration) {
        thread::sleep(pause);
        let totals = self.load.totals();
        let elapsed = Duration::from_nanos(totals.at_ns - self.shown.at_ns);
        if elapsed > SHOW_INTERVAL {
            let position = match self.load.scenario.length {
                Length::Time { .. } => totals.at_ns.saturating_sub(self.start_ns) / NS_PER_MS,
                Length::Count(_) => totals.published,
                Length::Backlog => totals.consumed,
            };
            let published = totals.published - self.shown.published;
            let consumed = totals.consumed - self.shown.consumed;
            self.progress.show(position, published, consumed, elapsed);
            self.shown = totals;
        }
    }
}

struct FinishOnDrop<'a>(&'a Signals);

impl Drop for FinishOnDrop<'_> {
    fn drop(&mut self) {
        shared::raise(&self.0.finish);
    }
}

fn join<T>(threads: Vec<ScopedJoinHandle<'_, T>>) -> anyhow::Result<Vec<T>> {
    threads
        .into_iter()
        .map(|thread| {
            thread
                .join()
                .map_err(|_| anyhow::anyhow!("a thread panicked"))
        })
        .collect()
}

fn progress_length(scenario: &Scenario, ready_before: u64) -> u64 {
    match scenario.length {
        Length::Time { warmup, measured } => nanoseconds(warmup + measured) / NS_PER_MS,
        Length::Count(count) => count,
        Length::Backlog => ready_before,
    }
}

fn sleep_until(clock: Clock, until_ns: u64) {
    let left_ns = until_ns.saturating_sub(clock.now_ns());
    thread::sleep(Duration::from_nanos(left_ns));
}

/// Room for all producer threads to get ready.
const START_DELAY_NS: u64 = 20 * NS_PER_MS;
const ATTACH_TIMEOUT: Duration = Duration::from_secs(30);
const TICK: Duration = Duration::from_millis(10);
const AFTERMATH: Duration = Duration::from_millis(50);
const SHOW_INTERVAL: Duration = Duration::from_millis(250);
const NS_PER_MS: u64 = 1_000_000;
