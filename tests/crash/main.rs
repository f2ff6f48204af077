//! The store's promises, tried by taking the broker away: `leveret` is killed,
//! loses its disk's power or is stopped, under load and at random moments, and
//! the clients' own ledger says what must be there afterwards. Some of the
//! queues have priorities, dead letters, retries, ordered groups and the like:
//! `mix/`.
//!
//! `LEVERET_CRASH_SEED` repeats a run's decisions (not its threads' timing),
//! `LEVERET_CRASH_CYCLES` and `LEVERET_POWER_CUTS` set how many cycles there
//! are, and `LEVERET_CRASH_KEEP` names a directory for a copy of what the last
//! restart began with. Cutting the power takes root; see `disk.rs`.

#[path = "../support/mod.rs"]
mod support;

mod body;
mod cycles;
mod definitions;
mod disk;
mod drain;
mod exactly_once;
mod full_disk;
mod ledger;
mod load;
mod mix;
mod no_room;
mod process;
mod random;
mod restart;
mod short_memory;
mod site;
mod store_faults;
mod wire;
mod written;
