//! Threads that repeat one operation, and how it is measured: what lies between two moments
//! of a timed run, all of a counted one.
//!
//! ```text
//! start ─▶ warm up ─▶ measure ─▶ stop: what is under way ends, nothing begins
//!          (a fixed count is measured as a whole)
//! ```

use std::io;
use std::sync::atomic::Ordering;
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::Duration;

use super::client::ClientError;
use super::latency::Latencies;
use super::process::{Process, ProcessFigures, Usage};
use super::scenario::{Length, Scenario};
use super::shared::{self, Clock, ProducerCounters, Signals, nanoseconds};

/// One thread's part.
pub trait Worker: Send {
    /// Repeats the operation for as long as `turn` lets it begin, then ends what is under way.
    ///
    /// # Errors
    /// Whatever makes going on pointless.
    fn work(&mut self, turn: &mut Turn<'_>) -> Result<(), ClientError>;
}

/// What a worker may begin, and the account that it gives of it.
#[derive(Debug)]
pub struct Turn<'a> {
    clock: Clock,
    signals: &'a Signals,
    counters: &'a ProducerCounters,
    left: u64,
    done: u64,
    last_ns: u64,
    latencies: Latencies,
}

impl Turn<'_> {
    /// The time at which an operation begins, if another one is to.
    #[inline]
    pub fn begin(&mut self) -> Option<u64> {
        if self.left == 0 || shared::raised(&self.signals.stop) {
            return None;
        }
        self.left -= 1;
        Some(self.clock.now_ns())
    }

    /// Counts an operation that began then and has ended.
    #[inline]
    pub fn end(&mut self, began_ns: u64) {
        self.last_ns = self.clock.now_ns();
        self.done += 1;
        shared::show(&self.counters.published, self.done);
        if began_ns >= self.signals.window_start_ns.load(Ordering::Relaxed) {
            self.latencies.record(self.last_ns.saturating_sub(began_ns));
        }
    }
}

/// What repeating an operation came to.
#[derive(Debug)]
pub struct Measured {
    /// Operations that ended while it was measured.
    pub count: u64,
    /// For how long it was measured.
    pub seconds: f64,
    /// Of operations that began from the start of that on.
    pub latencies: Latencies,
    /// What the broker's process took for them.
    pub process: Option<ProcessFigures>,
    /// Why workers ended early, and what could not be measured.
    pub errors: Vec<String>,
}

/// Lets each worker repeat its operation in a thread of its own, for the scenario's length.
///
/// # Errors
/// If a thread cannot be started. What goes wrong later is in the result.
pub fn run<W: Worker>(
    workers: &mut [W],
    scenario: &Scenario,
    process: Option<&Process>,
) -> anyhow::Result<Measured> {
    let counters = workers.iter().map(|_| ProducerCounters::default());
    let watch = Watch {
        clock: Clock::start(),
        signals: Signals::new(),
        counters: counters.collect(),
        process,
    };
    thread::scope(|scope| {
        let start = watch.look();
        let threads = watch.start(scope, workers, scenario.length)?;
        let window = match scenario.length {
            Length::Time { warmup, measured } => watch.window(warmup, measured),
            Length::Count(_) | Length::Backlog => None,
        };
        if let Length::Time { .. } = scenario.length {
            shared::raise(&watch.signals.stop);
        }
        let mut latencies = Latencies::new();
        let mut errors = Vec::new();
        let mut last_ns = 0;
        for thread in threads {
            let (turn, error) = thread
                .join()
                .map_err(|_| anyhow::anyhow!("a thread panicked"))?;
            latencies.merge(&turn.latencies);
            errors.extend(error.map(|error| error.to_string()));
            last_ns = last_ns.max(turn.last_ns);
        }
        let whole = || {
            let end = watch.look();
            let at_ns = last_ns;
            (start, Look { at_ns, ..end })
        };
        let (from, to) = window.unwrap_or_else(whole);
        let count = to.done - from.done;
        let process = match from.usage.zip(to.usage) {
            Some((Ok(from), Ok(to))) => Some(ProcessFigures::between(from, to, count)),
            Some((Err(error), _) | (_, Err(error))) => {
                errors.push(Process::lost(&error));
                None
            }
            None => None,
        };
        Ok(Measured {
            count,
            seconds: to.at_ns.saturating_sub(from.at_ns) as f64 / 1e9,
            latencies,
            process,
            errors,
        })
    })
}

/// The supervisor's view of the workers.
#[derive(Debug)]
struct Watch<'a> {
    clock: Clock,
    signals: Signals,
    counters: Vec<ProducerCounters>,
    process: Option<&'a Process>,
}

/// What was done and used up to a moment.
#[derive(Debug)]
struct Look {
    at_ns: u64,
    done: u64,
    usage: Option<io::Result<Usage>>,
}

type Ended<'a> = (Turn<'a>, Option<ClientError>);

impl Watch<'_> {
    fn start<'scope, W: Worker>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        workers: &'scope mut [W],
        length: Length,
    ) -> io::Result<Vec<ScopedJoinHandle<'scope, Ended<'scope>>>> {
        let threads = u16::try_from(workers.len()).unwrap_or(u16::MAX);
        if !matches!(length, Length::Time { .. }) {
            // All of it is measured.
            self.signals.window_start_ns.store(0, Ordering::Relaxed);
        }
        let started = (0..).zip(workers).zip(&self.counters);
        let started = started.map(|((number, worker), counters)| {
            let mut turn = Turn {
                clock: self.clock,
                signals: &self.signals,
                counters,
                left: match length {
                    Length::Count(count) => Scenario::share(count, number, threads),
                    Length::Time { .. } | Length::Backlog => u64::MAX,
                },
                done: 0,
                last_ns: 0,
                latencies: Latencies::new(),
            };
            thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn_scoped(scope, move || {
                    let error = worker.work(&mut turn).err();
                    if error.is_some() {
                        shared::raise(&turn.signals.failed);
                        shared::raise(&turn.signals.stop);
                    }
                    (turn, error)
                })
        });
        let started: io::Result<Vec<_>> = started.collect();
        if started.is_err() {
            shared::raise(&self.signals.stop);
        }
        started
    }

    fn look(&self) -> Look {
        let done = self.counters.iter().map(|one| shared::read(&one.published));
        Look {
            at_ns: self.clock.now_ns(),
            done: done.sum(),
            usage: self.process.map(Process::usage),
        }
    }

    /// Waits for the two ends of what is measured; `None` if a worker failed before.
    fn window(&self, warmup: Duration, measured: Duration) -> Option<(Look, Look)> {
        let from_ns = self.clock.now_ns() + nanoseconds(warmup);
        self.signals
            .window_start_ns
            .store(from_ns, Ordering::Relaxed);
        self.wait_until(from_ns)?;
        let from = self.look();
        self.wait_until(from_ns + nanoseconds(measured))?;
        Some((from, self.look()))
    }

    fn wait_until(&self, until_ns: u64) -> Option<()> {
        loop {
            let left_ns = until_ns.saturating_sub(self.clock.now_ns());
            if left_ns == 0 {
                return Some(());
            }
            if shared::raised(&self.signals.failed) {
                return None;
            }
            thread::sleep(Duration::from_nanos(left_ns).min(TICK));
        }
    }
}

const TICK: Duration = Duration::from_millis(10);
