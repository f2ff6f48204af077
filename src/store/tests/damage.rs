//! Files that were changed while nobody had them open.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::QueueId;
use crate::store::files::Files;
use crate::store::files::simulated::Simulated;
use crate::store::recovery::{Report, recover};
use crate::store::segment::Registry;
use crate::store::{PageContent, RecoveredContent};

use super::world::{World, body};
use super::{case, thorough};

type Place = (QueueId, u64);

/// A store that was closed, and what is in it.
struct Closed {
    disk: Simulated,
    queues: Vec<QueueId>,
    whole: Contents,
    /// Places that one record has.
    records: Vec<BTreeSet<Place>>,
    /// Places that one page has.
    pages: Vec<BTreeSet<Place>>,
}

struct Contents {
    places: BTreeSet<(Place, String)>,
    pages: Vec<BTreeSet<Place>>,
    damaged: usize,
    report: Report,
}

fn closed(seed: u64) -> Closed {
    let (mut world, disk) = (World::new(seed), Simulated::new(seed));
    let opened = world.open(&disk).expect("it opens");
    world.live(&opened.store, &disk, 60);
    for _ in 0..4 {
        world.append(&opened.store, 2);
        world.page_out(&opened.store);
    }
    let records = world.records();
    world.ends_cleanly(&opened.store);
    drop(opened);
    let queues: Vec<QueueId> = world.queues().collect();
    let whole = contents(&disk, &queues);
    assert!(whole.report.clean && whole.report.damages.is_empty());
    assert!(!whole.pages.is_empty(), "a test without pages");
    let pages = whole.pages.clone();
    Closed {
        disk: disk.after_kill(),
        queues,
        whole,
        records,
        pages,
    }
}

/// What a start finds, without the threads of one.
fn contents(disk: &Simulated, queues: &[QueueId]) -> Contents {
    let files: Arc<dyn Files> = Arc::new(disk.after_kill());
    let registry = Registry::new(Arc::clone(&files));
    let recovery = recover(&files, &registry, queues).expect("damage does not stop a start");
    let mut contents = Contents {
        places: BTreeSet::new(),
        pages: Vec::new(),
        damaged: 0,
        report: recovery.report,
    };
    for queue in &recovery.queues {
        let id = queue.queue;
        for run in &queue.runs {
            let found: Vec<(u64, String)> = match &run.content {
                RecoveredContent::Resident(messages) => messages
                    .iter()
                    .map(|(place, message)| (place.0, body(message)))
                    .collect(),
                RecoveredContent::Paged(page) => {
                    let content = registry.read(*page).unwrap_or_default();
                    contents.damaged += content.damaged.len();
                    let found = pairs(run.first.0, content);
                    let places = found.iter().map(|(place, _)| (id, *place));
                    contents.pages.push(places.collect());
                    found
                }
            };
            for (place, body) in found {
                contents.places.insert(((id, place), body));
            }
        }
    }
    contents
}

fn pairs(first: u64, content: PageContent) -> Vec<(u64, String)> {
    let places: Vec<u64> = match &content.places {
        Some(places) => places.iter().map(|place| place.0).collect(),
        None => (first..first + content.messages.len() as u64).collect(),
    };
    places
        .into_iter()
        .zip(content.messages.iter().map(body))
        .collect()
}

impl Closed {
    /// Changes a file and looks what that costs: at most `most` records or
    /// pages, and never in silence.
    fn hurt(&self, name: &str, content: Vec<u8>, most: usize) {
        let disk = self.disk.after_kill();
        disk.overwrite(name, content);
        let found = contents(&disk, &self.queues);
        let lost: BTreeSet<Place> = self
            .whole
            .places
            .difference(&found.places)
            .map(|(place, _)| *place)
            .collect();
        let back = found.places.difference(&self.whole.places).count();
        if lost.is_empty() && back == 0 {
            return;
        }
        let told = !found.report.damages.is_empty() || found.damaged > 0;
        assert!(told || !found.report.clean, "in silence: {lost:?}");
        for (place, body) in &found.places {
            let other = |(of, is): &&(Place, String)| of == place && is != body;
            assert_eq!(self.whole.places.iter().find(other), None);
        }
        let cost = |groups: &[BTreeSet<Place>]| {
            let (mut left, mut cost) = (lost.clone(), 0);
            for group in groups {
                let before = left.len();
                left.retain(|place| !group.contains(place));
                cost += usize::from(left.len() < before);
            }
            if left.is_empty() { cost } else { usize::MAX }
        };
        let cost = cost(&self.records).min(cost(&self.pages));
        assert!(cost <= most, "{cost} for one damage: {lost:?}");
    }

    fn each_file(&self, mut each: impl FnMut(&str, &[u8])) {
        for name in self.disk.names().expect("names") {
            let used = |octets: &Vec<u8>| octets.iter().rposition(|octet| *octet != 0);
            let octets = self.disk.content(&name);
            if !crate::store::log::is_spare(&name) {
                let end = used(&octets).map_or(0, |at| at + 1);
                // A little of the unused rest, too.
                each(&name, &octets[..(end + 80).min(octets.len())]);
            }
        }
    }
}

/// Museum 6, and 19 for a single node: what is damaged is never believed.
#[test]
fn museum_06_a_flipped_bit_costs_one_record_or_message() {
    for seed in 0..if thorough() { 3 } else { 1 } {
        let closed = closed(seed);
        let stride = if thorough() { 1 } else { 5 };
        closed.each_file(|name, octets| {
            for at in (0..octets.len()).step_by(stride) {
                case(&format!("seed {seed}, {name}, octet {at}"), || {
                    let mut content = closed.disk.content(name);
                    content[at] ^= 1 << (at % 8);
                    closed.hurt(name, content, 1);
                });
            }
        });
    }
}

#[test]
fn museum_06_zeros_cost_the_records_that_they_touch() {
    let closed = closed(7);
    let stride = if thorough() { 4 } else { 36 };
    closed.each_file(|name, octets| {
        for at in (0..octets.len().saturating_sub(16)).step_by(stride) {
            case(&format!("{name}, octets from {at}"), || {
                let mut content = closed.disk.content(name);
                content[at..at + 16].fill(0);
                closed.hurt(name, content, 2);
            });
        }
    });
}

/// Museum 6: a file that ends anywhere does not stop a start.
#[test]
fn museum_06_a_file_cut_off_anywhere_does_not_stop_the_start() {
    let closed = closed(8);
    // Records and pages begin at every eighth octet.
    let stride = if thorough() { 1 } else { 8 };
    closed.each_file(|name, octets| {
        for length in (0..octets.len()).step_by(stride) {
            case(&format!("{name}, cut at {length}"), || {
                closed.hurt(name, octets[..length].to_vec(), usize::MAX);
            });
        }
    });
}
