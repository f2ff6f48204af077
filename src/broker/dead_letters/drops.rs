//! Dead letters that come to nothing are counted, and the log says so once in a
//! while: what drops one usually drops thousands.

use std::time::{Duration, Instant};

use super::Letter;

/// Why a copy reaches no queue.
#[derive(Clone, Copy, Debug)]
pub(super) enum Drop {
    /// The exchange does not exist.
    NoExchange,
    /// It has been in that queue, and nobody rejected it since.
    Cycle,
    /// The queue is full and refuses what comes.
    Refused,
}

/// What was dropped since it was last logged, by cause.
#[derive(Debug, Default)]
pub(super) struct DropLog([Since; 3]);

#[derive(Debug, Default)]
struct Since {
    count: u64,
    logged: Option<Instant>,
}

impl DropLog {
    /// Notes that a letter was dropped on its way to `target`.
    pub(super) fn note(&mut self, why: Drop, letter: &Letter, target: &str) {
        let [no_exchange, cycle, refused] = &mut self.0;
        let (since, because) = match why {
            Drop::NoExchange => (no_exchange, "there is no such exchange"),
            Drop::Cycle => (cycle, "they have been there and nobody rejected them since"),
            Drop::Refused => (refused, "the queue is full"),
        };
        since.count += 1;
        if since.logged.is_some_and(|at| at.elapsed() < LOG_EVERY) {
            return;
        }
        since.logged = Some(Instant::now());
        let dropped = std::mem::take(&mut since.count);
        let (from, vhost) = (letter.queue.as_str(), letter.vhost.as_str());
        tracing::warn!(
            from,
            to = target,
            vhost,
            dropped,
            because,
            "dead letters are dropped"
        );
    }
}

/// How often one cause is logged.
const LOG_EVERY: Duration = Duration::from_secs(60);
