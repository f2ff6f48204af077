//! Delivery limits, retries and groups.

use super::*;
use crate::model::{Growth, Retry, RetryOf};

#[test]
fn a_delivery_limit_of_n_allows_n_redeliveries() {
    for limit in 0..3 {
        let mut bench = Bench::with(QueueRules {
            delivery_limit: Some(limit),
            ..rules()
        });
        bench.consume(1);
        bench.publish(&plain());
        let mut seen = 0;
        while !bench.delivered.is_empty() {
            assert_eq!(bench.delivered[0].deliveries, seen);
            seen += 1;
            bench.settle(REFUSED);
        }
        assert_eq!(seen, limit + 1);
        assert_eq!(bench.dead(), [(0, DeathReason::DeliveryLimit)]);
    }
}

#[test]
fn each_retry_waits_longer() {
    let mut bench = Bench::with(retrying(Growth::Factor(2.0)));
    bench.consume(1);
    bench.publish(&plain());
    for delay in [10, 20, 40, 50, 50] {
        assert_eq!(bench.delivered.len(), 1);
        bench.settle(REFUSED);
        bench.advance(delay - 1);
        assert_eq!(bench.delivered.len(), 0, "never early");
        bench.advance(1);
    }
}

#[test]
fn others_pass_what_is_tried_again_later() {
    let mut bench = Bench::with(retrying(Growth::Linear));
    bench.consume(1);
    bench.publish_all(&[plain(), plain()]);
    bench.settle(REFUSED);
    assert_eq!(bench.delivered(), [1]);
}

#[test]
fn of_a_group_one_message_is_out_at_a_time() {
    let mut bench = Bench::with(grouped());
    bench.consume(9);
    bench.publish_all(&[of_group(1), of_group(1), of_group(2), plain(), plain()]);
    let first = bench.delivered[0].unsettled;
    assert_eq!(bench.delivered(), [0, 2, 3, 4]);
    bench
        .queue
        .settle(first.as_slice(), Outcome::Ack, at(START));
    bench.do_duty();
    assert_eq!(bench.delivered(), [1]);
}

#[test]
fn a_group_waits_for_its_message_that_is_tried_again_later() {
    let mut bench = Bench::with(QueueRules {
        group_header: grouped().group_header,
        ..retrying(Growth::Linear)
    });
    bench.consume(1);
    bench.publish_all(&[of_group(1), of_group(1), of_group(2)]);
    bench.settle(REFUSED);
    assert_eq!(bench.delivered.len(), 1);
    assert_eq!(number(&bench.delivered[0].message), 2);
    bench.settle(Outcome::Ack);
    assert!(bench.delivered().is_empty());
    bench.advance(10);
    assert_eq!(number(&bench.delivered[0].message), 0);
    bench.settle(Outcome::Ack);
    assert_eq!(bench.delivered(), [1]);
}

#[test]
fn a_consumer_is_not_passed_over_for_a_group_that_waits() {
    let mut bench = Bench::with(grouped());
    let first = bench.consume(9);
    bench.publish(&of_group(1));
    let second = bench.consume(9);
    bench.delivered();
    let mut takers = Vec::new();
    for _ in 0..4 {
        bench.publish(&of_group(1));
        bench.publish(&plain());
        takers.extend(bench.delivered.drain(..).map(|one| one.consumer));
    }
    assert_eq!(takers, [first, second, first, second]);
}

fn grouped() -> QueueRules {
    QueueRules {
        group_header: Some("group".into()),
        ..QueueRules::default()
    }
}

fn retrying(growth: Growth) -> QueueRules {
    QueueRules {
        retry: Some(Retry {
            delay: 10,
            growth,
            max_delay: 50,
            jitter: 0.0,
            of: RetryOf::All,
        }),
        ..QueueRules::default()
    }
}
