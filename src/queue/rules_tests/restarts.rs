//! What a restart must not change.

use super::*;
use crate::model::{Page, PageTag, Sequence};

/// It waited for its time since before the restart, and its group for it: the
/// backlog never had it.
#[test]
fn a_message_that_waited_and_came_back_still_dies_in_time() {
    let rules = QueueRules {
        group_header: Some("group".into()),
        ..QueueRules::default()
    };
    let mut spec = of_group(1);
    spec.ttl = Some(100);
    let message = spec.message(0, START);
    let mut bench = Bench::restored(
        rules,
        Restored {
            next: Sequence(1),
            deliveries: [(Sequence(0), (1, START + 10))].into(),
            runs: vec![RestoredRun {
                first: Sequence(0),
                count: 1,
                stored_bytes: message.stored_bytes() as u64,
                tag: PageTag::default(),
                places: None,
                content: RestoredContent::Resident(vec![(Sequence(0), message)]),
            }],
            ..Restored::default()
        },
    );
    bench.advance(10);
    let got = bench.queue.get(false, at(bench.now)).message();
    let held = got
        .and_then(|got| got.unsettled)
        .expect("its time has come");
    let back = Outcome::Requeue {
        redelivered: true,
        refused: false,
    };
    bench.queue.settle(&[held], back, at(bench.now));
    assert_eq!(bench.queue.next_due(), Some(START + 101));
}

#[test]
fn a_message_that_is_found_to_wait_does_not_free_a_group_that_is_held() {
    let rules = QueueRules {
        group_header: Some("group".into()),
        ..QueueRules::default()
    };
    // The first one was to come later, so that the second one was out before it.
    let messages = [0, 1].map(|number| of_group(1).message(number, START));
    let page = Page {
        file: 1,
        offset: 0,
        bytes: 100,
    };
    let run = |place, content| RestoredRun {
        first: Sequence(place),
        count: 1,
        stored_bytes: messages[0].stored_bytes() as u64,
        tag: PageTag::default(),
        places: None,
        content,
    };
    let first = vec![(Sequence(0), messages[0].clone())];
    let mut bench = Bench::restored(
        rules,
        Restored {
            next: Sequence(2),
            deliveries: [(Sequence(1), (1, START + 100))].into(),
            runs: vec![
                run(0, RestoredContent::Resident(first)),
                run(1, RestoredContent::Paged(page)),
            ],
            ..Restored::default()
        },
    );
    bench.consume(2);
    let wanted = bench.queue.page_wanted(true).expect("it is read ahead");
    let loaded = Loaded::new(vec![messages[1].clone()], None);
    bench.queue.paged_in(wanted, loaded, at(bench.now));
    assert_eq!(bench.queue.counts().scheduled, 1);
    bench.advance(100);
    assert_eq!(bench.queue.counts().ready, 1);
    assert_eq!(bench.delivered.len(), 1, "the other one is still out");
    bench.settle(Outcome::Ack);
    assert_eq!(bench.delivered(), [1]);
}
