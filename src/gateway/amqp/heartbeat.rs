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
    /// Whether the peer is read: otherwise it cannot be missed.
    listens: bool,
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
            listens: true,
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

    pub(super) fn listens(&self) -> bool {
        self.listens
    }

    /// The peer is read from now on, or not. It gets all its time anew.
    pub(super) fn listen(&mut self, now: Instant, listens: bool) {
        self.listens = listens;
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
        if self.listens && now >= self.last_in + interval * 5 / 2 {
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
            Some(interval) => {
                let heartbeat = deadline.min(self.last_out + interval / 2);
                if self.listens {
                    heartbeat.min(self.last_in + interval * 5 / 2)
                } else {
                    heartbeat
                }
            }
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
    fn a_peer_that_is_not_read_is_not_missed() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut pulse = Pulse::new(start, second);
        pulse.start(4);
        pulse.written(start + 100 * second);
        pulse.listen(start + second, false);
        assert_eq!(pulse.due(start + 101 * second), Due::Nothing);
        assert_eq!(pulse.next(start + 101 * second), start + 102 * second);
        assert_eq!(pulse.due(start + 102 * second), Due::Heartbeat);
        pulse.written(start + 102 * second);
        pulse.listen(start + 103 * second, true);
        assert_eq!(pulse.due(start + 103 * second), Due::Nothing);
        pulse.written(start + 112 * second);
        assert_eq!(pulse.next(start + 112 * second), start + 113 * second);
        assert_eq!(pulse.due(start + 113 * second), Due::PeerGone);
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
