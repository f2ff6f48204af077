//! Names by which copies are told: when they count, and for how long.

use std::sync::Arc;

use crate::model::{NameHash, Sequence, SequenceRange, Ticket, Verdict};
use crate::store::files::Files;
use crate::store::files::simulated::Simulated;
use crate::store::log::log_number;
use crate::store::{Names, NewRecord, Opened, Run, Settled, Store};

use super::{QUEUE, message, places, wait, world};

fn open(disk: &Simulated) -> Opened {
    let files = Arc::new(disk.clone());
    Store::open(files, &world::settings(), &[QUEUE], Box::new(|| {})).expect("it opens")
}

fn name(number: u64) -> NameHash {
    NameHash::of(&number.to_be_bytes())
}

/// Appends one message with its name.
fn append(store: &Store, number: u64) -> Ticket {
    let names = [Names {
        queue: QUEUE,
        count_max: 1_000,
        time_max: 0,
        seen: vec![(number, name(number))],
    }];
    let run = Run {
        queue: QUEUE,
        first: Sequence(number),
        message: 0,
        count: 1,
    };
    store.append_record(&NewRecord {
        runs: &[run],
        messages: &[message(number)],
        names: &names,
        ..NewRecord::default()
    })
}

fn verdict(store: &Store, ticket: Ticket) -> Verdict {
    wait(store, ticket);
    store.progress().verdict(ticket)
}

/// What becomes of a copy of that message.
fn copy(store: &Store, number: u64, settled: &[Settled]) -> Verdict {
    let record = NewRecord {
        settled,
        repeated: &[(QUEUE, name(number))],
        ..NewRecord::default()
    };
    verdict(store, store.append_record(&record))
}

fn known(opened: &Opened) -> Vec<u64> {
    let names = &opened.queues[0].names;
    names.iter().map(|(number, _)| *number).collect()
}

#[test]
fn a_copy_counts_once_the_log_has_the_name() {
    let disk = Simulated::new(0);
    let Opened { store, .. } = open(&disk);
    store.register(QUEUE);
    assert_eq!(copy(&store, 0, &[]), Verdict::Failed);
    append(&store, 0);
    assert_eq!(copy(&store, 0, &[]), Verdict::Stored);
    store.close();
    let opened = open(&disk.after_kill());
    assert_eq!(known(&opened), [0]);
    opened.store.register(QUEUE);
    assert_eq!(copy(&opened.store, 0, &[]), Verdict::Stored);
    assert_eq!(copy(&opened.store, 1, &[]), Verdict::Failed);
}

/// A worker's ack must not count if its result was taken for a copy of one that
/// came to nothing.
#[test]
fn nothing_is_settled_with_a_copy_of_nothing() {
    let disk = Simulated::new(0);
    let Opened { store, .. } = open(&disk);
    store.register(QUEUE);
    append(&store, 0);
    let acked = [Settled {
        queue: QUEUE,
        range: SequenceRange::new(Sequence(0), 1),
    }];
    assert_eq!(copy(&store, 7, &acked), Verdict::Failed);
    let disk = disk.after_kill();
    let opened = open(&disk);
    assert_eq!(places(&opened), [0]);
    opened.store.register(QUEUE);
    assert_eq!(copy(&opened.store, 0, &acked), Verdict::Stored);
    assert!(places(&open(&disk.after_kill())).is_empty());
}

#[test]
fn names_of_a_refused_record_are_given_back() {
    let disk = Simulated::new(0);
    disk.resize(96 * 1024);
    let Opened { store, .. } = open(&disk);
    store.register(QUEUE);
    let refused = (0..10_000)
        .find(|number| verdict(&store, append(&store, *number)) == Verdict::Failed)
        .expect("the disk is full some time");
    assert_eq!(store.refused_names(QUEUE), [name(refused)]);
    assert_eq!(store.refused_names(QUEUE), []);
    // A copy must not be refused for want of room.
    disk.resize(1 << 20);
    (10_000..20_000)
        .find(|number| verdict(&store, append(&store, *number)) == Verdict::Stored)
        .expect("there is room again");
    assert_eq!(copy(&store, refused, &[]), Verdict::Failed);
    assert_eq!(copy(&store, refused - 1, &[]), Verdict::Stored);
}

#[test]
fn names_outlive_the_files_of_their_messages() {
    let disk = Simulated::new(0);
    let Opened { store, .. } = open(&disk);
    store.register(QUEUE);
    let count = 900;
    for number in 0..count {
        let ticket = append(&store, number);
        if number % 16 == 15 {
            wait(&store, ticket);
            let range = SequenceRange::new(Sequence(number - 15), 16);
            let queue = QUEUE;
            store.settle(&[Settled { queue, range }], &[]);
        }
    }
    store.close();
    let names = disk.names().expect("names");
    let first = names.iter().filter_map(|name| log_number(name)).min();
    assert!(first > Some(1), "the first file is gone: {first:?}");
    let opened = open(&disk.after_kill());
    assert_eq!(known(&opened), Vec::from_iter(0..count));
}
