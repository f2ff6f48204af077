//! Bugs that other brokers shipped, by their row in the list that we keep:
//! each shows that we do not have the like of it. Rows 1, 15 and 22 are also in
//! `crashes`, 6 in `damage`, 12 and 21 in `faults`.

use std::sync::Arc;

use crate::model::{PageTag, QueueId, Sequence, SequenceRange, Ticket};
use crate::store::files::Files;
use crate::store::files::simulated::{Fault, Simulated};
use crate::store::log::{is_spare, log_name, log_number};
use crate::store::{Opened, RecoveredContent, Returned, Run, Settled, Store};

use super::first_loss;
use super::world::{body, message, settings, wait};

const QUEUE: QueueId = QueueId(3);
const OTHER: QueueId = QueueId(4);

fn open(disk: &Simulated, queues: &[QueueId]) -> Opened {
    let files = Arc::new(disk.clone());
    Store::open(files, &settings(), queues, Box::new(|| {})).expect("it opens")
}

fn append(store: &Store, queue: QueueId, first: u64, count: u64) -> Ticket {
    let messages: Vec<_> = (first..first + count)
        .map(|place| message(&format!("{} {place}", queue.0), true))
        .collect();
    let run = Run {
        queue,
        first: Sequence(first),
        message: 0,
        count: count as u32,
    };
    store.append(&[], &[run], &messages)
}

fn settle(store: &Store, queue: QueueId, first: u64, count: u64) {
    let range = SequenceRange::new(Sequence(first), count);
    store.settle(&[Settled { queue, range }], &[]);
}

/// The places of a queue, with their messages' bodies checked.
fn places(opened: &Opened, queue: QueueId) -> Vec<u64> {
    let mut places = Vec::new();
    for queue in opened.queues.iter().filter(|found| found.queue == queue) {
        for run in &queue.runs {
            let messages = match &run.content {
                RecoveredContent::Resident(messages) => messages.clone(),
                RecoveredContent::Paged(page) => {
                    let content = opened.store.read_page(*page);
                    let consecutive = || (run.first.0..).map(Sequence).take(run.count as usize);
                    let places = content.places.unwrap_or_else(|| consecutive().collect());
                    places.into_iter().zip(content.messages).collect()
                }
            };
            for (place, message) in messages {
                assert_eq!(body(&message), format!("{} {}", queue.queue.0, place.0));
                places.push(place.0);
            }
        }
    }
    places
}

#[test]
fn museum_01_two_crashes_in_a_row_lose_nothing() {
    let mut disk = Simulated::new(1);
    for life in 0..6 {
        let opened = open(&disk, &[QUEUE]);
        assert_eq!(places(&opened, QUEUE), (0..life * 3).collect::<Vec<u64>>());
        let ticket = append(&opened.store, QUEUE, life * 3, 3);
        wait(&opened.store, ticket);
        disk = match life % 2 {
            0 => disk.after_power_cut(life),
            _ => disk.after_kill(),
        };
    }
    assert_eq!(places(&open(&disk, &[QUEUE]), QUEUE).len(), 18);
}

/// The first of two crashes leaves a file of the log that holds nothing; the
/// second one, that file and not the one before it.
#[test]
fn museum_01_a_file_that_was_never_begun_is_no_damage() {
    for at in 1..40 {
        let disk = Simulated::new(at);
        let opened = open(&disk, &[QUEUE]);
        let ticket = append(&opened.store, QUEUE, 0, 3);
        wait(&opened.store, ticket);
        settle(&opened.store, QUEUE, 0, 3);
        opened.store.close();
        drop(opened);
        let names = disk.names().expect("names");
        let last = names.iter().filter_map(|name| log_number(name)).max();
        let blank = log_name(last.expect("there is a log") + 1);
        let file = disk.create(&blank).expect("it is new");
        file.write_at(&[0; 4096], 0).expect("there is room");
        disk.plan(Some(Fault::Crash { at }));
        let files = Arc::new(disk.clone());
        drop(Store::open(files, &settings(), &[QUEUE], Box::new(|| {})));
        let opened = open(&disk.after_kill(), &[QUEUE]);
        assert_eq!(first_loss(&opened), None, "a crash at operation {at}");
    }
}

#[test]
fn museum_02_what_was_settled_stays_away_over_restarts() {
    let mut disk = Simulated::new(2);
    let opened = open(&disk, &[QUEUE]);
    append(&opened.store, QUEUE, 0, 100);
    settle(&opened.store, QUEUE, 0, 50);
    settle(&opened.store, QUEUE, 70, 10);
    let ticket = append(&opened.store, QUEUE, 100, 1);
    wait(&opened.store, ticket);
    let expected: Vec<u64> = (50..70).chain(80..101).collect();
    for cut in 0..8 {
        disk = disk.after_power_cut(cut);
        let opened = open(&disk, &[QUEUE]);
        assert_eq!(places(&opened, QUEUE), expected, "power cut {cut}");
        assert_eq!(opened.queues[0].next, Sequence(101));
    }
}

#[test]
fn museum_03_settlements_never_run_ahead_of_their_messages() {
    for seed in 0..60 {
        let disk = Simulated::new(seed);
        let opened = open(&disk, &[QUEUE]);
        for place in 0..20 {
            // Consumed as it comes, confirmed or not.
            append(&opened.store, QUEUE, place, 1);
            settle(&opened.store, QUEUE, place, 1);
        }
        let survivor = disk.after_power_cut(seed);
        let opened = open(&survivor, &[QUEUE]);
        let next = opened.queues[0].next.0;
        assert!(places(&opened, QUEUE).iter().all(|place| *place < next));
        // The queue goes on, and what comes now is there the next time.
        let ticket = append(&opened.store, QUEUE, next, 5);
        wait(&opened.store, ticket);
        let opened = open(&survivor.after_power_cut(seed), &[QUEUE]);
        let places = places(&opened, QUEUE);
        assert!((next..next + 5).all(|place| places.contains(&place)));
    }
}

#[test]
fn museum_09_what_was_deleted_or_purged_stays_away() {
    for seed in 0..30 {
        let disk = Simulated::new(seed);
        let opened = open(&disk, &[QUEUE]);
        opened.store.register(OTHER);
        append(&opened.store, QUEUE, 0, 10);
        append(&opened.store, OTHER, 0, 10);
        settle(&opened.store, QUEUE, 0, 10);
        opened.store.forget(OTHER, true);
        let ticket = append(&opened.store, QUEUE, 10, 1);
        wait(&opened.store, ticket);
        let survivor = disk.after_power_cut(seed);
        let opened = open(&survivor, &[QUEUE]);
        assert_eq!(places(&opened, QUEUE), [10]);
        assert_eq!(opened.queues.len(), 1);
        drop(opened);
        // Nor does a queue get them that some later start asks for.
        let opened = open(&survivor, &[QUEUE, OTHER]);
        assert_eq!(places(&opened, QUEUE), [10]);
    }
}

#[test]
fn museum_11_delivery_counts_and_flags_survive() {
    let disk = Simulated::new(11);
    let opened = open(&disk, &[QUEUE]);
    append(&opened.store, QUEUE, 0, 3);
    let returned = |place, deliveries| Returned {
        queue: QUEUE,
        place: Sequence(place),
        deliveries,
        due: u64::from(deliveries) * 1_000,
    };
    opened
        .store
        .settle(&[], &[returned(1, 2), returned(2, 1), returned(1, 1)]);
    settle(&opened.store, QUEUE, 2, 1);
    opened.store.close();
    drop(opened);
    let opened = open(&disk, &[QUEUE]);
    let queue = &opened.queues[0];
    assert_eq!(queue.redelivered_below, Sequence(0), "after a clean stop");
    assert!(queue.deliveries.iter().eq([(&Sequence(1), &(2, 2_000))]));
    let cut = disk.after_power_cut(1);
    let opened = open(&cut, &[QUEUE]);
    let queue = &opened.queues[0];
    assert_eq!(queue.redelivered_below, Sequence(3), "it errs to true");
    assert!(queue.deliveries.iter().eq([(&Sequence(1), &(2, 2_000))]));
    // And stays so: a later clean stop does not know better.
    opened.store.close();
    drop(opened);
    let opened = open(&cut, &[QUEUE]);
    assert_eq!(opened.queues[0].redelivered_below, Sequence(3));
}

/// A file of the log is used again with all that it held before, records of
/// confirmed and settled messages included.
#[test]
fn museum_13_what_a_file_held_before_is_never_taken_for_new() {
    let mut disk = Simulated::new(13);
    let opened = open(&disk, &[QUEUE]);
    let ticket = append(&opened.store, QUEUE, 0, 2);
    wait(&opened.store, ticket);
    for life in 0..12 {
        disk = disk.after_power_cut(life);
        let opened = open(&disk, &[QUEUE]);
        assert_eq!(places(&opened, QUEUE), [0, 1], "life {life}");
        let mut place = opened.queues[0].next.0;
        for _ in 0..60 {
            let ticket = append(&opened.store, QUEUE, place, 3);
            settle(&opened.store, QUEUE, place, 3);
            place += 3;
            wait(&opened.store, ticket);
        }
        // A group that makes all settlements before it durable.
        settle(&opened.store, QUEUE, place, 1);
        let ticket = append(&opened.store, QUEUE, place, 1);
        wait(&opened.store, ticket);
    }
}

/// Carrying messages on is the log's compaction.
#[test]
fn museum_22_a_power_cut_while_messages_are_carried_loses_none() {
    let disk = Simulated::new(22);
    let opened = open(&disk, &[QUEUE]);
    let mut waiting = Vec::new();
    let mut place = 0;
    for round in 0..120 {
        // One stays, the others go.
        let ticket = append(&opened.store, QUEUE, place, 8);
        settle(&opened.store, QUEUE, place + 1, 7);
        waiting.push(place);
        place += 8;
        wait(&opened.store, ticket);
        if round % 3 == 0 {
            let opened = open(&disk.after_power_cut(round), &[QUEUE]);
            let found = places(&opened, QUEUE);
            let missing = waiting.iter().find(|place| !found.contains(place));
            assert_eq!(missing, None, "round {round}");
        }
    }
    // It was carried, and the log is no longer than it should be.
    let names = disk.names().expect("names");
    let first = names.iter().filter_map(|name| log_number(name)).min();
    assert!(first > Some(5), "{names:?}");
    let bytes = |name: &String| disk.content(name).len() as u64;
    let log = |name: &&String| log_number(name).is_some() || is_spare(name);
    let taken: u64 = names.iter().filter(log).map(bytes).sum();
    assert!(taken <= 4 * settings().log_bytes, "{taken} octets");
    assert!(taken <= disk.taken_bytes());
}

/// A run that was written, kept, and written again when it was longer: its
/// second page is needed for what the first has not.
#[test]
fn a_page_that_overlaps_another_is_needed_too() {
    let disk = Simulated::new(1);
    let opened = open(&disk, &[QUEUE, OTHER]);
    let ticket = append(&opened.store, QUEUE, 0, 4);
    wait(&opened.store, ticket);
    page_out(&opened.store, 2);
    opened.store.close();
    drop(opened);
    // In another life, so that it comes into another file.
    let opened = open(&disk, &[QUEUE, OTHER]);
    page_out(&opened.store, 4);
    go_round(&opened);
    opened.store.close();
    drop(opened);
    let opened = open(&disk, &[QUEUE, OTHER]);
    assert_eq!(places(&opened, QUEUE), [0, 1, 2, 3]);
    settle(&opened.store, QUEUE, 0, 2);
    go_round(&opened);
    let opened = open(&disk.after_kill(), &[QUEUE]);
    assert_eq!(places(&opened, QUEUE), [2, 3]);
}

#[test]
fn museum_06_a_segment_that_lost_a_whole_page_is_told() {
    let disk = Simulated::new(1);
    let opened = open(&disk, &[QUEUE, OTHER]);
    let ticket = append(&opened.store, QUEUE, 0, 4);
    wait(&opened.store, ticket);
    page_out(&opened.store, 4);
    go_round(&opened);
    opened.store.close();
    drop(opened);
    let names = disk.names().expect("names");
    let segment = names.iter().find(|name| name.ends_with(".seg"));
    let segment = segment.expect("there is a page");
    let whole = disk.content(segment);
    disk.overwrite(segment, whole[..64].to_vec());
    let opened = open(&disk, &[QUEUE, OTHER]);
    assert_eq!(places(&opened, QUEUE), [0; 0]);
    let told = &opened.report.damages;
    assert!(told.iter().any(|(name, _)| name == segment), "{told:?}");
}

/// A queue with several lists: what one page leaves out may be alive in the log
/// or in another page, and must not go because the page covers its place.
#[test]
fn a_page_speaks_for_its_own_places_only() {
    let disk = Simulated::new(1);
    let opened = open(&disk, &[QUEUE, OTHER]);
    let ticket = append(&opened.store, QUEUE, 0, 9);
    wait(&opened.store, ticket);
    let class = |class| PageTag {
        class,
        due: 1_000 * u64::from(class),
    };
    page_out_these(&opened.store, class(1), &[0, 3, 6]);
    go_round(&opened);
    drop(opened);
    let opened = open(&disk, &[QUEUE, OTHER]);
    let mut found = places(&opened, QUEUE);
    found.sort_unstable();
    assert_eq!(found, (0..9).collect::<Vec<u64>>(), "six are in the log");
    page_out_these(&opened.store, class(2), &[1, 4, 7]);
    page_out_these(&opened.store, class(3), &[5, 8]);
    go_round(&opened);
    let survivor = disk.after_power_cut(1);
    let opened = open(&survivor, &[QUEUE, OTHER]);
    assert_eq!(places(&opened, QUEUE), [0, 3, 6, 1, 4, 7, 2, 5, 8]);
    let tags = |opened: &Opened| -> Vec<PageTag> {
        let queue = opened.queues.iter().find(|queue| queue.queue == QUEUE);
        queue
            .into_iter()
            .flat_map(|queue| &queue.runs)
            .map(|run| run.tag)
            .collect()
    };
    assert_eq!(
        tags(&opened),
        [class(1), class(2), PageTag::default(), class(3)]
    );
    // Files whose lists are done go, whatever lies between their places.
    settle(&opened.store, QUEUE, 1, 1);
    settle(&opened.store, QUEUE, 4, 2);
    settle(&opened.store, QUEUE, 7, 2);
    go_round(&opened);
    let names = survivor.names().expect("names");
    let segments = names.iter().filter(|name| name.ends_with(".seg"));
    assert_eq!(segments.count(), 1, "{names:?}");
    assert_eq!(
        places(&open(&survivor.after_kill(), &[QUEUE]), QUEUE),
        [0, 3, 6, 2]
    );
}

fn page_out(store: &Store, count: u64) {
    let places: Vec<u64> = (0..count).collect();
    page_out_these(store, PageTag::default(), &places);
}

fn page_out_these(store: &Store, tag: PageTag, places: &[u64]) {
    let messages: Vec<_> = places
        .iter()
        .map(|place| {
            let body = format!("{} {place}", QUEUE.0);
            (Sequence(*place), message(&body, true))
        })
        .collect();
    super::page_out(store, tag, messages);
}

/// Lets the log go through all its files, so that it gives back what is durable
/// elsewhere.
fn go_round(opened: &Opened) {
    let pages_are_durable = std::time::Duration::from_millis(20);
    std::thread::sleep(pages_are_durable);
    let other = opened.queues.iter().find(|queue| queue.queue == OTHER);
    let mut place = other.map_or(0, |queue| queue.next.0);
    for _ in 0..100 {
        let ticket = append(&opened.store, OTHER, place, 3);
        settle(&opened.store, OTHER, place, 3);
        place += 3;
        wait(&opened.store, ticket);
    }
    let files_are_gone = std::time::Duration::from_millis(20);
    std::thread::sleep(files_are_gone);
}
