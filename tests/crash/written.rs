//! What a broker must have written down when it died.

use std::time::{Duration, Instant};

/// How long what a consumer settled may wait until it is written.
const WRITTEN_WITHIN: Duration = Duration::from_millis(50);

/// The same with a margin for a machine with more threads than cores.
pub const ACK_SURVIVES_AFTER: Duration = Duration::from_millis(150);

/// A disk or a machine that is busy may let everything wait; not that long.
const STANDS_STILL_FOR: Duration = Duration::from_secs(1);

/// How far the log of a broker was, as its clients know.
#[derive(Clone, Copy, Debug, Default)]
pub struct Written {
    /// When a message was sent that was confirmed later.
    confirmed: Option<Instant>,
}

impl Written {
    /// A message that was sent at that moment is confirmed. It was written with
    /// all, or after all, that the broker had read before.
    pub fn confirmed(&mut self, sent: Instant) {
        self.confirmed = self.confirmed.max(Some(sent));
    }

    /// Whether a settlement that the broker had read by then survives its death
    /// at `died`: because it was written in time, and something after it was
    /// written, or would have been.
    pub fn has(&self, read: Instant, died: Instant) -> bool {
        let age = died.saturating_duration_since(read);
        let is_behind = self.confirmed.is_some_and(|sent| sent > read);
        age > STANDS_STILL_FOR || (age > WRITTEN_WITHIN && is_behind)
    }
}

#[test]
fn only_what_was_confirmed_later_shows_that_young_acks_are_written() {
    let read = Instant::now();
    let later = |milliseconds| read + Duration::from_millis(milliseconds);
    let mut written = Written::default();
    assert!(!written.has(read, later(900)));
    assert!(written.has(read, later(1_100)));
    written.confirmed(later(10));
    assert!(!written.has(read, later(40)));
    assert!(written.has(read, later(60)));
    assert!(!written.has(later(20), later(900)));
}
