//! When to send a heartbeat and when to give a peer up (AMQP 0-9-1 §4.2.7).

use std::time::{Duration, Instant};

/// The clock side of one connection: when octets last went either way.
#[derive(Debug)]
pub(super) struct Pulse {
    /// The agreed interval; `None` is no heartbeats.
    interval: Option<Duration>,
    /// Until when the handshake, or the answer to a close, may take.
    deadline: Option<Instant>,
    last_in: Instant,
    last_out: Instant,
}

/// What the time asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Due {
    Nothing,
    /// Nothing was written for half an interval.
    Heartbeat,
    /// Nothing was read for more than two intervals.
    PeerGone,
    /// The handshake or the close took too long.
    TimedOut,
}

impl Pulse {
    pub(super) fn new(now: Instant, handshake: Duration) -> Self {
        Self {
            interval: None,
            deadline: Some(now + handshake),
            last_in: now,
            last_out: now,
        }
    }

    /// The handshake is over; `seconds` between heartbeats, 0 for none.
    pub(super) fn start(&mut self, seconds: u16) {
        self.interval = (seconds > 0).then(|| Duration::from_secs(seconds.into()));
        self.deadline = None;
    }

    /// The end has begun and may take this long.
    pub(super) fn limit(&mut self, now: Instant, timeout: Duration) {
        if self
            .deadline
            .is_none_or(|deadline| deadline > now + timeout)
        {
            self.deadline = Some(now + timeout);
        }
    }

    pub(super) fn read(&mut self, now: Instant) {
        self.last_in = now;
    }

    pub(super) fn written(&mut self, now: Instant) {
        self.last_out = now;
    }

    pub(super) fn due(&self, now: Instant) -> Due {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            return Due::TimedOut;
        }
        let Some(interval) = self.interval else {
            return Due::Nothing;
        };
        if now >= self.last_in + interval * 5 / 2 {
            Due::PeerGone
        } else if now >= self.last_out + interval / 2 {
            Due::Heartbeat
        } else {
            Due::Nothing
        }
    }

    /// When to ask [`Pulse::due`] again; far off if nothing is awaited.
    pub(super) fn next(&self, now: Instant) -> Instant {
        let far = now + Duration::from_secs(3_600);
        let deadline = self.deadline.unwrap_or(far);
        match self.interval {
            Some(interval) => deadline
                .min(self.last_out + interval / 2)
                .min(self.last_in + interval * 5 / 2),
            None => deadline,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_line_gets_heartbeats_and_then_ends() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut pulse = Pulse::new(start, 10 * second);
        assert_eq!(pulse.next(start), start + 10 * second);
        assert_eq!(pulse.due(start + 10 * second), Due::TimedOut);

        pulse.start(4);
        assert_eq!(pulse.due(start + second), Due::Nothing);
        assert_eq!(pulse.next(start), start + 2 * second);
        assert_eq!(pulse.due(start + 2 * second), Due::Heartbeat);
        pulse.written(start + 2 * second);
        assert_eq!(pulse.due(start + 3 * second), Due::Nothing);
        pulse.written(start + 9 * second);
        assert_eq!(pulse.due(start + 10 * second), Due::PeerGone);
        pulse.read(start + 9 * second);
        assert_eq!(pulse.due(start + 10 * second), Due::Nothing);
    }

    #[test]
    fn without_heartbeats_only_the_handshake_has_a_deadline() {
        let start = Instant::now();
        let mut pulse = Pulse::new(start, Duration::from_secs(10));
        pulse.start(0);
        assert_eq!(
            pulse.due(start + Duration::from_secs(1_000_000)),
            Due::Nothing
        );
        pulse.limit(start, Duration::from_secs(5));
        assert_eq!(pulse.due(start + Duration::from_secs(5)), Due::TimedOut);
    }
}
