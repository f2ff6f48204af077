//! The routes that a connection remembers, by exchange and routing key.
//!
//! Each connection may remember some thousands. One that publishes with more
//! keys than that takes further room out of what all connections share, so that
//! a hundred thousand of them are found as quickly as ten; where that is used
//! up, it forgets all and begins again.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::routing::Needs;

use super::super::exchange_memory::ExchangeMemory;

/// Where messages of one exchange and routing key go. Most are one line of the
/// processor's cache: where there are many, each message has to wait for its own.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Route {
    envelope: Envelope,
    targets: Targets,
    /// What can change where it leads.
    pub(super) needs: Needs,
    /// By what the exchange knows copies.
    pub(super) memory: Option<Arc<ExchangeMemory>>,
}

#[derive(Debug)]
enum Envelope {
    Short(u8, [u8; SHORT_BYTES]),
    Long(Box<[u8]>),
}

#[derive(Debug)]
enum Targets {
    One(u32),
    Several(Box<[u32]>),
}

/// The routes of one connection, numbered.
#[derive(Debug)]
pub(super) struct Routes {
    list: Vec<Route>,
    /// By the hash of the envelope.
    numbers: HashTable<u32>,
    hasher: RandomState,
    last: Option<usize>,
    /// Room that was taken out of the shared one.
    taken: usize,
    shared: Arc<SharedRoom>,
}

/// Room for routes that the connections of a node share.
#[derive(Debug)]
pub(in crate::broker) struct SharedRoom(AtomicUsize);

impl Default for SharedRoom {
    fn default() -> Self {
        Self(AtomicUsize::new(SHARED_ROUTES))
    }
}

impl SharedRoom {
    /// Takes room for so many; whether there was as much.
    fn take(&self, count: usize) -> bool {
        let left = |room: usize| room.checked_sub(count);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, left)
            .is_ok()
    }

    fn give_back(&self, count: usize) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }
}

impl Route {
    pub(super) fn new(
        envelope: &[u8],
        targets: &[u32],
        needs: Needs,
        memory: Option<Arc<ExchangeMemory>>,
    ) -> Self {
        let mut short = [0; SHORT_BYTES];
        Self {
            envelope: match short.get_mut(..envelope.len()) {
                Some(octets) => {
                    octets.copy_from_slice(envelope);
                    Envelope::Short(envelope.len() as u8, short)
                }
                None => Envelope::Long(envelope.into()),
            },
            targets: match *targets {
                [target] => Targets::One(target),
                _ => Targets::Several(targets.into()),
            },
            needs,
            memory,
        }
    }

    #[inline]
    fn envelope(&self) -> &[u8] {
        match &self.envelope {
            Envelope::Short(count, octets) => octets.get(..usize::from(*count)).unwrap_or(octets),
            Envelope::Long(octets) => octets,
        }
    }

    /// None where each message is routed on its own.
    #[inline]
    pub(super) fn targets(&self) -> &[u32] {
        match &self.targets {
            Targets::One(target) => std::slice::from_ref(target),
            Targets::Several(targets) => targets,
        }
    }
}

impl Routes {
    pub(super) fn new(shared: Arc<SharedRoom>) -> Self {
        Self {
            list: Vec::new(),
            numbers: HashTable::new(),
            hasher: RandomState::default(),
            last: None,
            taken: 0,
            shared,
        }
    }

    /// The number of that envelope's route, if it is remembered.
    #[inline]
    pub(super) fn find(&mut self, envelope: &[u8]) -> Option<usize> {
        let is_it = |number: usize| {
            let route = self.list.get(number);
            route.is_some_and(|route| route.envelope() == envelope)
        };
        // Who publishes with many keys mostly does so in turns, and the processor
        // loads what comes next by itself.
        let near = self.last.into_iter().flat_map(|last| [last, last + 1]);
        let found = near.into_iter().find(|number| is_it(*number)).or_else(|| {
            let hash = self.hasher.hash_one(envelope);
            let number = self.numbers.find(hash, |number| is_it(*number as usize));
            number.map(|number| *number as usize)
        })?;
        self.last = Some(found);
        self.last
    }

    /// The route that was asked for last.
    pub(super) fn last(&self) -> Option<&Route> {
        self.list.get(self.last?)
    }

    /// Remembers a route that is not remembered yet; its number.
    pub(super) fn add(&mut self, route: Route) -> usize {
        let number = self.list.len();
        let hash = self.hasher.hash_one(route.envelope());
        self.list.push(route);
        let (list, hasher) = (&self.list, &self.hasher);
        let hash_of = |number: &u32| {
            let route = list.get(*number as usize);
            hasher.hash_one(route.map_or(&[][..], Route::envelope))
        };
        self.numbers.insert_unique(hash, number as u32, hash_of);
        self.last = Some(number);
        number
    }

    /// The route of that number, which is valid until [`Routes::clear`].
    #[inline]
    pub(super) fn get(&self, number: usize) -> &Route {
        &self.list[number]
    }

    /// Whether there are more than there is room for.
    pub(super) fn is_full(&mut self) -> bool {
        while self.list.len() > ROUTES_MAX + self.taken {
            if !self.shared.take(ROUTES_MAX) {
                return true;
            }
            self.taken += ROUTES_MAX;
        }
        false
    }

    /// Forgets all of them.
    pub(super) fn clear(&mut self) {
        self.list.clear();
        self.numbers.clear();
        self.last = None;
        if self.taken > 0 {
            self.list.shrink_to(ROUTES_MAX);
            self.numbers = HashTable::new();
            self.shared.give_back(std::mem::take(&mut self.taken));
        }
    }
}

impl Drop for Routes {
    fn drop(&mut self) {
        self.shared.give_back(self.taken);
    }
}

/// Octets of an envelope up to which a route holds it.
const SHORT_BYTES: usize = 30;
/// Routes that each connection may remember.
const ROUTES_MAX: usize = 16 * 1024;
/// Those that all connections together may remember beyond that: some 40 MiB.
const SHARED_ROUTES: usize = 32 * ROUTES_MAX;

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(routes: &mut Routes, count: usize) {
        for number in 0..count {
            let envelope = number.to_be_bytes();
            if routes.find(&envelope).is_none() {
                routes.add(Route::new(&envelope, &[], Needs::NOTHING, None));
            }
        }
    }

    #[test]
    fn what_is_remembered_is_found_by_its_number() {
        let mut routes = Routes::new(Arc::default());
        fill(&mut routes, 1_000);
        for number in [0_usize, 999, 500] {
            assert_eq!(routes.find(&number.to_be_bytes()), Some(number));
            assert_eq!(routes.get(number).envelope(), number.to_be_bytes());
        }
        assert_eq!(routes.find(&1_000_usize.to_be_bytes()), None);
        routes.clear();
        assert_eq!(routes.find(&0_usize.to_be_bytes()), None);
    }

    #[test]
    fn a_route_is_a_line_of_the_cache() {
        assert_eq!(size_of::<Route>(), 64);
        for envelope in [&[b'x'; SHORT_BYTES][..], &[b'x'; SHORT_BYTES + 1], &[]] {
            for targets in [&[][..], &[7], &[7, 8]] {
                let route = Route::new(envelope, targets, Needs::NOTHING, None);
                assert_eq!(route.envelope(), envelope);
                assert_eq!(route.targets(), targets);
            }
        }
    }

    #[test]
    fn who_needs_more_takes_shared_room_and_gives_it_back() {
        let shared = Arc::new(SharedRoom(AtomicUsize::new(ROUTES_MAX)));
        let mut first = Routes::new(Arc::clone(&shared));
        let mut second = Routes::new(Arc::clone(&shared));
        fill(&mut first, 2 * ROUTES_MAX);
        fill(&mut second, ROUTES_MAX + 1);
        assert!(!first.is_full());
        assert!(second.is_full(), "there is no more");
        drop(first);
        assert!(!second.is_full());
        second.clear();
        assert_eq!(shared.0.load(Ordering::Relaxed), ROUTES_MAX);
    }
}
