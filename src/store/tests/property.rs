//! Anything, in any order, with restarts of any kind in between.

use crate::store::files::simulated::{Dice, Fault, Simulated};

use super::world::World;
use super::{case, thorough};

/// Several lives of one store, each with another end.
fn lives(seed: u64) {
    let mut world = World::new(seed);
    let mut ends = Dice(seed ^ 0x5eed);
    let mut disk = Simulated::new(seed);
    for _ in 0..4 {
        let opened = world.open(&disk).expect("it opens");
        world.check(&opened);
        if ends.coin() {
            let at = 1 + ends.roll(80);
            disk.plan(Some(Fault::Crash { at }));
        }
        world.live(&opened.store, &disk, 5 + ends.roll(40) as u32);
        if ends.coin() {
            // The store's threads may be just before the crash that was planned.
            disk.plan(None);
            if !disk.crashed() {
                world.ends_cleanly(&opened.store);
                drop(opened);
                continue;
            }
        }
        world.ends_abruptly(&opened.store);
        let survivor = match ends.coin() {
            true => disk.after_kill(),
            false => disk.after_power_cut(ends.roll(u64::MAX)),
        };
        drop(opened);
        disk = survivor;
    }
    world.check(&world.open(&disk).expect("it opens"));
}

#[test]
fn any_lives_keep_what_was_promised() {
    for seed in 0..if thorough() { 5_000 } else { 200 } {
        case(&format!("seed {seed}"), || lives(seed));
    }
}
