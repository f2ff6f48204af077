//! The rules of paging and restoring, one by one; the model test mixes them.

use std::collections::BTreeMap;

use super::paging::Limits;
use super::*;
use crate::model::{Body, Message, Now, Page, PageTag, QueueSettings, Sequence, SequenceRange};

/// A durable queue whose runs hold two messages and whose head holds one.
fn queue() -> Queue {
    restored(Restored::default())
}

fn restored(restored: Restored) -> Queue {
    let settings = QueueSettings {
        durable: true,
        ..QueueSettings::default()
    };
    let memory_bytes = message(0).memory_bytes() as u64;
    let limits = Limits {
        run_bytes: 2 * memory_bytes,
        head_bytes: memory_bytes,
        read_ahead_bytes: 2 * memory_bytes,
        ..Limits::default()
    };
    Queue::with_limits(settings, restored, limits, NOW)
}

/// The run that begins there, in the page of that number.
fn wanted(first: u64) -> PageIn {
    PageIn {
        first: Sequence(first),
        page: page(first),
    }
}

/// One message in the head, two runs in pages (1, 2 and 3, 4), one in the tail.
fn paged() -> Queue {
    let mut queue = queue();
    publish(&mut queue, 0..1);
    publish(&mut queue, 1..6);
    for number in [1, 3] {
        let out = queue.page_out(false).expect("it is closed");
        assert!(queue.paged_out(out.first, Some(page(number))));
    }
    assert!(queue.page_out(false).is_none(), "the last one is open");
    queue
}

#[test]
fn a_backlog_takes_memory_for_its_head_only() {
    let mut queue = Queue::new(QueueSettings::default(), NOW);
    let mut pages = BTreeMap::new();
    let memory_bytes = message(0).memory_bytes() as u64;
    let limits = Limits::default();
    let count = 40 * limits.run_bytes / memory_bytes;
    for number in 0..count {
        publish(&mut queue, number..number + 1);
        while let Some(out) = queue.page_out(false) {
            let messages: Vec<Message> = out.messages().map(|(_, one)| one.clone()).collect();
            pages.insert(out.first.0, messages);
            assert!(queue.paged_out(out.first, Some(page(out.first.0))));
        }
        assert!(queue.resident_bytes() <= limits.head_bytes + limits.run_bytes + 2 * memory_bytes);
    }
    assert!(pages.len() > 30);
    for number in 0..count {
        while let Some(wanted) = queue.page_wanted(true) {
            let messages = pages.remove(&wanted.page.offset).expect("a page");
            queue.paged_in(wanted, consecutive(messages), NOW);
        }
        assert_eq!(get(&mut queue), Some((number, false)));
        let most = limits.read_ahead_bytes + 2 * limits.run_bytes;
        assert!(queue.resident_bytes() <= most);
    }
    assert!(pages.is_empty());
    assert_eq!((queue.counts().ready_bytes, queue.resident_bytes()), (0, 0));
    assert!(queue.capacities().0 <= 1024);
}

#[test]
fn a_get_says_what_has_to_be_read_first() {
    let mut queue = paged();
    assert_eq!(get(&mut queue), Some((0, false)));
    let missing = queue.head_missing().expect("the next ones are in a page");
    assert_eq!((missing.first, missing.page), (Sequence(1), page(1)));
    assert!(matches!(queue.get(true, NOW), Get::Missing(page) if page == missing));
    assert_eq!(queue.counts().ready, 5);
    queue.paged_in(missing, consecutive(vec![message(1), message(2)]), NOW);
    assert_eq!(get(&mut queue), Some((1, false)));
    assert_eq!(queue.journal().freed, [page(1)]);
}

#[test]
fn pages_that_are_read_out_of_order_are_delivered_in_order() {
    let mut queue = paged();
    get(&mut queue);
    let first = queue.page_wanted(true).expect("the head is empty");
    assert!(queue.page_wanted(true).is_none(), "that one is enough");
    assert_eq!(queue.head_missing(), Some(first), "it is on its way");
    queue.paged_in(wanted(3), consecutive(vec![message(3), message(4)]), NOW);
    assert_eq!(queue.head_missing(), Some(first));
    queue.paged_in(wanted(1), consecutive(vec![message(1), message(2)]), NOW);
    assert_eq!(drain(&mut queue), [1, 2, 3, 4, 5]);
}

#[test]
fn a_run_whose_write_failed_stays_and_those_behind_it_too() {
    let mut queue = queue();
    publish(&mut queue, 0..1);
    publish(&mut queue, 1..5);
    let first = queue.page_out(false).expect("two are closed").first;
    let second = queue.page_out(false).expect("two are closed").first;
    assert_eq!((first, second), (Sequence(1), Sequence(3)));
    assert!(queue.page_out(true).is_none(), "both are being written");
    assert!(!queue.paged_out(first, None));
    assert!(
        !queue.paged_out(second, Some(page(3))),
        "an older one is here"
    );
    for first in [first, second] {
        assert_eq!(queue.page_out(false).map(|out| out.first), Some(first));
        assert!(queue.paged_out(first, Some(page(first.0))));
    }
}

#[test]
fn a_page_is_of_no_use_once_its_run_is_delivered_from() {
    let mut queue = queue();
    publish(&mut queue, 0..1);
    publish(&mut queue, 1..3);
    let out = queue.page_out(false).expect("it is closed");
    assert_eq!(get(&mut queue), Some((0, false)));
    assert!(!queue.paged_out(out.first, Some(page(1))));
    assert_eq!(drain(&mut queue), [1, 2]);
}

#[test]
fn the_open_run_is_written_only_on_request() {
    let mut queue = queue();
    publish(&mut queue, 0..1);
    publish(&mut queue, 1..2);
    assert!(queue.page_out(false).is_none());
    let out = queue.page_out(true).expect("the head has enough");
    publish(&mut queue, 2..3);
    assert_eq!((out.first, out.messages().count()), (Sequence(1), 1));
    assert!(queue.paged_out(out.first, Some(page(1))));
    assert_eq!(queue.resident_bytes(), 2 * message(0).memory_bytes() as u64);
}

#[test]
fn a_purge_frees_pages_without_reading_them() {
    let mut queue = paged();
    get(&mut queue);
    let wanted = queue.page_wanted(true).expect("the head is empty");
    queue.journal().clear();
    assert_eq!(queue.purge(), 5);
    let range = SequenceRange::new(Sequence(1), 5);
    assert_eq!(queue.journal().settled, [range]);
    assert_eq!(queue.journal().freed, [page(1), page(3)]);
    queue.paged_in(wanted, consecutive(vec![message(1), message(2)]), NOW);
    let counts = queue.counts();
    assert_eq!((counts.ready, counts.purged, counts.lost), (0, 5, 0));
    assert_eq!((counts.ready_bytes, queue.resident_bytes()), (0, 0));
}

#[test]
fn what_cannot_be_read_is_lost_and_the_rest_delivered() {
    let listed = |places: &[u64]| {
        let messages = places.iter().map(|place| message(*place)).collect();
        Loaded::new(
            messages,
            Some(places.iter().copied().map(Sequence).collect()),
        )
    };
    let too_few = Loaded::new(vec![message(1)], Some(Vec::new()));
    let all: Vec<_> = (1..5).map(message).collect();
    for (shows, loaded, delivered) in [
        ("all is there", listed(&[1, 2]), vec![1, 2]),
        ("nothing is", Loaded::default(), vec![]),
        ("the end is missing", consecutive(vec![message(1)]), vec![1]),
        ("the beginning is missing", listed(&[2]), vec![2]),
        ("more than was written", consecutive(all), vec![1, 2]),
        ("places out of order", listed(&[2, 1]), vec![2]),
        ("places twice", listed(&[1, 1]), vec![1]),
        ("places of other runs", listed(&[0, 3]), vec![]),
        ("messages without a place", too_few, vec![]),
    ] {
        let mut queue = paged();
        get(&mut queue);
        queue.paged_in(wanted(1), loaded, NOW);
        let counts = queue.counts();
        let expected = (3 + delivered.len() as u64, 2 - delivered.len() as u64);
        assert_eq!((counts.ready, counts.lost), expected, "{shows}");
        queue.paged_in(wanted(3), consecutive(vec![message(3), message(4)]), NOW);
        assert_eq!(
            drain(&mut queue),
            [&delivered[..], &[3, 4, 5]].concat(),
            "{shows}"
        );
        assert_eq!(queue.counts().ready_bytes, 0, "{shows}");
    }
}

#[test]
fn a_restored_queue_goes_on_where_it_stopped() {
    let resident = |places: &[u64]| RestoredRun {
        tag: PageTag::default(),
        places: None,
        first: Sequence(places[0]),
        count: places.len() as u64,
        stored_bytes: 0,
        content: RestoredContent::Resident(
            places
                .iter()
                .map(|place| (Sequence(*place), message(*place)))
                .collect(),
        ),
    };
    let in_page = |first, count| RestoredRun {
        tag: PageTag::default(),
        places: None,
        first: Sequence(first),
        count,
        stored_bytes: count * message(0).stored_bytes() as u64,
        content: RestoredContent::Paged(page(first)),
    };
    let mut queue = restored(Restored {
        next: Sequence(100),
        redelivered_below: Sequence(11),
        deliveries: [
            (Sequence(2), (3, 0)),
            (Sequence(4), (1, 0)),
            (Sequence(60), (1, 0)),
        ]
        .into(),
        runs: vec![
            resident(&[2, 9]),
            in_page(10, 2),
            in_page(20, 0),
            resident(&[30, 31]),
            in_page(40, 1),
            resident(&[60, 62]),
        ],
        ..Restored::default()
    });
    assert_eq!(queue.journal().freed, [page(20)], "nobody is in it");
    publish(&mut queue, 100..101);
    assert_eq!(queue.counts().ready, 10);
    let mut delivered = Vec::new();
    loop {
        if let Some(missing) = queue.head_missing() {
            let messages = match missing.first.0 {
                10 => vec![message(10), message(11)],
                first => vec![message(first)],
            };
            queue.paged_in(missing, consecutive(messages), NOW);
        }
        match get(&mut queue) {
            Some(one) => delivered.push(one),
            None => break,
        }
    }
    let flagged = [(2, true), (9, true), (10, true), (60, true)];
    let others = [11, 30, 31, 62, 100].map(|number| (number, false));
    let mut expected: Vec<_> = flagged
        .into_iter()
        .chain(others)
        .chain([(40, false)])
        .collect();
    expected.sort_unstable();
    assert_eq!(delivered, expected);
}

#[test]
fn the_count_of_deliveries_outlives_a_restart() {
    let mut queue = restored(Restored {
        next: Sequence(8),
        deliveries: [(Sequence(7), (4, 0))].into(),
        runs: vec![RestoredRun {
            tag: PageTag::default(),
            places: None,
            first: Sequence(7),
            count: 1,
            stored_bytes: 0,
            content: RestoredContent::Resident(vec![(Sequence(7), message(7))]),
        }],
        ..Restored::default()
    });
    let got = queue.get(false, NOW).message().expect("it is in memory");
    let slot = got.unsettled.expect("got with ack");
    let redelivered = true;
    queue.settle(
        &[slot],
        Outcome::Requeue {
            redelivered,
            refused: true,
        },
        NOW,
    );
    let returned = queue.journal().returned.first().copied();
    assert_eq!(
        returned.map(|one| (one.place, one.deliveries)),
        Some((Sequence(7), 5))
    );
}

fn publish(queue: &mut Queue, numbers: std::ops::Range<u64>) {
    let first = Sequence(numbers.start);
    let mut messages = numbers.map(message).collect();
    assert_eq!(queue.publish(&mut messages, NOW).first, first);
}

fn drain(queue: &mut Queue) -> Vec<u64> {
    let mut numbers = Vec::new();
    while let Some((number, _)) = get(queue) {
        numbers.push(number);
    }
    numbers
}

/// Number and flag of the next message.
fn get(queue: &mut Queue) -> Option<(u64, bool)> {
    let got = queue.get(true, NOW).message()?;
    let Body::Slice(body) = got.message.body() else {
        panic!("a small body is one slice");
    };
    let number = u64::from_be_bytes(body.try_into().expect("eight octets"));
    Some((number, got.deliveries > 0))
}

fn consecutive(messages: Vec<Message>) -> Loaded {
    Loaded::new(messages, None)
}

fn message(number: u64) -> Message {
    Message::single("", "q", b"", &number.to_be_bytes())
}

fn page(offset: u64) -> Page {
    Page {
        file: 1,
        offset,
        bytes: 10,
    }
}

const NOW: Now = Now(std::time::Duration::ZERO);
