//! Crashes at every operation: of a life, and of the recovery after it.

use std::sync::Arc;

use crate::store::Store;
use crate::store::files::Files;
use crate::store::files::simulated::{Fault, Simulated};

use super::world::{World, settings};
use super::{QUEUE, append, case, first_loss, open_simulated, places, thorough, wait};

/// How a process ends.
#[derive(Clone, Copy, Debug)]
enum Death {
    Kill,
    PowerCut { seed: u64 },
}

impl Death {
    fn survivor(self, disk: &Simulated) -> Simulated {
        match self {
            Self::Kill => disk.after_kill(),
            Self::PowerCut { seed } => disk.after_power_cut(seed),
        }
    }
}

/// A life that dies at an operation, then a recovery that may die too, then a
/// short life and another death.
fn lives(script: u64, at: u64, death: Death, again_at: Option<u64>) {
    let mut world = World::new(script);
    let mut disk = Simulated::new(at);
    disk.plan(Some(Fault::Crash { at }));
    if let Ok(opened) = world.open(&disk) {
        world.live(&opened.store, &disk, STEPS);
        world.ends_abruptly(&opened.store);
        if !disk.crashed() {
            opened.store.close();
            world.ends_abruptly(&opened.store);
        }
    }
    disk = death.survivor(&disk);
    if let Some(at) = again_at {
        disk.plan(Some(Fault::Crash { at }));
        // Opening may get as far as to work.
        drop(world.open(&disk));
        disk = death.survivor(&disk);
    }
    let opened = world.open(&disk).expect("it opens after a crash");
    world.check(&opened);
    world.live(&opened.store, &disk, 10);
    world.ends_abruptly(&opened.store);
    let survivor = Death::PowerCut { seed: at }.survivor(&disk);
    drop(opened);
    let opened = world.open(&survivor).expect("it opens again");
    world.check(&opened);
    world.live(&opened.store, &survivor, 3);
    world.ends_cleanly(&opened.store);
    drop(opened);
    let opened = world.open(&survivor).expect("it opens after a clean stop");
    world.check(&opened);
}

fn operations(script: u64) -> u64 {
    let mut world = World::new(script);
    let disk = Simulated::new(0);
    let opened = world.open(&disk).expect("it opens");
    world.live(&opened.store, &disk, STEPS);
    world.ends_cleanly(&opened.store);
    disk.operations()
}

fn at_every_operation(script: u64, death: impl Fn(u64) -> Vec<Death>) {
    let all = operations(script);
    let stride = if thorough() { 1 } else { all / 60 + 1 };
    let mut at = 1;
    while at <= all {
        for death in death(at) {
            case(&format!("script {script}, {death:?} at {at}"), || {
                lives(script, at, death, None);
            });
        }
        at += stride;
    }
}

/// Museum 1, 15, 22: also rolls, carries, and removals of segments.
#[test]
fn a_kill_at_any_operation_loses_nothing() {
    at_every_operation(1, |_| vec![Death::Kill]);
}

#[test]
fn a_power_cut_at_any_operation_loses_nothing() {
    at_every_operation(2, |at| {
        let seeds = if thorough() { 4 } else { 1 };
        let seed = |number| at * 8 + number;
        (0..seeds)
            .map(|number| Death::PowerCut { seed: seed(number) })
            .collect()
    });
}

/// Museum 1: two crashes in a row.
#[test]
fn a_crash_during_recovery_loses_nothing() {
    let all = operations(3);
    let stride = if thorough() {
        all / 60 + 1
    } else {
        all / 8 + 1
    };
    for at in (1..=all).step_by(stride as usize) {
        for again_at in 1..12 {
            let seed = at * 32 + again_at;
            for death in [Death::Kill, Death::PowerCut { seed }] {
                case(&format!("{death:?} at {at} and at {again_at}"), || {
                    lives(3, at, death, Some(again_at));
                });
            }
        }
    }
}

/// The file that a killed broker had not begun is gone before the older ones
/// are: alone beside a younger one it looks as if it had lost what it held.
#[test]
fn a_file_that_was_never_begun_is_not_taken_for_a_loss() {
    let mut never_begun = 0;
    for at in 1..12 {
        let disk = Simulated::new(at);
        open_simulated(&disk).store.close();
        disk.plan(Some(Fault::Crash { at }));
        drop(World::new(at).open(&disk));
        let disk = disk.after_kill();
        let names = disk.names().expect("the disk is alive");
        never_begun += names.iter().filter(|name| name.starts_with("log-")).count() / 2;
        let opened = open_simulated(&disk);
        for seed in 0..64 {
            let opened = open_simulated(&disk.after_power_cut(seed));
            assert_eq!(first_loss(&opened), None, "crash at {at}, seed {seed}");
        }
        drop(opened);
    }
    assert!(never_begun > 0);
}

/// Who is killed while it stops may have written that it ended cleanly, and not
/// have synced that: the next life begins with it all the same.
#[test]
fn the_end_of_a_life_that_was_cut_short_is_not_missed() {
    let mut ended_cleanly = 0;
    for at in 1..40 {
        let disk = Simulated::new(at);
        disk.plan(Some(Fault::Crash { at }));
        let files = Arc::new(disk.clone());
        drop(Store::open(files, &settings(), &[QUEUE], Box::new(|| {})));
        if !disk.crashed() {
            break;
        }
        let disk = disk.after_kill();
        let opened = open_simulated(&disk);
        ended_cleanly += u32::from(opened.report.records > 0 && opened.report.clean);
        opened.store.register(QUEUE);
        wait(&opened.store, append(&opened.store, 0, 1));
        for seed in 0..64 {
            let opened = open_simulated(&disk.after_power_cut(seed));
            assert_eq!(first_loss(&opened), None, "crash at {at}, seed {seed}");
            assert_eq!(places(&opened), [0], "crash at {at}, seed {seed}");
        }
    }
    assert!(ended_cleanly > 0);
}

/// Steps of a life that is cut off.
const STEPS: u32 = 150;
