//! Messages that wait for their time are taken back.

use super::super::model_test::message::{Later, Name};
use super::*;
use crate::model::{Growth, Page, Retry, RetryOf};

#[test]
fn what_waits_is_taken_back_by_its_id() {
    let mut bench = Bench::with(QueueRules::default());
    bench.publish_all(&[later(1, 10), later(2, 10), later(1, 20), taking_back(1)]);
    assert_eq!(bench.queue.counts().scheduled, 1);
    bench.advance(30);
    assert_eq!(bench.get_all(), [1]);
}

#[test]
fn what_comes_after_the_word_or_is_ready_before_it_stays() {
    let mut bench = Bench::with(QueueRules::default());
    bench.publish(&later(1, 10));
    bench.advance(11);
    bench.publish_all(&[taking_back(1), later(1, 10)]);
    bench.advance(11);
    assert_eq!(bench.get_all(), [0, 2]);
}

#[test]
fn what_is_taken_back_while_it_is_tried_again_frees_its_group() {
    let mut bench = Bench::with(QueueRules {
        group_header: Some("group".into()),
        retry: Some(Retry {
            delay: 10,
            growth: Growth::Linear,
            max_delay: 10,
            jitter: 0.0,
            of: RetryOf::All,
        }),
        ..QueueRules::default()
    });
    bench.consume(1);
    bench.publish(&Spec {
        name: Some(Name::Id(1)),
        ..of_group(1)
    });
    bench.publish(&of_group(1));
    bench.settle(REFUSED);
    assert!(bench.delivered().is_empty(), "its group waits for it");
    bench.publish(&taking_back(1));
    assert_eq!(bench.delivered(), [1]);
    assert_eq!(bench.queue.counts().scheduled, 0);
}

#[test]
fn what_was_lost_with_its_page_is_not_taken_back_as_well() {
    let mut bench = Bench::limited(
        QueueRules::default(),
        Limits {
            run_bytes: 1,
            ..Limits::default()
        },
    );
    bench.publish_all(&[later(1, 1_000), later(2, 10)]);
    let out = bench.queue.page_out(false).expect("the later one leaves");
    let page = Page {
        file: 1,
        offset: 0,
        bytes: 100,
    };
    assert!(bench.queue.paged_out(out.first, Some(page)));
    bench.queue.tick(at(bench.now));
    let wanted = bench.queue.page_wanted(true).expect("it is due soon");
    bench
        .queue
        .paged_in(wanted, Loaded::default(), at(bench.now));
    bench.publish(&taking_back(1));
    let counts = bench.queue.counts();
    assert_eq!((counts.scheduled, counts.lost), (1, 1));
    assert_eq!(counts.settled, 1, "the word itself");
}

fn later(id: u8, delay: u64) -> Spec {
    Spec {
        name: Some(Name::Id(id)),
        later: Some(Later::After(delay)),
        ..Spec::default()
    }
}

fn taking_back(id: u8) -> Spec {
    Spec {
        takes_back: Some(id),
        ..Spec::default()
    }
}
