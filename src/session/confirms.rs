//! Publisher confirms (an extension of RabbitMQ): each publish of a
//! channel in confirm mode is acked or nacked once, in the order of the numbers.
//!
//! ```text
//! handed over ─confirm_published─▶ acked                 (nothing to wait for)
//!     │              └─▶ waiting ─settle_confirms─▶ acked or nacked
//!     └─nack_published─▶ waiting ─────────────────▶ nacked in its turn
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
    /// Publishes behind `noted` that a queue refused, ascending.
    refused: Vec<PublishSeqNo>,
    /// What the publishes behind `answered` wait for, in their order.
    waiting: VecDeque<Waiting>,
}

/// Publishes from the previous entry's end up to and with `up_to`.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    up_to: PublishSeqNo,
    on: On,
}

/// What an answer waits for, beside the answers before it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum On {
    /// The store, which says what the answer is.
    Store(Ticket),
    /// Nothing: it is a nack.
    Refused,
}

impl Session {
    /// A queue refused a publish that was handed over since the last
    /// [`Session::confirm_published`]; to be called before that, in the order
    /// of the numbers.
    pub fn nack_published(&mut self, channel: u16, number: PublishSeqNo) {
        if let Some(key) = self.channel_key(channel)
            && let Some(Channel {
                mode: Mode::Confirm(confirms),
                ..
            }) = self.channels.get_mut(key)
        {
            debug_assert!(
                number > confirms.noted && number <= confirms.handed_over,
                "it is of the last batch"
            );
            confirms.refused.push(number);
        }
    }

    /// Says what the publishes handed over since the last call wait for: they
    /// are confirmed at once if it is nothing, neither for them nor for those
    /// before them on their channel; otherwise by [`Session::settle_confirms`].
    /// Those that were refused are nacked in their turn.
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
            if ticket == Ticket(0) && !confirms.waits() && confirms.refused.is_empty() {
                confirms.noted = confirms.handed_over;
                let up_to = confirms.noted;
                confirms.answer(up_to, Verdict::Stored, *number, &mut self.output);
            } else {
                let first = !confirms.waits();
                let any_refused = !confirms.refused.is_empty();
                confirms.wait_for(ticket);
                if first && any_refused {
                    // What waits for no store is answered at once.
                    confirms.settle(&Progress::default(), *number, &mut self.output);
                }
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

    /// The number of the last publish that was handed over.
    pub(super) fn last(&self) -> PublishSeqNo {
        self.handed_over
    }

    fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn wait_for(&mut self, ticket: Ticket) {
        for number in std::mem::take(&mut self.refused) {
            self.note(PublishSeqNo(number.0 - 1), On::Store(ticket));
            self.note(number, On::Refused);
        }
        self.note(self.handed_over, On::Store(ticket));
    }

    /// All that is not noted yet, up to there, waits for the same.
    fn note(&mut self, up_to: PublishSeqNo, on: On) {
        if up_to <= self.noted {
            return;
        }
        self.noted = up_to;
        match self.waiting.back_mut() {
            Some(last) if last.on == on => last.up_to = up_to,
            _ => self.waiting.push_back(Waiting { up_to, on }),
        }
    }

    fn settle(&mut self, progress: &Progress, number: u16, output: &mut Output) {
        let mut run = None;
        while let Some(first) = self.waiting.front() {
            let verdict = match first.on {
                On::Store(ticket) => progress.verdict(ticket),
                On::Refused => Verdict::Failed,
            };
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
