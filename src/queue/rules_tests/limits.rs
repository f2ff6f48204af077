//! Limits of length, and copies.

use super::super::model_test::message::Name;
use super::*;
use crate::model::{Deduplication, Overflow};

#[test]
fn a_full_queue_drops_its_head_unless_somebody_takes_it() {
    let mut bench = Bench::with(QueueRules {
        max_length: Some(1),
        ..rules()
    });
    bench.consume(1);
    bench.publish_all(&[plain(), plain(), plain()]);
    assert_eq!(bench.delivered(), [0]);
    assert_eq!(bench.dead(), [(1, DeathReason::MaxLength)]);
    assert_eq!(bench.get_all(), [2]);
}

#[test]
fn the_head_of_a_queue_with_priorities_is_the_most_urgent_one() {
    let mut bench = Bench::with(QueueRules {
        max_length: Some(2),
        max_priority: Some(9),
        ..rules()
    });
    bench.publish_all(&[plain(), urgent(3), urgent(9)]);
    assert_eq!(bench.dead(), [(2, DeathReason::MaxLength)]);
    assert_eq!(bench.get_all(), [1, 0]);
}

#[test]
fn what_comes_back_to_a_full_queue_is_its_head() {
    let mut bench = Bench::with(QueueRules {
        max_length: Some(1),
        ..rules()
    });
    let consumer = bench.consume(1);
    bench.publish_all(&[plain(), plain()]);
    bench.queue.cancel(consumer, at(START));
    bench.settle(REFUSED);
    assert_eq!(bench.dead(), [(0, DeathReason::MaxLength)]);
    assert_eq!(bench.get_all(), [1]);
}

#[test]
fn only_the_octets_of_bodies_count() {
    let mut bench = Bench::with(QueueRules {
        max_length_bytes: Some(24),
        ..rules()
    });
    bench.publish_all(&[plain(), plain(), plain()]);
    assert_eq!(bench.dead(), [], "three times eight");
    bench.publish(&Spec { size: 9, ..plain() });
    let dead: Vec<u64> = bench.dead().into_iter().map(|(number, _)| number).collect();
    assert_eq!(dead, [0, 1, 2]);
    bench.publish(&Spec {
        size: 17,
        ..plain()
    });
    let dead: Vec<u64> = bench.dead().into_iter().map(|(number, _)| number).collect();
    assert_eq!(dead, [3, 4], "one larger than the limit goes, too");
}

#[test]
fn a_limit_that_comes_later_counts_bodies_only() {
    let mut bench = Bench::with(rules());
    bench.publish_all(&[plain(), plain(), plain()]);
    let limited = QueueRules {
        max_length_bytes: Some(16),
        ..rules()
    };
    bench.queue.set_rules(limited, at(START));
    bench.do_duty();
    assert_eq!(bench.dead(), [(0, DeathReason::MaxLength)]);
}

#[test]
fn a_queue_that_refuses_decides_before_it_delivers() {
    let mut bench = Bench::with(QueueRules {
        max_length: Some(0),
        overflow: Overflow::RejectPublish,
        ..rules()
    });
    bench.consume(1);
    bench.publish(&plain());
    assert_eq!(bench.refused, [0]);
    assert_eq!((bench.delivered(), bench.dead()), (vec![], vec![]));
}

#[test]
fn what_is_refused_is_a_dead_letter_if_that_is_wanted() {
    let mut bench = Bench::with(QueueRules {
        max_length: Some(1),
        overflow: Overflow::RejectPublishDeadLetter,
        ..rules()
    });
    bench.publish_all(&[plain(), plain()]);
    assert_eq!(bench.refused, [1]);
    assert_eq!(bench.dead(), [(1, DeathReason::MaxLength)]);
    assert_eq!(bench.get_all(), [0]);
}

#[test]
fn copies_are_known_as_long_and_as_many_as_was_said() {
    let named = |name| Spec {
        name: Some(Name::Id(name)),
        ..plain()
    };
    let mut bench = Bench::with(QueueRules {
        deduplication: Some(Deduplication {
            header: "name".into(),
            count: 2,
            time: Some(10),
        }),
        ..QueueRules::default()
    });
    bench.publish_all(&[named(1), named(1), plain(), plain()]);
    assert_eq!(bench.refused, [1]);
    bench.publish_all(&[named(2), named(3), named(1)]);
    assert_eq!(bench.refused, [1], "the first name had to make room");
    bench.advance(9);
    bench.publish(&named(1));
    assert_eq!(bench.refused, [1, 7]);
    bench.advance(1);
    bench.publish(&named(1));
    assert_eq!(bench.refused, [1, 7], "its time is over");
}
