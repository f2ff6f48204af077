//! Segments of which little is left. A segment's file goes once everything in it
//! is settled, so single messages that stay for long would hold the room of all
//! the others that went. What is left of such files is therefore written again,
//! into files of its own, so that segments take no more than about twice the room
//! of what is alive in them.
//!
//! Rounds go over all segments, a few at each look, and then the emptiest files
//! are moved, one at a time. Those from which much has just been settled are left
//! alone: they are likely to go by themselves.

use std::time::{Duration, Instant};

use crate::model::{QueueId, SequenceRange};

use super::ledger::{Ledger, SegmentUse};

/// Which segments are worth moving. Kept by the log's thread.
#[derive(Debug)]
pub(super) struct Sparse {
    /// Octets that may be wasted beside as many as are used.
    slack_bytes: u64,
    next_round: Instant,
    /// Segments that this round has not looked at.
    to_look_at: Vec<(QueueId, u64)>,
    found: Vec<Found>,
    /// What the last round found worth moving, the emptiest last.
    to_move: Vec<Found>,
    moving: Option<(QueueId, u64)>,
}

#[derive(Clone, Copy, Debug)]
struct Found {
    queue: QueueId,
    file: u64,
    is: SegmentUse,
}

/// A segment to be moved.
#[derive(Debug)]
pub(super) struct Move {
    pub(super) queue: QueueId,
    pub(super) file: u64,
    /// What is not settled in it.
    pub(super) places: Vec<SequenceRange>,
    /// How many pages these are of.
    pub(super) pages: u64,
}

impl Sparse {
    pub(super) fn new(segment_bytes: u64) -> Self {
        Self {
            slack_bytes: segment_bytes * SLACK_SEGMENTS,
            next_round: Instant::now(),
            to_look_at: Vec::new(),
            found: Vec::new(),
            to_move: Vec::new(),
            moving: None,
        }
    }

    /// Looks at a few segments; the next one to be moved.
    pub(super) fn look(&mut self, ledger: &mut Ledger) -> Option<Move> {
        if let Some((queue, file)) = self.moving {
            if ledger.is_moving(queue, file) {
                return None;
            }
            self.moving = None;
        }
        if let Some(Found { queue, file, .. }) = self.to_move.pop() {
            self.moving = Some((queue, file));
            let (places, pages) = ledger.begin_move(queue, file)?;
            return Some(Move {
                queue,
                file,
                places,
                pages,
            });
        }
        if self.to_look_at.is_empty() {
            let now = Instant::now();
            if now < self.next_round {
                return None;
            }
            self.next_round = now + ROUND_EVERY;
            self.to_look_at.extend(ledger.segments());
            self.found.clear();
        }
        let mut pieces = 0;
        while pieces < PIECES
            && let Some((queue, file)) = self.to_look_at.pop()
        {
            pieces += PIECES / SEGMENTS;
            if let Some(is) = ledger.look_at(queue, file) {
                pieces += is.pieces;
                self.found.push(Found { queue, file, is });
            }
        }
        if self.to_look_at.is_empty() {
            self.to_move = worth_moving(&mut self.found, self.slack_bytes);
        }
        None
    }
}

/// The files that have to be moved for no more to be wasted than used.
fn worth_moving(found: &mut Vec<Found>, slack_bytes: u64) -> Vec<Found> {
    let used: u64 = found.iter().map(|one| one.is.live_bytes).sum();
    let total: u64 = found.iter().map(|one| one.is.file_bytes).sum();
    let mut wasted = total.saturating_sub(used);
    found.retain(|one| one.is.at_rest && one.is.live_bytes < one.is.file_bytes / 2);
    found.sort_by_key(|one| one.is.live_bytes * 1_000 / one.is.file_bytes.max(1));
    let mut chosen = Vec::new();
    for one in found.drain(..) {
        if wasted <= used + slack_bytes {
            break;
        }
        wasted -= one.is.file_bytes - one.is.live_bytes;
        chosen.push(one);
    }
    chosen.reverse();
    chosen
}

/// Segments' worth of octets that may be wasted in any case.
const SLACK_SEGMENTS: u64 = if cfg!(test) { 1 } else { 4 };
/// How often all segments are looked at, at most.
const ROUND_EVERY: Duration = Duration::from_millis(if cfg!(test) { 5 } else { 5_000 });
/// How many are looked at each time, and pieces of them: group commits wait for
/// it.
const SEGMENTS: usize = 32;
const PIECES: usize = 4_096;
