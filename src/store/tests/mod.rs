//! The store as its users see it: what was confirmed is there again, whatever
//! happens to the process and the disk.
//!
//! A debug build tries a sample of the places at which things can go wrong; a
//! release build, or one with `LEVERET_LONG_TESTS` set in the environment,
//! tries all of them.

mod crashes;
mod damage;
mod faults;
mod museum;
mod names;
mod property;
mod sparse;
mod stress;
mod versions;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use crate::model::{Message, Page, PageTag, QueueId, Sequence, SequenceRange, Ticket};

use super::files::simulated::Simulated;
use super::{
    Damage, DamageKind, Disk, NewRecord, Opened, PageOutJob, RecoveredContent, Returned, Run,
    Settled, Store, StoreSettings,
};

/// Whether to try everything.
fn thorough() -> bool {
    !cfg!(debug_assertions) || std::env::var_os("LEVERET_LONG_TESTS").is_some()
}

/// Says which case failed.
fn case(name: &str, test: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(test)) {
        eprintln!("failed: {name}");
        resume_unwind(panic);
    }
}

const QUEUE: QueueId = QueueId(3);

fn open(directory: &std::path::Path) -> Opened {
    let files = Disk::open(directory).expect("the directory is ours");
    let settings = StoreSettings::default();
    Store::open(Arc::new(files), &settings, &[QUEUE], Box::new(|| {})).expect("it opens")
}

fn open_simulated(disk: &Simulated) -> Opened {
    let files = Arc::new(disk.clone());
    Store::open(files, &world::settings(), &[QUEUE], Box::new(|| {})).expect("it opens")
}

/// The first place that recovery found to have lost what was durable.
fn first_loss(opened: &Opened) -> Option<&(String, Damage)> {
    let mut damages = opened.report.damages.iter();
    damages.find(|(_, damage)| damage.kind == DamageKind::Lost)
}

fn message(number: u64) -> Message {
    let body = format!("message {number}");
    let mut builder = crate::model::BlockBuilder::default();
    builder.push(
        b"\0\x05queue",
        b"header",
        crate::model::Body::Slice(body.as_bytes()),
        crate::model::Traits::new(true),
    );
    Message::new(Arc::new(builder.finish()), 0)
}

fn append(store: &Store, first: u64, count: u32) -> Ticket {
    let messages: Vec<Message> = (first..first + u64::from(count)).map(message).collect();
    let run = Run {
        queue: QUEUE,
        first: Sequence(first),
        message: 0,
        count,
    };
    store.append(&[], &[run], &messages)
}

fn settle(store: &Store, first: u64, count: u64) {
    let range = SequenceRange::new(Sequence(first), count);
    store.settle(
        &[Settled {
            queue: QUEUE,
            range,
        }],
        &[],
    );
}

/// Writes messages into a page and waits for it.
fn page_out(store: &Store, tag: PageTag, messages: Vec<(Sequence, Message)>) -> Page {
    let (done, written) = mpsc::channel();
    store.page_out(PageOutJob {
        queue: QUEUE,
        durable: true,
        first: messages.first().expect("there are some").0,
        tag,
        messages: Box::new(messages),
        done: Box::new(move |page| done.send(page).expect("it is waited for")),
    });
    let page = written.recv().expect("the pager is alive");
    page.expect("there is room")
}

fn wait(store: &Store, ticket: Ticket) {
    while store.progress().durable < ticket {
        std::thread::yield_now();
    }
}

/// The places that are there, with their messages' bodies checked.
fn places(opened: &Opened) -> Vec<u64> {
    let mut places = Vec::new();
    for run in opened.queues.iter().flat_map(|queue| &queue.runs) {
        let messages = match &run.content {
            RecoveredContent::Resident(messages) => messages.clone(),
            RecoveredContent::Paged(page) => {
                let content = opened.store.read_page(*page);
                let count = content.messages.len() as u64;
                let consecutive = || (run.first.0..run.first.0 + count).map(Sequence).collect();
                let places = content.places.unwrap_or_else(consecutive);
                places.into_iter().zip(content.messages).collect()
            }
        };
        for (place, found) in messages {
            assert_eq!(found.body_bytes(), message(place.0).body_bytes());
            places.push(place.0);
        }
    }
    places
}

#[test]
fn what_was_appended_and_not_settled_is_there_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let opened = open(directory.path());
    assert!(opened.report.clean && opened.queues[0].runs.is_empty());
    opened.store.register(QUEUE);
    let ticket = append(&opened.store, 0, 10);
    wait(&opened.store, ticket);
    settle(&opened.store, 2, 3);
    let ticket = append(&opened.store, 10, 1);
    wait(&opened.store, ticket);
    opened.store.close();
    drop(opened);
    for clean in [true, false, true] {
        let opened = open(directory.path());
        assert_eq!(opened.report.clean, clean);
        assert_eq!(places(&opened), [0, 1, 5, 6, 7, 8, 9, 10]);
        assert_eq!(opened.queues[0].next, Sequence(11));
        let flagged = opened.queues[0].redelivered_below;
        assert_eq!(flagged, Sequence(if clean { 0 } else { 11 }));
        if clean {
            opened.store.abandon();
        } else {
            opened.store.close();
            break;
        }
    }
}

/// A queue that is to go lets go of its messages, those included that the log's
/// thread has not got yet.
#[test]
fn nothing_is_left_of_a_queue_that_was_emptied() {
    for paged in [false, true] {
        let disk = Simulated::new(0);
        let opened = open_simulated(&disk);
        let store = &opened.store;
        let ticket = append(store, 0, 10);
        wait(store, ticket);
        if paged {
            let messages = (0..10).map(|place| (Sequence(place), message(place)));
            page_out(store, PageTag::default(), messages.collect());
        }
        append(store, 10, 10);
        store.empty(QUEUE);
        store.close();
        let opened = open_simulated(&disk);
        assert!(places(&opened).is_empty());
        assert_eq!(opened.queues[0].next, Sequence(20));
    }
}

/// It was written before its message, and then the power went.
#[test]
fn a_return_keeps_the_place_of_its_message() {
    let disk = Simulated::new(0);
    let opened = open_simulated(&disk);
    let returned = Returned {
        queue: QUEUE,
        place: Sequence(4),
        deliveries: 1,
        due: 0,
    };
    opened.store.settle(&[], &[returned]);
    // Whatever waits is written together.
    wait(&opened.store, append(&opened.store, 0, 1));
    let killed = disk.after_kill();
    opened.store.close();
    for disk in [killed, disk] {
        assert_eq!(open_simulated(&disk).queues[0].next, Sequence(5));
    }
}

/// A client that waits for each confirm is not to wait for two threads as well.
#[test]
fn who_waits_for_a_single_message_writes_it_himself() {
    let disk = Simulated::new(0);
    let opened = open_simulated(&disk);
    let store = &opened.store;
    let append_one = |place| {
        let run = Run {
            queue: QUEUE,
            first: Sequence(place),
            message: 0,
            count: 1,
        };
        store.append_to_commit(&NewRecord {
            runs: &[run],
            messages: &[message(place)],
            ..NewRecord::default()
        })
    };
    let mut by_itself = 0;
    for place in 0..200 {
        let ticket = append_one(place);
        if store.commit(true) {
            assert!(store.progress().durable >= ticket);
            by_itself += 1;
        }
        wait(store, ticket);
    }
    assert!(by_itself > 0, "there was always somebody else");
    // Whoever does not wait has the log's thread do it.
    let ticket = append_one(200);
    assert!(!store.commit(false));
    wait(store, ticket);
    assert!(!store.commit(true), "there is nothing to be written");
    // A slow disk is no work for whoever has other things to do.
    disk.slow_down(Duration::from_millis(10));
    for place in 201..210 {
        let ticket = append_one(place);
        store.commit(true);
        wait(store, ticket);
    }
    let ticket = append_one(210);
    assert!(!store.commit(true));
    wait(store, ticket);
    assert_eq!(places(&open_simulated(&disk.after_kill())).len(), 211);
}

/// A page must not bring back half of a transaction that the log never got.
#[test]
fn a_page_waits_for_the_log_to_have_its_messages() {
    let disk = Simulated::new(0);
    let opened = open_simulated(&disk);
    // The pager has files to prepare first.
    std::thread::sleep(Duration::from_millis(50));
    disk.slow_down(Duration::from_millis(30));
    // While this is synced, the next one has to wait.
    append(&opened.store, 0, 1);
    std::thread::sleep(Duration::from_millis(10));
    let acknowledged = Settled {
        queue: QUEUE,
        range: SequenceRange::new(Sequence(0), 1),
    };
    let run = Run {
        queue: QUEUE,
        first: Sequence(1),
        message: 0,
        count: 1,
    };
    let ticket = opened.store.append(&[acknowledged], &[run], &[message(1)]);
    let messages = vec![(Sequence(1), message(1))];
    page_out(&opened.store, PageTag::default(), messages);
    assert!(opened.store.progress().durable >= ticket);
    let opened = open_simulated(&disk.after_kill());
    assert_eq!(places(&opened), [1]);
}
