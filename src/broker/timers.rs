//! Wakes queues when something in them is due.
//!
//! A queue is entered with the earliest moment that it named; one that names a
//! later moment afterwards is woken once in vain and says so then. So a queue
//! whose next deadline moves with every message is entered once for each that
//! passes.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::model::QueueId;

use super::{Node, QueueHost, Wakes};

/// The queues that are to be woken.
#[derive(Debug, Default)]
pub(super) struct Timers {
    entries: Mutex<BTreeMap<(u64, QueueId), Weak<QueueHost>>>,
    earlier: Notify,
}

impl Timers {
    /// Has a queue woken at that moment, in milliseconds since 1970, instead of
    /// at `before`.
    pub fn enter(&self, host: &Arc<QueueHost>, due: u64, before: Option<u64>) {
        let key = (due, host.id());
        let mut entries = self.entries.lock();
        if let Some(before) = before {
            entries.remove(&(before, host.id()));
        }
        entries.insert(key, Arc::downgrade(host));
        let is_first = entries.keys().next() == Some(&key);
        drop(entries);
        if is_first {
            self.earlier.notify_one();
        }
    }

    /// A queue is gone that would have been woken at that moment.
    pub fn leave(&self, queue: QueueId, due: u64) {
        self.entries.lock().remove(&(due, queue));
    }

    /// When the next queue is to be woken.
    fn next(&self) -> Option<u64> {
        self.entries.lock().keys().next().map(|(due, _)| *due)
    }

    /// Takes out the queues that are to be woken now.
    fn take_due(&self, now: u64) -> Vec<Arc<QueueHost>> {
        let mut entries = self.entries.lock();
        let later = entries.split_off(&(now + 1, QueueId(0)));
        let due = std::mem::replace(&mut *entries, later);
        drop(entries);
        due.values().filter_map(Weak::upgrade).collect()
    }
}

/// Wakes queues until it is dropped.
pub async fn keep_time(node: Arc<Node>) {
    let timers = Arc::clone(node.ledger.timers());
    loop {
        let wait = match timers.next() {
            Some(due) => Duration::from_millis(due).saturating_sub(node.now().0),
            None => Duration::MAX,
        };
        if !wait.is_zero() {
            // A wake that came in between is kept.
            let _ = tokio::time::timeout(wait.min(LONGEST_WAIT), timers.earlier.notified()).await;
            continue;
        }
        let mut wakes = Wakes::default();
        for host in timers.take_due(node.now().millis()) {
            let unused = host.tick(node.now(), &mut wakes);
            if unused && let Some(vhost) = node.vhost(host.vhost()) {
                vhost.delete_expired_queue(&host, node.now(), &mut wakes);
            }
            wakes.fire();
        }
        // Others are to run too, where a thousand queues are due at once.
        tokio::task::yield_now().await;
    }
}

/// Bounds what a timer is set to.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);
