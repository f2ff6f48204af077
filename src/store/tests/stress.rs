//! Many queues at once on the real disk, each with a thread of its own.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::store::{Disk, Store};

use super::thorough;
use super::world::{World, settings};

const THREADS: u64 = 8;

#[test]
fn many_queues_at_once_keep_all_that_is_theirs() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut worlds: Vec<World> = (0..THREADS)
        .map(|number| World::with_queues_from(number, 1 + number * 1_000_000))
        .collect();
    for clean in [false, true, false] {
        let queues: Vec<_> = worlds.iter().flat_map(World::queues).collect();
        let files = Disk::open(directory.path()).expect("the directory is ours");
        let opened = Store::open(Arc::new(files), &settings(), &queues, Box::new(|| {}));
        let opened = opened.expect("it opens");
        let store = &opened.store;
        let until = Instant::now() + Duration::from_millis(if thorough() { 5_000 } else { 700 });
        thread::scope(|scope| {
            for world in &mut worlds {
                world.check(&opened);
                scope.spawn(move || {
                    while Instant::now() < until {
                        world.step(store);
                    }
                });
            }
        });
        assert_eq!(store.failure(), None);
        for world in &mut worlds {
            if clean {
                world.ends_cleanly(store);
            } else {
                world.ends_abruptly(store);
            }
        }
        store.abandon();
    }
    let queues: Vec<_> = worlds.iter().flat_map(World::queues).collect();
    let files = Disk::open(directory.path()).expect("the directory is ours");
    let opened = Store::open(Arc::new(files), &settings(), &queues, Box::new(|| {}));
    let opened = opened.expect("it opens");
    for world in &mut worlds {
        world.check(&opened);
    }
}
