//! TTLs, schedules and the expiry of the queue.

use super::super::model_test::message::Later;
use super::*;

#[test]
fn a_ttl_of_0_lets_a_waiting_consumer_have_it() {
    let mut bench = Bench::with(QueueRules {
        message_ttl: Some(0),
        ..rules()
    });
    bench.consume(1);
    bench.publish_all(&[plain(), plain()]);
    assert_eq!(bench.delivered(), [0]);
    assert_eq!(bench.dead(), [(1, DeathReason::Expired)]);
    assert_eq!(bench.get(), None);
}

#[test]
fn a_message_dies_in_the_middle_at_its_own_time() {
    let mut bench = Bench::with(rules());
    bench.publish_all(&[plain(), expiring(10), plain(), expiring(5)]);
    bench.advance(10);
    assert_eq!(bench.dead(), [(3, DeathReason::Expired)]);
    assert_eq!(bench.queue.next_due(), Some(START + 11), "never early");
    bench.advance(1);
    assert_eq!(bench.dead(), [(1, DeathReason::Expired)]);
    assert_eq!(bench.get_all(), [0, 2]);
}

#[test]
fn the_shorter_ttl_counts_and_each_priority_has_its_own_head() {
    let mut bench = Bench::with(QueueRules {
        message_ttl: Some(10),
        max_priority: Some(5),
        ..rules()
    });
    bench.publish(&urgent(5));
    bench.publish(&plain());
    bench.advance(5);
    bench.publish(&Spec {
        ttl: Some(1),
        ..urgent(5)
    });
    bench.advance(2);
    assert_eq!(bench.dead(), [(2, DeathReason::Expired)]);
    bench.advance(4);
    let dead: Vec<u64> = bench.dead().into_iter().map(|(number, _)| number).collect();
    assert!(dead.len() == 2 && dead.contains(&0) && dead.contains(&1));
}

#[test]
fn what_is_out_does_not_die_but_may_when_it_comes_back() {
    let mut bench = Bench::with(QueueRules {
        message_ttl: Some(10),
        ..rules()
    });
    bench.consume(1);
    bench.publish(&plain());
    bench.advance(20);
    assert_eq!(bench.dead(), []);
    bench.settle(REFUSED);
    assert!(
        bench.delivered().is_empty(),
        "it was dead when it came back"
    );
    assert_eq!(bench.dead(), [(0, DeathReason::Expired)]);
}

#[test]
fn more_dead_letters_than_may_be_on_their_way_wait_and_then_go_on() {
    let mut bench = Bench::with(QueueRules {
        message_ttl: Some(10),
        ..rules()
    });
    let count = Limits::default().letters + 100;
    for _ in 0..count {
        bench.publish(&plain());
    }
    bench.advance(11);
    bench.advance(1);
    assert_eq!(
        bench.queue.letters().len() as u64,
        Limits::default().letters
    );
    assert_eq!(bench.queue.counts().ready, 100);
    assert_eq!(bench.get(), None, "what is dead is not given out");
    bench.consume(1);
    assert!(bench.delivered().is_empty());
    assert_eq!(bench.dead().len() as u64, Limits::default().letters);
    assert_eq!(bench.dead().len(), 100);
    assert_eq!(bench.queue.counts().ready, 0);
}

#[test]
fn a_queue_that_nobody_uses_is_to_go() {
    let mut bench = Bench::with(QueueRules {
        expires: Some(100),
        ..QueueRules::default()
    });
    assert_eq!(bench.queue.next_due(), Some(START + 101));
    bench.advance(50);
    assert_eq!(bench.get(), None);
    assert_eq!(bench.queue.next_due(), Some(START + 151), "it was used");
    bench.publish(&plain());
    assert_eq!(bench.queue.next_due(), Some(START + 151), "that is no use");
    let consumer = bench.consume(1);
    assert_eq!(bench.queue.next_due(), None);
    bench.advance(500);
    bench.queue.cancel(consumer, at(bench.now));
    assert!(!bench.queue.tick(at(START + 650)));
    assert!(bench.queue.tick(at(START + 651)));
}

#[test]
fn scheduled_messages_come_by_time_and_then_by_place() {
    let mut bench = Bench::with(QueueRules::default());
    for delay in [20, 10, 0, 10] {
        let later = Some(Later::After(delay));
        bench.publish(&Spec { later, ..plain() });
    }
    bench.publish(&plain());
    assert_eq!(bench.queue.counts().scheduled, 3);
    bench.advance(10);
    assert_eq!(bench.queue.counts().scheduled, 3, "never early");
    bench.advance(30);
    bench.publish(&plain());
    assert_eq!(bench.get_all(), [2, 4, 1, 3, 0, 5]);
}

#[test]
fn what_comes_to_the_head_because_others_are_set_aside_dies_in_time() {
    let mut bench = Bench::with(QueueRules {
        message_ttl: Some(16),
        group_header: Some("group".into()),
        ..QueueRules::default()
    });
    bench.consume(1);
    let later = Some(Later::After(1));
    bench.publish(&Spec { later, ..plain() });
    // It is released late, and so stands behind what dies after it.
    bench.now += 3;
    let mut messages = [1, 2]
        .map(|number| of_group(1).message(number, bench.now))
        .to_vec();
    bench.queue.publish(&mut messages, at(bench.now));
    let now = at(bench.now);
    assert!(!bench.queue.deliver(1, now, &mut bench.delivered));
    assert_eq!(bench.delivered(), [1]);
    assert_eq!(bench.queue.next_due(), Some(START + 19));
}

#[test]
fn what_had_to_wait_keeps_its_place_when_it_comes_back() {
    let mut bench = Bench::with(QueueRules::default());
    let later = Some(Later::After(5));
    bench.publish(&Spec { later, ..plain() });
    bench.publish(&plain());
    bench.advance(6);
    bench.publish(&plain());
    bench.consume(3);
    bench.settle(REFUSED);
    assert_eq!(bench.delivered(), [1, 0, 2]);
}
