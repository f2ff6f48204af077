//! The queues that a connection's consumers and unsettled messages belong to,
//! under small numbers, so that a delivery carries a number and not a counted
//! reference. A queue is let go with the last of them.

use std::sync::Arc;

use foldhash::HashMap;
use slab::Slab;

use crate::broker::QueueHost;
use crate::model::QueueId;

#[derive(Debug, Default)]
pub(super) struct Attachments {
    hosts: Slab<Attachment>,
    by_queue: HashMap<QueueId, u32>,
}

#[derive(Debug)]
struct Attachment {
    host: Arc<QueueHost>,
    holds: usize,
}

impl Attachments {
    /// A queue's number, held once more; to be released as often.
    pub(super) fn attach(&mut self, host: &Arc<QueueHost>) -> u32 {
        let hosts = &mut self.hosts;
        let index = *self.by_queue.entry(host.id()).or_insert_with(|| {
            hosts.insert(Attachment {
                host: Arc::clone(host),
                holds: 0,
            }) as u32
        });
        self.hold(index, 1);
        index
    }

    /// Holds a queue that is attached `count` times more.
    pub(super) fn hold(&mut self, index: u32, count: usize) {
        if let Some(attachment) = self.hosts.get_mut(index as usize) {
            attachment.holds += count;
        }
    }

    /// Releases a queue `count` times.
    pub(super) fn release(&mut self, index: u32, count: usize) {
        let Some(attachment) = self.hosts.get_mut(index as usize) else {
            return;
        };
        debug_assert!(attachment.holds >= count, "released more often than held");
        attachment.holds = attachment.holds.saturating_sub(count);
        if attachment.holds == 0 {
            self.by_queue.remove(&attachment.host.id());
            self.hosts.remove(index as usize);
        }
    }

    pub(super) fn host(&self, index: u32) -> Option<&Arc<QueueHost>> {
        self.hosts
            .get(index as usize)
            .map(|attachment| &attachment.host)
    }
}
