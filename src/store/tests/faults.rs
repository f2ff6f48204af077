//! Operations that fail, one at a time, and a disk that fills up.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::model::{Sequence, Verdict};
use crate::store::files::Files;
use crate::store::files::simulated::{Fault, Operation, Simulated};

use super::world::{self, World, wait};
use super::{QUEUE, Store, StoreSettings, append, case, open_simulated, places, settle, thorough};

const STEPS: u32 = 120;

/// How often each operation comes in a life.
fn counts(script: u64) -> Vec<(Operation, u64)> {
    let (mut world, disk) = (World::new(script), Simulated::new(0));
    let opened = world.open(&disk).expect("it opens");
    world.live(&opened.store, &disk, STEPS);
    world.ends_cleanly(&opened.store);
    let all = [
        Operation::Write,
        Operation::Sync,
        Operation::SyncNames,
        Operation::Create,
        Operation::Rename,
        Operation::Remove,
        Operation::Allocate,
        Operation::SetLen,
    ];
    all.map(|operation| (operation, disk.count(operation)))
        .to_vec()
}

/// To make a new file takes long. Who is killed meanwhile had written down what
/// was settled before.
#[test]
fn settlements_do_not_wait_for_a_new_file() {
    let disk = Simulated::new(1);
    let opened = open_simulated(&disk);
    let spares = || {
        let names = disk.names().expect("the disk is alive");
        names
            .iter()
            .filter(|name| name.starts_with("spare-"))
            .count()
    };
    while spares() < 3 {
        std::thread::yield_now();
    }
    opened.store.register(QUEUE);
    let ticket = append(&opened.store, 0, 3);
    wait(&opened.store, ticket);
    disk.plan(Some(Fault::Fail {
        operation: Operation::Create,
        nth: 1,
        error: io::ErrorKind::Other,
    }));
    settle(&opened.store, 0, 2);
    // No spare file takes so many in one record.
    append(&opened.store, 3, 100);
    while opened.store.failure().is_none() {
        std::thread::yield_now();
    }
    let again = open_simulated(&disk.after_kill());
    assert_eq!(places(&again), [2]);
}

/// A life in which one operation fails, then a power cut.
fn one_fails(script: u64, operation: Operation, nth: u64, error: io::ErrorKind) {
    let (mut world, disk) = (World::new(script), Simulated::new(nth));
    let fault = Fault::Fail {
        operation,
        nth,
        error,
    };
    disk.plan(Some(fault));
    if let Ok(opened) = world.open(&disk) {
        world.was_full = error == io::ErrorKind::StorageFull;
        world.register_some(&opened.store);
        world.live(&opened.store, &disk, STEPS);
        let is_sync = matches!(operation, Operation::Sync | Operation::SyncNames);
        if is_sync && disk.count(operation) >= nth {
            // The thread that met it may not have said so yet.
            let until = Instant::now() + Duration::from_secs(5);
            while opened.store.failure().is_none() && Instant::now() < until {
                std::thread::yield_now();
            }
            assert!(opened.store.failure().is_some(), "it goes on");
            let before = opened.store.progress();
            assert!(before.stopped);
            world.append(&opened.store, 1);
            std::thread::sleep(Duration::from_millis(1));
            let verdict = world.last_verdict(&opened.store);
            assert_eq!(verdict, Verdict::Failed, "decided after a failed sync");
        }
        world.ends_abruptly(&opened.store);
    }
    let survivor = disk.after_power_cut(nth);
    let opened = world.open(&survivor).expect("it opens again");
    world.check(&opened);
}

fn each_fails(script: u64, error: io::ErrorKind, wanted: impl Fn(Operation) -> bool) {
    for (operation, count) in counts(script) {
        let stride = if thorough() { 1 } else { count / 12 + 1 };
        for nth in (1..=count).step_by(stride as usize) {
            if wanted(operation) {
                case(&format!("script {script}, {operation:?} {nth}"), || {
                    one_fails(script, operation, nth, error);
                });
            }
        }
    }
}

#[test]
fn museum_21_after_a_failed_sync_nothing_is_decided() {
    let is_sync = |operation| matches!(operation, Operation::Sync | Operation::SyncNames);
    each_fails(11, io::ErrorKind::Other, is_sync);
    // Whatever the disk calls it.
    each_fails(12, io::ErrorKind::StorageFull, is_sync);
}

#[test]
fn an_operation_that_fails_loses_nothing() {
    each_fails(13, io::ErrorKind::Other, |_| true);
}

#[test]
fn an_operation_without_room_loses_nothing() {
    each_fails(14, io::ErrorKind::StorageFull, |_| true);
}

/// Museum 12: filled, drained and filled again, without a restart.
#[test]
fn museum_12_a_full_disk_is_drained_and_goes_on() {
    for seed in 0..if thorough() { 40 } else { 6 } {
        case(&format!("seed {seed}"), || fill_and_drain(seed));
    }
}

fn fill_and_drain(seed: u64) {
    let (mut world, disk) = (World::new(seed), Simulated::new(seed));
    disk.resize(96 * 1024 + seed * 512);
    let opened = world.open(&disk).expect("it opens");
    let store = &opened.store;
    world.register_some(store);
    for round in 0..3 {
        world.was_full = true;
        let mut appends = 0;
        loop {
            world.append(store, 1);
            if world.dice.roll(3) == 0 {
                world.page_out(store);
            }
            if world.last_verdict(store) == Verdict::Failed {
                break;
            }
            appends += 1;
            assert!(appends < 10_000, "it is never full");
        }
        assert_eq!(store.failure(), None);
        assert!(appends > 20, "round {round}: full after {appends}");
        world.settle_all(store);
        let until = Instant::now() + Duration::from_secs(10);
        let mut in_a_row = 0;
        while in_a_row < 20 {
            world.append(store, 1);
            in_a_row += 1;
            if world.last_verdict(store) == Verdict::Failed {
                in_a_row = 0;
                std::thread::sleep(Duration::from_millis(5));
            }
            world.settle_all(store);
            assert!(Instant::now() < until, "round {round}: it stays full");
        }
    }
    // All settlements had to be written before the last append found room.
    world.ends_abruptly(store);
    let survivor = disk.after_power_cut(seed);
    drop(opened);
    survivor.resize(1 << 20);
    let opened = world.open(&survivor).expect("it opens again");
    world.check(&opened);
}

/// The room of what was settled is put together for new messages wherever it
/// lies, and no file is exchanged for another that is no better filled.
#[test]
fn what_is_left_on_a_full_disk_is_put_together_once() {
    for settled in [28, 32, 36] {
        let disk = Simulated::new(settled);
        disk.resize(1 << 20);
        let settings = StoreSettings {
            log_bytes: 512 * 1024,
            ..world::settings()
        };
        let files = Arc::new(disk.clone());
        let opened = Store::open(files, &settings, &[QUEUE], Box::new(|| {})).expect("it opens");
        let store = &opened.store;
        store.register(QUEUE);
        let is_taken = |place| {
            let ticket = append(store, place, 1);
            wait(store, ticket);
            store.progress().verdict(ticket) == Verdict::Stored
        };
        let filled = (0..).find(|place| !is_taken(*place)).expect("it ends");
        for from in (0..filled).step_by(64) {
            settle(store, from, settled.min(filled - from));
        }
        let until = Instant::now() + Duration::from_secs(10);
        let (mut next, mut taken) = (filled + 1, 0);
        while taken < filled * settled / 64 / 2 {
            let late = Instant::now() > until;
            assert!(!late, "{taken} of {filled} after {settled} of 64 settled");
            taken += u64::from(is_taken(next));
            next += 1;
        }
        // Filled again. What is left is no work.
        while is_taken(next) {
            next += 1;
        }
        let begun = || disk.count(Operation::Rename);
        let mut before = begun();
        loop {
            std::thread::sleep(Duration::from_millis(300));
            let now = begun();
            if now == before {
                break;
            }
            assert!(Instant::now() < until, "files come and go for ever");
            before = now;
        }
        assert_eq!(store.failure(), None);
    }
}

/// Whatever is left of it: each start leaves the next one what it needs.
#[test]
fn a_full_disk_does_not_keep_the_store_from_opening() {
    for seed in 0..if thorough() { 40 } else { 6 } {
        case(&format!("seed {seed}"), || {
            let (mut world, disk) = (World::new(seed), Simulated::new(seed));
            disk.resize(96 * 1024 + seed * 512);
            let opened = world.open(&disk).expect("it opens");
            world.register_some(&opened.store);
            world.was_full = true;
            while world.last_verdict(&opened.store) != Verdict::Failed {
                world.append(&opened.store, 1);
            }
            world.ends_abruptly(&opened.store);
            drop(opened);
            for life in 0..5 {
                let opened = world.open(&disk);
                let opened = opened.unwrap_or_else(|error| panic!("life {life}: {error}"));
                world.was_full = true;
                (0..20).for_each(|_| world.append(&opened.store, 1));
                world.last_verdict(&opened.store);
                world.ends_abruptly(&opened.store);
            }
        });
    }
}

#[test]
fn a_file_that_cannot_be_read_stops_the_start_and_is_named() {
    let (mut world, disk) = (World::new(5), Simulated::new(5));
    let opened = world.open(&disk).expect("it opens");
    world.live(&opened.store, &disk, 60);
    world.ends_cleanly(&opened.store);
    drop(opened);
    let name = crate::store::log::log_name(1);
    let log = crate::store::files::Files::names(&disk)
        .expect("names")
        .into_iter()
        .rfind(|name| crate::store::log::log_number(name).is_some())
        .unwrap_or(name);
    disk.make_unreadable(&log);
    let error = world.open(&disk).map(drop).expect_err("it cannot know");
    assert!(error.to_string().contains(&log), "{error}");
}

/// A page that cannot be read costs nothing that a restart does not bring back.
#[test]
fn a_page_that_cannot_be_read_is_not_settled() {
    let (mut world, disk) = (World::new(6), Simulated::new(6));
    let opened = world.open(&disk).expect("it opens");
    world.register_some(&opened.store);
    for _ in 0..10 {
        world.append(&opened.store, 3);
    }
    world.page_out(&opened.store);
    let segment = crate::store::files::Files::names(&disk)
        .expect("names")
        .into_iter()
        .find(|name| name.ends_with(".seg"))
        .expect("a page was written");
    disk.make_unreadable(&segment);
    let page = world.any_page().expect("a page was written");
    let content = opened.store.read_page(page);
    assert!(content.messages.is_empty() && content.damaged.is_empty());
    assert_eq!(content.places, Some(Vec::<Sequence>::new()));
    disk.make_unreadable("");
    world.append(&opened.store, 1);
    wait(&opened.store, world.last_ticket());
    world.ends_cleanly(&opened.store);
    drop(opened);
    world.check(&world.open(&disk).expect("it opens again"));
}
