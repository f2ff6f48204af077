//! What waits to be announced, up to a limit.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// Notices of one sort, in order.
#[derive(Debug)]
pub(super) struct Mailbox<T> {
    waiting: Mutex<Waiting<T>>,
    dropped: AtomicU64,
}

#[derive(Debug)]
struct Waiting<T> {
    notices: VecDeque<(T, usize)>,
    bytes: usize,
}

impl<T> Mailbox<T> {
    /// Appends a notice of about that size, or drops it if it is full.
    pub(super) fn post(&self, notice: T, bytes: usize) {
        let bytes = bytes + size_of::<T>();
        let mut waiting = self.waiting.lock();
        if waiting.notices.len() >= NOTICES_MAX || waiting.bytes >= BYTES_MAX {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.bytes += bytes;
        waiting.notices.push_back((notice, bytes));
    }

    /// Takes out the oldest, as many as are announced at once.
    pub(super) fn take(&self, taken: &mut Vec<T>) {
        let mut bytes_taken = 0;
        let mut waiting = self.waiting.lock();
        while taken.len() < NOTICES_AT_ONCE
            && bytes_taken < BYTES_AT_ONCE
            && let Some((notice, bytes)) = waiting.notices.pop_front()
        {
            bytes_taken += bytes;
            waiting.bytes -= bytes;
            taken.push(notice);
        }
        if waiting.notices.is_empty() {
            waiting.notices.shrink_to(NOTICES_AT_ONCE);
        }
    }

    /// How many were dropped since it was last asked.
    pub(super) fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Self {
            waiting: Mutex::new(Waiting {
                notices: VecDeque::new(),
                bytes: 0,
            }),
            dropped: AtomicU64::new(0),
        }
    }
}

/// Notices that may wait.
const NOTICES_MAX: usize = 16 * 1024;
/// Octets of them from which on no more are taken.
const BYTES_MAX: usize = 16 * 1024 * 1024;
/// Notices that are announced with one look at each queue.
const NOTICES_AT_ONCE: usize = 1_024;
/// Octets of those after which no more are added.
const BYTES_AT_ONCE: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_the_order_and_drops_what_is_too_much() {
        for (bytes, fit) in [(0, NOTICES_MAX), (BYTES_MAX / 4, 4)] {
            let mailbox = Mailbox::default();
            for number in 0..fit + 3 {
                mailbox.post(number, bytes);
            }
            assert_eq!(mailbox.take_dropped(), 3);
            assert_eq!(mailbox.take_dropped(), 0);
            let (mut all, mut taken) = (Vec::new(), Vec::new());
            loop {
                mailbox.take(&mut taken);
                if taken.is_empty() {
                    break;
                }
                all.append(&mut taken);
            }
            assert_eq!(all, Vec::from_iter(0..fit));
            mailbox.post(7, bytes);
            assert_eq!(mailbox.take_dropped(), 0, "there is room again");
        }
    }
}
