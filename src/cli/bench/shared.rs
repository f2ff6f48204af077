//! What the threads of a run share: a clock, a few flags and counters.
//!
//! Each counter has one writer, its thread, and sits in a cache line of its own; the
//! supervisor only reads. Nothing here is ever waited for.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Nanoseconds since the run began.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// Starts at 0.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time now.
    #[inline]
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Flags from the supervisor to the threads and back.
#[derive(Debug)]
pub struct Signals {
    /// No more new messages: producers write what they have begun and wait for confirms.
    pub stop: AtomicBool,
    /// Every thread closes its connection and ends.
    pub finish: AtomicBool,
    /// A thread met an error and has ended.
    pub failed: AtomicBool,
    /// Messages due from here on count for the latencies.
    pub window_start_ns: AtomicU64,
    /// Consumers that the broker has confirmed.
    pub attached: AtomicU64,
}

impl Signals {
    /// Nothing has happened and nothing is measured yet.
    pub fn new() -> Self {
        Self {
            stop: AtomicBool::new(false),
            finish: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            window_start_ns: AtomicU64::new(u64::MAX),
            attached: AtomicU64::new(0),
        }
    }
}

/// What one producer has done so far.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ProducerCounters {
    /// Messages written to the socket.
    pub published: AtomicU64,
    /// Messages that the broker has acked.
    pub confirmed: AtomicU64,
    /// Nothing is left to write, and no confirm is due.
    pub quiet: AtomicBool,
}

/// What one consumer has done so far.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ConsumerCounters {
    /// Deliveries.
    pub consumed: AtomicU64,
    /// Messages seen for the first time.
    pub fresh: AtomicU64,
}

/// A duration on that clock.
pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 4)
}

/// Reads a flag.
#[inline]
pub fn raised(flag: &AtomicBool) -> bool {
    flag.load(Ordering::Relaxed)
}

/// Raises a flag.
pub fn raise(flag: &AtomicBool) {
    flag.store(true, Ordering::Relaxed);
}

/// Shows a counter's new value; the caller is its only writer.
#[inline]
pub fn show(counter: &AtomicU64, value: u64) {
    counter.store(value, Ordering::Relaxed);
}

/// Reads a counter.
pub fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
