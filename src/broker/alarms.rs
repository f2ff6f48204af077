//! What the machine runs short of. While an alarm holds, connections that
//! publish are not read; whoever only consumes goes on, and so makes room.
//!
//! A connection that begins to publish asks to be nudged and then looks, in
//! this order: a change before the look is seen, one after it nudges.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use foldhash::HashMap;
use parking_lot::Mutex;

use crate::model::ConnectionId;

use super::notices::Event;
use super::{Notices, Outbox};

/// Something that there is too little of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Alarm {
    /// The broker uses more memory than it may.
    Memory,
    /// The data directory's file system is nearly full.
    Disk,
}

/// The alarms that hold at a moment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct AlarmSet(u8);

/// A node's alarms and the connections that they concern.
#[derive(Debug)]
pub struct Alarms {
    raised: AtomicU8,
    publishers: Mutex<HashMap<ConnectionId, Arc<Outbox>>>,
    notices: Arc<Notices>,
}

impl Alarms {
    pub(super) fn new(notices: Arc<Notices>) -> Self {
        Self {
            raised: AtomicU8::new(0),
            publishers: Mutex::default(),
            notices,
        }
    }

    /// Raises an alarm; nothing new if it holds already.
    pub fn raise(&self, alarm: Alarm) {
        let before = self.raised.fetch_or(alarm.bit(), Ordering::AcqRel);
        if before & alarm.bit() == 0 {
            self.notices
                .tell(|node| Event::alarm_set(alarm.source(), node));
            self.nudge_publishers();
        }
    }

    /// Ends an alarm; nothing new if it does not hold.
    pub fn clear(&self, alarm: Alarm) {
        let before = self.raised.fetch_and(!alarm.bit(), Ordering::AcqRel);
        if before & alarm.bit() != 0 {
            self.notices
                .tell(|node| Event::alarm_cleared(alarm.source(), node));
            self.nudge_publishers();
        }
    }

    /// Whether any alarm holds.
    #[must_use]
    pub fn any(&self) -> bool {
        !self.raised().is_empty()
    }

    /// Those that hold.
    #[must_use]
    pub fn raised(&self) -> AlarmSet {
        AlarmSet(self.raised.load(Ordering::Acquire))
    }

    /// A connection begins to publish: it is nudged at every change. To be
    /// called before it looks at [`Alarms::raised`].
    pub fn add_publisher(&self, outbox: &Arc<Outbox>) {
        let mut publishers = self.publishers.lock();
        publishers.insert(outbox.connection(), Arc::clone(outbox));
    }

    /// A connection has ended.
    pub fn remove_publisher(&self, connection: ConnectionId) {
        self.publishers.lock().remove(&connection);
    }

    fn nudge_publishers(&self) {
        for outbox in self.publishers.lock().values() {
            outbox.nudge();
        }
    }
}

impl AlarmSet {
    /// Whether none holds.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The reason of `connection.blocked`; `None` if no alarm holds.
    #[must_use]
    pub fn reason(self) -> Option<&'static str> {
        let holds = |alarm: Alarm| self.0 & alarm.bit() != 0;
        match (holds(Alarm::Memory), holds(Alarm::Disk)) {
            (true, true) => Some("low on memory & low on disk"),
            (true, false) => Some("low on memory"),
            (false, true) => Some("low on disk"),
            (false, false) => None,
        }
    }
}

impl Alarm {
    /// What events call it.
    fn source(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "disk",
        }
    }

    fn bit(self) -> u8 {
        match self {
            Self::Memory => 1,
            Self::Disk => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Clock;
    use super::*;

    #[test]
    fn alarms_come_and_go_each_by_itself() {
        let alarms = Alarms::new(Arc::new(Notices::new(Clock::start())));
        assert_eq!(alarms.raised().reason(), None);
        assert!(!alarms.any());
        type Change = fn(&Alarms, Alarm);
        for (change, alarm, reason) in [
            (Alarms::raise as Change, Alarm::Disk, Some("low on disk")),
            (Alarms::raise, Alarm::Disk, Some("low on disk")),
            (
                Alarms::raise,
                Alarm::Memory,
                Some("low on memory & low on disk"),
            ),
            (Alarms::clear, Alarm::Disk, Some("low on memory")),
            (Alarms::clear, Alarm::Disk, Some("low on memory")),
            (Alarms::clear, Alarm::Memory, None),
        ] {
            change(&alarms, alarm);
            assert_eq!(alarms.raised().reason(), reason);
            assert_eq!(alarms.any(), reason.is_some());
        }
    }
}
