//! Publisher confirms (an extension of RabbitMQ): each publish of a
//! channel in confirm mode is acked or nacked once, in the order of the numbers.
//!
//! ```text
//! handed over ─confirm_published─▶ acked                 (nothing to wait for)
//!                    └─▶ waiting ─settle_confirms─▶ acked or nacked
//! ```
//!
//! Invariant: `answered <= noted <= handed_over`, and what waits covers
//! just the numbers behind `answered` up to `noted`.

use std::collections::VecDeque;

use leveret_protocol::method::{BasicAck, BasicNack};

use crate::model::{Progress, PublishSeqNo, Ticket, Verdict};

use super::channel::{Channel, Mode};
use super::{Output, Session};

/// Publisher confirms of one channel.
#[derive(Debug, Default)]
pub(super) struct Confirms {
    handed_over: PublishSeqNo,
    /// Up to here it is known what the publishes wait for.
    noted: PublishSeqNo,
    answered: PublishSeqNo,
    /// What the publishes behind `answered` wait for, in their order.
    waiting: VecDeque<Waiting>,
}

/// Publishes from the previous entry's end up to and with `up_to`.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    up_to: PublishSeqNo,
    ticket: Ticket,
}

impl Session {
    /// Says what the publishes handed over since the last call wait for: they
    /// are confirmed at once if it is nothing, neither for them nor for those
    /// before them on their channel; otherwise by [`Session::settle_confirms`].
    pub fn confirm_published(&mut self, ticket: Ticket) {
        for key in self.unconfirmed.drain(..) {
            let Some(Channel {
                number,
                mode: Mode::Confirm(confirms),
                ..
            }) = self.channels.get_mut(key)
            else {
                continue;
            };
            if ticket == Ticket(0) && !confirms.waits() {
                confirms.noted = confirms.handed_over;
                let up_to = confirms.noted;
                confirms.answer(up_to, Verdict::Stored, *number, &mut self.output);
            } else {
                let first = !confirms.waits();
                confirms.wait_for(ticket);
                if first && confirms.waits() {
                    self.waiting.push(key);
                }
            }
        }
    }

    /// Whether publishes wait for the store: their confirms come by
    /// [`Session::settle_confirms`].
    #[must_use]
    pub fn waits_for_store(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Confirms what the store has decided: acks for what is stored, nacks for
    /// what failed, as few of them as the order allows.
    pub fn settle_confirms(&mut self, progress: &Progress) {
        let (channels, output) = (&mut self.channels, &mut self.output);
        self.waiting.retain(|key| match channels.get_mut(*key) {
            Some(Channel {
                number,
                mode: Mode::Confirm(confirms),
                ..
            }) => {
                confirms.settle(progress, *number, output);
                confirms.waits()
            }
            // It ends, and awaits nothing any more.
            _ => false,
        });
    }
}

impl Confirms {
    /// Counts a publish; `true` if it is the first since what they wait for
    /// was noted.
    pub(super) fn hand_over(&mut self) -> bool {
        let first = self.handed_over == self.noted;
        self.handed_over.0 += 1;
        first
    }

    /// Takes the last publish back: it was refused and is never confirmed.
    pub(super) fn refuse_last(&mut self) {
        debug_assert!(
            self.handed_over > self.noted,
            "it was handed over a moment ago"
        );
        self.handed_over.0 -= 1;
    }

    fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn wait_for(&mut self, ticket: Ticket) {
        if self.noted == self.handed_over {
            return;
        }
        self.noted = self.handed_over;
        let up_to = self.noted;
        match self.waiting.back_mut() {
            Some(last) if last.ticket == ticket => last.up_to = up_to,
            _ => self.waiting.push_back(Waiting { up_to, ticket }),
        }
    }

    fn settle(&mut self, progress: &Progress, number: u16, output: &mut Output) {
        let mut run = None;
        while let Some(first) = self.waiting.front() {
            let verdict = progress.verdict(first.ticket);
            if verdict == Verdict::Pending {
                break;
            }
            if let Some((up_to, of_run)) = run
                && of_run != verdict
            {
                self.answer(up_to, of_run, number, output);
            }
            run = self.waiting.pop_front().map(|one| (one.up_to, verdict));
        }
        if let Some((up_to, verdict)) = run {
            self.answer(up_to, verdict, number, output);
        }
    }

    /// Answers all publishes up to there in one frame.
    fn answer(&mut self, up_to: PublishSeqNo, verdict: Verdict, number: u16, output: &mut Output) {
        let count = up_to.0 - self.answered.0;
        self.answered = up_to;
        let (delivery_tag, multiple) = (up_to.0, count > 1);
        match verdict {
            _ if count == 0 => {}
            Verdict::Stored => {
                let ack = BasicAck {
                    delivery_tag,
                    multiple,
                };
                output.method(number, &ack);
            }
            Verdict::Failed => {
                let nack = BasicNack {
                    delivery_tag,
                    multiple,
                    requeue: false,
                };
                output.method(number, &nack);
            }
            Verdict::Pending => debug_assert!(false, "what is pending has no answer yet"),
        }
    }
}
