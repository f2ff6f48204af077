//! The single active consumer, and consumers that are too slow.

use super::*;

#[test]
fn the_most_important_one_that_waited_longest_takes_over() {
    let mut bench = Bench::with(QueueRules {
        single_active_consumer: true,
        ..QueueRules::default()
    });
    let slots = [0, 1, 2, 2].map(|priority| bench.consume_with(1, priority));
    let [first, second, third, fourth] = slots;
    bench.publish_all(&[plain(), plain(), plain(), plain()]);
    let mut takers = Vec::new();
    for slot in [first, third, fourth, second] {
        takers.extend(bench.delivered.drain(..).map(|one| one.consumer));
        bench.queue.cancel(slot, at(START));
        bench.do_duty();
    }
    assert_eq!(takers, [first, third, fourth, second]);
    assert_eq!(bench.queue.single_active(), None);
}

#[test]
fn what_a_consumer_holds_too_long_is_taken_away() {
    let mut bench = Bench::with(QueueRules {
        consumer_timeout: Some(100),
        ..QueueRules::default()
    });
    let slow = bench.consume(1);
    bench.publish(&plain());
    let late = bench.held();
    let other = bench.consume(1);
    assert_eq!(bench.queue.next_due(), Some(START + 100));
    bench.advance(100);
    assert_eq!(bench.queue.timed_out().as_slice(), [slow]);
    let [again] = &bench.delivered[..] else {
        panic!("the other one gets it");
    };
    assert_eq!((again.consumer, again.deliveries), (other, 1));
    assert_ne!(again.unsettled, Some(late[0]), "that slot is still used");
    bench.queue.settle(&late, Outcome::Ack, at(bench.now));
    assert_eq!(bench.queue.counts().unsettled, 1, "a late ack does no harm");
    bench.settle(Outcome::Ack);
    assert_eq!(bench.queue.counts().settled, 1);
}

#[test]
fn a_message_that_is_handed_out_again_has_its_time_again() {
    let mut bench = Bench::with(QueueRules {
        consumer_timeout: Some(100),
        ..QueueRules::default()
    });
    bench.consume(1);
    bench.publish(&plain());
    bench.advance(60);
    bench.settle(REFUSED);
    bench.advance(60);
    assert_eq!(bench.queue.timed_out().as_slice(), []);
    bench.advance(40);
    assert_eq!(bench.queue.timed_out().len(), 1);
}
