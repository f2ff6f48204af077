//! Disk use follows what is alive, not what was ever written out.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::model::{Page, PageTag, Sequence};
use crate::store::files::Files;
use crate::store::files::simulated::Simulated;
use crate::store::{Opened, RecoveredContent, Store};

use super::world::{body, message, settings};
use super::{QUEUE, Run, page_out, settle, wait};

const MESSAGES: u64 = 4_000;
const OF_A_PAGE: u64 = 20;

fn open(disk: &Simulated) -> Opened {
    let files = std::sync::Arc::new(disk.clone());
    Store::open(files, &settings(), &[QUEUE], Box::new(|| {})).expect("it opens")
}

fn text(place: u64) -> String {
    format!("{place} {}", "x".repeat(100))
}

/// Appends messages and writes all of them out; the pages by their first places.
fn write_out(store: &Store) -> BTreeMap<u64, Page> {
    let mut pages = BTreeMap::new();
    for first in (0..MESSAGES).step_by(OF_A_PAGE as usize) {
        let places = first..first + OF_A_PAGE;
        let messages: Vec<_> = places
            .map(|place| (Sequence(place), message(&text(place), true)))
            .collect();
        let run = Run {
            queue: QUEUE,
            first: Sequence(first),
            message: 0,
            count: OF_A_PAGE as u32,
        };
        let copies: Vec<_> = messages
            .iter()
            .map(|(_, message)| message.clone())
            .collect();
        wait(store, store.append(&[], &[run], &copies));
        let page = page_out(store, PageTag::default(), messages);
        pages.insert(first, page);
    }
    pages
}

fn segment_bytes(disk: &Simulated) -> u64 {
    let names = disk.names().expect("names");
    let segments = names.iter().filter(|name| name.ends_with(".seg"));
    segments.map(|name| disk.content(name).len() as u64).sum()
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The places of a queue whose messages are what they were.
fn restored(opened: &Opened) -> Vec<u64> {
    let mut places = Vec::new();
    for run in opened.queues.iter().flat_map(|queue| &queue.runs) {
        let RecoveredContent::Paged(page) = &run.content else {
            panic!("all of them are in pages");
        };
        places.extend(in_page(&opened.store, *page, run.first.0));
    }
    places.sort_unstable();
    places
}

fn in_page(store: &Store, page: Page, first: u64) -> Vec<u64> {
    let content = store.read_page(page);
    assert_eq!(content.damaged, []);
    let consecutive = || (first..).map(Sequence).take(content.messages.len());
    let places = content.places.clone();
    let places = places.unwrap_or_else(|| consecutive().collect());
    let each = places.iter().zip(&content.messages);
    each.map(|(place, message)| {
        assert_eq!(body(message), text(place.0));
        place.0
    })
    .collect()
}

#[test]
fn single_messages_that_stay_do_not_hold_the_room_of_all_others() {
    let disk = Simulated::new(5);
    let opened = open(&disk);
    let store = &opened.store;
    let pages = write_out(store);
    let full = segment_bytes(&disk);
    // Of each page one stays, a later one of each that follows.
    let stays = |place: &u64| place % OF_A_PAGE == place / OF_A_PAGE % OF_A_PAGE;
    let left: Vec<u64> = (0..MESSAGES).filter(stays).collect();
    let mut from = 0;
    for place in left.iter().copied().chain([MESSAGES]) {
        settle(store, from, place - from);
        from = place + 1;
    }
    // A page of one message has a header, and files have one too.
    let live = full / OF_A_PAGE + 64 * left.len() as u64;
    let most = 2 * live + 4 * settings().segment_bytes;
    assert!(most < full / 2, "{most} of {full}: nothing would be shown");
    until("segments shrink", || segment_bytes(&disk) <= most);
    // The queue knows nothing of it.
    for (first, page) in &pages {
        let place = first + first / OF_A_PAGE % OF_A_PAGE;
        assert!(in_page(store, *page, *first).contains(&place));
    }
    // Nor does it matter when the machine stops, and it goes on from there.
    for cut in 0..3 {
        let survivor = disk.after_power_cut(cut);
        let opened = open(&survivor);
        assert_eq!(restored(&opened), left);
        let (even, odd): (Vec<u64>, Vec<u64>) = left.iter().partition(|place| *place % 2 == 0);
        let before = segment_bytes(&survivor);
        even.iter()
            .for_each(|place| settle(&opened.store, *place, 1));
        let most = before * 3 / 4;
        until("they shrink again", || segment_bytes(&survivor) <= most);
        let found = restored(&opened);
        assert!(odd.iter().all(|place| found.contains(place)));
        drop(opened);
        assert_eq!(restored(&open(&survivor.after_kill())), odd);
    }
}
