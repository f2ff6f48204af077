//! Repeatable choices: everything that a cycle decides comes from one seed.

use std::time::Duration;

/// SplitMix64.
pub struct Random(u64);

impl Random {
    /// One that gives the same numbers for the same parts.
    pub fn new(parts: &[u64]) -> Self {
        let mut this = Self(0x01e7_e4e7);
        for part in parts {
            this.0 ^= part;
            this.0 = this.next();
        }
        this
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below that one.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// True once in that many times.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// A time from `least` to `most` milliseconds, short ones more often.
    pub fn time(&mut self, least: u64, most: u64) -> Duration {
        let part = self.below(1_000) as u64;
        Duration::from_micros(least * 1_000 + (most - least) * part * part / 1_000)
    }
}

/// `LEVERET_CRASH_SEED`, or a new one; printed, so that a failure can be repeated.
pub fn seed() -> u64 {
    let seed = match std::env::var("LEVERET_CRASH_SEED") {
        Ok(text) => text.parse().expect("LEVERET_CRASH_SEED is a number"),
        Err(_) => std::time::UNIX_EPOCH
            .elapsed()
            .expect("the clock is past 1970")
            .as_micros() as u64,
    };
    eprintln!("LEVERET_CRASH_SEED={seed}");
    seed
}

/// A count from the environment.
pub fn count(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|error| panic!("{name}={text}: {error}"))
    })
}
