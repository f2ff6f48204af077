//! A run with one sender and its receivers, and the report of it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::bail;
use serde_json::{Value, json};

use super::receiver::{self, Received};
use super::sender;
use super::wire::{PATIENCE, Wire};
use crate::peer::Job;
use crate::processes::{POLL, Usage, cost, interrupt};
use crate::scenarios::Guests;

/// What the threads of a run share.
#[derive(Debug)]
pub struct Shared {
    /// When the run began; all times are counted from here.
    pub start: Instant,
    /// Messages due from here on count for the latencies.
    pub measured_from_ns: u64,
    /// The sender ends.
    pub stop: AtomicBool,
    /// The receivers end.
    pub finish: AtomicBool,
    /// Messages written so far.
    pub sent: AtomicU64,
    /// Messages that each receiver has seen.
    pub received: Vec<Counter>,
}

/// A counter in a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counter(pub AtomicU64);

impl Shared {
    /// Nanoseconds since the run began.
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// What the slowest receiver has seen.
    pub fn received_by_all(&self) -> u64 {
        let counters = self.received.iter();
        counters
            .map(|counter| counter.0.load(Ordering::Relaxed))
            .min()
            .unwrap_or(0)
    }

    fn totals(&self) -> (Instant, u64, u64) {
        let received = self
            .received
            .iter()
            .map(|counter| counter.0.load(Ordering::Relaxed));
        (
            Instant::now(),
            self.sent.load(Ordering::Relaxed),
            received.sum(),
        )
    }
}

/// Loads a neighbour.
///
/// # Errors
/// If it cannot be reached, or a connection breaks.
pub fn run<W: Wire>(wire: &W, pid: u32, job: &Job<'_>) -> anyhow::Result<Value> {
    let Guests::All {
        body_bytes,
        receivers,
        ..
    } = job.scenario.guests
    else {
        bail!("the scenario has no shape for a neighbour");
    };
    let mut to_peer = wire.open_sender()?;
    let from_peer = (0..receivers)
        .map(|_| wire.open_receiver(body_bytes))
        .collect::<Result<Vec<_>, _>>()?;
    let shared = Shared {
        start: Instant::now(),
        measured_from_ns: u64::try_from(job.warmup.as_nanos())?,
        stop: AtomicBool::new(false),
        finish: AtomicBool::new(false),
        sent: AtomicU64::new(0),
        received: (0..receivers).map(|_| Counter::default()).collect(),
    };
    let before = Usage::of(pid);
    let (from, to, received) = thread::scope(|scope| {
        let sender = scope.spawn(|| sender::run(wire, &mut to_peer, body_bytes, job.rate, &shared));
        let receivers: Vec<_> = (from_peer.into_iter().zip(&shared.received))
            .map(|((stream, reader), counter)| {
                let shared = &shared;
                scope.spawn(move || receiver::run(stream, reader, counter, shared))
            })
            .collect();
        interrupt::sleep(job.warmup);
        let from = shared.totals();
        interrupt::sleep(job.measured);
        let to = shared.totals();
        shared.stop.store(true, Ordering::Relaxed);
        let sent = join(sender);
        drain(&shared);
        shared.finish.store(true, Ordering::Relaxed);
        let received: Result<Vec<_>, _> = receivers.into_iter().map(join).collect();
        sent.and(received).map(|received| (from, to, received))
    })?;
    interrupt::check()?;
    let used = before.zip(Usage::of(pid));
    Ok(report(&shared, from, to, received, used))
}

/// Waits until all has arrived, or nothing moves any more.
fn drain(shared: &Shared) {
    let sent = shared.sent.load(Ordering::Relaxed);
    let mut moved = (shared.received_by_all(), Instant::now());
    while shared.received_by_all() < sent && moved.1.elapsed() < PATIENCE && !interrupt::raised() {
        thread::sleep(POLL);
        let received = shared.received_by_all();
        if received != moved.0 {
            moved = (received, Instant::now());
        }
    }
}

/// Has the shape of the report of `leveret bench`, as far as the suite looks at it.
fn report(
    shared: &Shared,
    from: (Instant, u64, u64),
    to: (Instant, u64, u64),
    received: Vec<Received>,
    used: Option<(Usage, Usage)>,
) -> Value {
    let seconds = (to.0 - from.0).as_secs_f64();
    let sent = shared.sent.load(Ordering::Relaxed);
    let mut all = Received::new();
    for one in &received {
        all.merge(one);
    }
    let lost = (sent * received.len() as u64).saturating_sub(all.messages);
    let quantile_us = |quantile: f64| all.latencies.value_at_quantile(quantile) as f64 / 1e3;
    let process = used.map(|(before, after)| cost(before, after, all.messages));
    json!({
        "passed": lost == 0 && all.out_of_order == 0,
        "published": { "messages": sent, "per_second": (to.1 - from.1) as f64 / seconds },
        "consumed": { "messages": all.messages, "per_second": (to.2 - from.2) as f64 / seconds },
        "latency": { "p50_us": quantile_us(0.5), "p99_us": quantile_us(0.99) },
        "checks": { "lost": lost, "reordered": all.out_of_order },
        "process": process,
    })
}

fn join<T>(thread: thread::ScopedJoinHandle<'_, std::io::Result<T>>) -> anyhow::Result<T> {
    match thread.join() {
        Ok(outcome) => Ok(outcome?),
        Err(_) => bail!("a thread panicked"),
    }
}
