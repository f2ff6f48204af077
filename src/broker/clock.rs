//! The broker's clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::model::Now;

/// The time since 1970, read off the machine's clock once: a step of that clock
/// while the broker runs moves no deadline.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    at_start: Duration,
}

impl Clock {
    /// A clock that begins now.
    #[must_use]
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
            // A machine that thinks it is before 1970 has no better answer.
            at_start: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
        }
    }

    /// The moment.
    #[must_use]
    pub fn now(&self) -> Now {
        Now(self.at_start + self.started.elapsed())
    }
}
