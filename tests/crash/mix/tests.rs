//! What the ledger of queues with features finds, and what it lets pass.

use std::time::{Duration, Instant};

use super::super::body::MessageId;
use super::super::written::Written;
use super::ledger::{Ledger, Seen, Verdict};
use super::order::Reader;
use super::{Features, Label, Place, wall};

const OLD: Duration = Duration::from_secs(10);

/// A ledger whose queue 0 has these features.
struct Trial(Ledger);

fn trial(features: Features) -> Trial {
    let mut all = <[Features; super::MIXES]>::default();
    all[0] = features;
    Trial(Ledger::new(all))
}

fn dead_letters() -> Features {
    Features {
        dead_letters: true,
        ..Features::default()
    }
}

fn id(sequence: u64) -> MessageId {
    MessageId {
        producer: 1,
        sequence,
    }
}

impl Trial {
    fn publish(&mut self, sequence: u64, label: Label) {
        self.0.publish(0, id(sequence), 20, label);
        self.0.answered(0, id(sequence), true);
    }

    fn see(&mut self, sequence: u64, place: Place, redelivered: bool, reader: Reader) {
        self.0.deliver(Seen {
            queue: 0,
            place,
            body: &id(sequence).body(20),
            redelivered,
            reader,
        });
    }

    fn source(&mut self, sequence: u64, redelivered: bool) {
        self.see(sequence, Place::Source, redelivered, Reader::Alone);
    }

    fn grave(&mut self, sequence: u64) {
        self.see(sequence, Place::Grave, false, Reader::Alone);
    }

    fn settle(&mut self, sequence: u64, place: Place, verdict: Verdict, number: usize) {
        let settlement = self.0.settle(0, place, id(sequence), verdict, number);
        self.0.settled(0, &[settlement]);
    }

    fn crash(&mut self, later: Duration) {
        self.0
            .ended(Instant::now() + later, true, Written::default());
    }

    /// What was found since this was asked last.
    fn found(&mut self) -> String {
        self.0.findings().collect::<Vec<_>>().join("; ")
    }

    #[track_caller]
    fn finds(&mut self, what: &str) {
        let found = self.found();
        assert!(found.contains(what), "'{found}' and not '{what}'");
    }

    #[track_caller]
    fn finds_nothing(&mut self) {
        assert_eq!(self.found(), "");
    }
}

#[test]
fn a_letter_is_in_one_of_its_two_queues() {
    let mut trial = trial(dead_letters());
    trial.publish(1, Label::default());
    trial.source(1, false);
    trial.settle(1, Place::Source, Verdict::Reject, 0);
    trial.grave(1);
    trial.finds_nothing();
    // It was not written down yet: the rejection is forgotten.
    trial.crash(Duration::ZERO);
    assert_eq!(trial.0.missing(0), Some(id(1)));
    trial.source(1, true);
    assert_eq!(trial.0.missing(0), None);
    trial.finds_nothing();
    trial.grave(1);
    trial.finds("is in both queues");
}

#[test]
fn a_letter_does_not_return() {
    let mut trial = trial(dead_letters());
    trial.publish(1, Label::default());
    trial.source(1, false);
    trial.settle(1, Place::Source, Verdict::Reject, 0);
    trial.source(1, true);
    trial.finds("was rejected");
    trial.settle(1, Place::Source, Verdict::Reject, 0);
    trial.grave(1);
    trial.crash(OLD);
    trial.finds_nothing();
    trial.source(1, true);
    trial.finds("is back from its grave");
}

#[test]
fn nothing_dies_without_a_cause() {
    let mut trial = trial(dead_letters());
    trial.publish(1, Label::default());
    trial.grave(1);
    trial.finds("is dead without a cause");
    let expiration = Some(5);
    trial.publish(
        2,
        Label {
            expiration,
            ..Label::default()
        },
    );
    trial.grave(2);
    trial.finds_nothing();
}

#[test]
fn what_was_confirmed_must_be_found() {
    let mut trial = trial(Features::default());
    trial.publish(1, Label::default());
    trial.0.publish(0, id(2), 20, Label::default());
    trial.0.drained(0);
    trial.finds("lost: 1 confirmed");
    // The other one may be on its way.
    trial.source(2, false);
    trial.finds_nothing();
}

#[test]
fn acks_may_be_forgotten_only_when_young() {
    for (age, found) in [(Duration::ZERO, ""), (OLD, "was settled")] {
        let mut trial = trial(Features::default());
        trial.publish(1, Label::default());
        trial.source(1, false);
        trial.settle(1, Place::Source, Verdict::Ack, 0);
        trial.crash(age);
        trial.source(1, true);
        trial.finds(found);
    }
}

#[test]
fn what_was_refused_is_not_there() {
    for (refused_last, found) in [(true, "refused by mix-0"), (false, "")] {
        let mut trial = trial(Features::default());
        trial.0.publish(0, id(1), 20, Label::default());
        trial.source(1, false);
        let failed = Instant::now();
        trial.0.answered(0, id(1), false);
        // By a store that had failed before, or by a full queue.
        let at = if refused_last {
            Instant::now() + OLD
        } else {
            failed
        };
        trial.0.ended(at, true, Written::default());
        trial.finds(found);
        // The next end has nothing to do with it.
        trial.crash(OLD);
        trial.finds_nothing();
    }
}

#[test]
fn nothing_comes_before_its_time() {
    let mut trial = trial(Features {
        retry_ms: Some(60_000),
        ..Features::default()
    });
    let delayed = Label {
        delay: Some(60_000),
        sent: wall(),
        ..Label::default()
    };
    trial.publish(1, delayed);
    trial.source(1, false);
    trial.finds("is early by");
    trial.publish(2, Label::default());
    trial.source(2, false);
    trial.settle(2, Place::Source, Verdict::Return, 0);
    trial.crash(OLD);
    trial.source(2, true);
    trial.finds("ms too early");
    // One that may have been forgotten.
    trial.settle(2, Place::Source, Verdict::Return, 0);
    trial.crash(Duration::ZERO);
    trial.source(2, true);
    trial.finds_nothing();
}

#[test]
fn the_expired_are_not_got() {
    let mut trial = trial(dead_letters());
    let expiration = Some(5);
    for sequence in [1, 2] {
        trial.publish(
            sequence,
            Label {
                expiration,
                ..Label::default()
            },
        );
    }
    let asked = wall();
    trial.see(1, Place::Source, false, Reader::Getter { asked });
    trial.finds_nothing();
    let asked = wall() + 1_000;
    trial.see(2, Place::Source, false, Reader::Getter { asked });
    trial.finds("has expired");
}

#[test]
fn of_a_group_one_is_out_and_in_order() {
    let mut trial = trial(Features {
        groups: true,
        ..Features::default()
    });
    let group = |group| Label {
        group: Some(group),
        ..Label::default()
    };
    for (sequence, of) in [(1, 1), (2, 1), (3, 2), (4, 1)] {
        trial.publish(sequence, group(of));
    }
    let see = |trial: &mut Trial, sequence, number| {
        trial.see(sequence, Place::Source, false, Reader::OneOf(number));
    };
    see(&mut trial, 1, 0);
    see(&mut trial, 3, 1);
    trial.finds_nothing();
    see(&mut trial, 2, 1);
    trial.finds("of the same group 1 is out");
    trial.settle(1, Place::Source, Verdict::Ack, 0);
    trial.settle(2, Place::Source, Verdict::Return, 1);
    see(&mut trial, 4, 0);
    trial.settle(4, Place::Source, Verdict::Ack, 0);
    trial.finds_nothing();
    trial.see(2, Place::Source, true, Reader::OneOf(1));
    trial.finds("out of order in group 1");
}

#[test]
fn a_single_active_consumer_gets_everything_in_order() {
    let mut trial = trial(Features {
        single_active: true,
        ..Features::default()
    });
    for sequence in 1..=5 {
        trial.publish(sequence, Label::default());
    }
    for sequence in [1, 2] {
        trial.see(sequence, Place::Source, false, Reader::OneOf(0));
    }
    trial.see(3, Place::Source, false, Reader::OneOf(1));
    trial.finds("1 gets it while 0 is active");
    trial.0.leave(0, 0, &[id(1), id(2)]);
    for sequence in [1, 2] {
        trial.see(sequence, Place::Source, true, Reader::OneOf(1));
    }
    trial.finds_nothing();
    trial.0.leave(0, 1, &[id(1), id(2)]);
    trial.see(2, Place::Source, true, Reader::OneOf(0));
    trial.see(1, Place::Source, true, Reader::OneOf(0));
    trial.finds("out of order, after 2");
}

#[test]
fn what_one_that_ends_gives_to_others_is_not_judged() {
    let mut trial = trial(dead_letters());
    trial.publish(1, Label::default());
    trial.see(1, Place::Source, false, Reader::OneOf(0));
    let at = Instant::now();
    trial.see(1, Place::Source, true, Reader::OneOf(1));
    trial.settle(1, Place::Source, Verdict::Ack, 1);
    // The first one has not noticed.
    trial.settle(1, Place::Source, Verdict::Reject, 0);
    trial.0.ended(at, false, Written::default());
    trial.finds_nothing();
    trial.source(1, true);
    trial.finds("was settled");
}
