//! The commands that the model test mixes.

use proptest::prelude::*;

use super::CHANNELS;
use super::message::{Spec, specs};
use super::rules::policy;
use crate::model::QueueRules;
use crate::queue::Outcome;

#[derive(Clone, Debug)]
pub(super) enum Operation {
    Publish {
        specs: Vec<Spec>,
    },
    /// Time passes.
    Advance {
        millis: u64,
    },
    /// The host's timer goes off, when it should or not.
    Tick,
    EnforceLimits,
    /// The queue is declared again.
    Touch,
    /// Dead letters have reached their queues, or there are none.
    SettleLetters {
        picks: Vec<usize>,
    },
    /// The log has refused a message that had a name.
    RefuseName {
        pick: usize,
    },
    /// A policy changes.
    SetRules(Box<QueueRules>),
    Consume {
        priority: i32,
        prefetch: Option<u32>,
        no_ack: bool,
        exclusive: bool,
        channel: Option<usize>,
    },
    Cancel {
        pick: usize,
    },
    CancelStale {
        slot: u32,
    },
    Park {
        pick: usize,
    },
    Resume {
        pick: usize,
    },
    ResumeStale {
        slot: u32,
    },
    SetLimit {
        channel: usize,
        limit: u32,
    },
    Get {
        no_ack: bool,
    },
    Settle {
        picks: Vec<usize>,
        outcome: Outcome,
    },
    SettleStale {
        slot: u32,
        outcome: Outcome,
    },
    /// Those settle what was taken away from them who held it too long.
    SettleTaken {
        outcome: Outcome,
    },
    Purge,
    Deliver {
        budget_bytes: usize,
    },
    PageOut {
        partial: bool,
    },
    /// The store has done with one of the runs to be written.
    Written {
        pick: usize,
        success: bool,
    },
    PageWanted {
        ahead: bool,
    },
    /// One of the pages asked for was read; bits of `damage` are messages that
    /// are missing.
    Read {
        pick: usize,
        damage: u8,
    },
    /// The page without which nothing can be delivered is read.
    ReadMissing {
        damage: u8,
    },
    Restart(Restart),
}

/// How the store gives a queue back.
#[derive(Clone, Debug)]
pub(super) struct Restart {
    /// Messages of each run, and whether it is in a page; gone through in turn.
    pub(super) runs: Vec<(usize, bool)>,
    /// Places that are passed over.
    pub(super) gap: u64,
    /// Whether the counts of deliveries were kept.
    pub(super) counts_known: bool,
    /// Whether the names that tell copies were.
    pub(super) names_kept: bool,
    /// How many of the messages may have been delivered.
    pub(super) redelivered: usize,
}

pub(super) fn operation() -> impl Strategy<Value = Operation> {
    use Operation::*;
    let pick = || any::<prop::sample::Index>().prop_map(|index| index.index(usize::MAX));
    prop_oneof![
        12 => specs().prop_map(|specs| Publish { specs }),
        8 => prop_oneof![8 => 0..12_u64, 1 => 12..60_u64, 1 => Just(2_600)]
            .prop_map(|millis| Advance { millis }),
        4 => Just(Tick),
        2 => Just(EnforceLimits),
        1 => Just(Touch),
        3 => prop::collection::vec(pick(), 1..5).prop_map(|picks| SettleLetters { picks }),
        1 => pick().prop_map(|pick| RefuseName { pick }),
        1 => policy().prop_map(|rules| SetRules(Box::new(rules))),
        3 => (
            -1..=1_i32,
            prop::option::weighted(0.7, 1..4_u32),
            prop::bool::weighted(0.2),
            prop::bool::weighted(0.05),
            prop::option::of(0..CHANNELS),
        ).prop_map(|(priority, prefetch, no_ack, exclusive, channel)| Consume {
            priority, prefetch, no_ack, exclusive, channel,
        }),
        1 => pick().prop_map(|pick| Cancel { pick }),
        1 => (0..12_u32).prop_map(|slot| CancelStale { slot }),
        1 => pick().prop_map(|pick| Park { pick }),
        2 => pick().prop_map(|pick| Resume { pick }),
        1 => (0..12_u32).prop_map(|slot| ResumeStale { slot }),
        1 => (0..CHANNELS, 0..5_u32).prop_map(|(channel, limit)| SetLimit { channel, limit }),
        2 => any::<bool>().prop_map(|no_ack| Get { no_ack }),
        6 => (prop::collection::vec(pick(), 1..5), outcome())
            .prop_map(|(picks, outcome)| Settle { picks, outcome }),
        1 => (0..40_u32, outcome()).prop_map(|(slot, outcome)| SettleStale { slot, outcome }),
        1 => outcome().prop_map(|outcome| SettleTaken { outcome }),
        1 => Just(Purge),
        8 => prop_oneof![Just(0), 0..200_usize, Just(usize::MAX)]
            .prop_map(|budget_bytes| Deliver { budget_bytes }),
        6 => any::<bool>().prop_map(|partial| PageOut { partial }),
        6 => (pick(), prop::bool::weighted(0.8))
            .prop_map(|(pick, success)| Written { pick, success }),
        3 => prop::bool::weighted(0.7).prop_map(|ahead| PageWanted { ahead }),
        3 => (pick(), damage()).prop_map(|(pick, damage)| Read { pick, damage }),
        2 => damage().prop_map(|damage| ReadMissing { damage }),
        2 => restart().prop_map(Restart),
    ]
}

/// Mostly those that have to do with waiting.
pub(super) fn late_operation() -> impl Strategy<Value = Operation> {
    use Operation::*;
    let pick = || any::<prop::sample::Index>().prop_map(|index| index.index(usize::MAX));
    prop_oneof![
        4 => operation(),
        3 => specs().prop_map(|specs| Publish { specs }),
        3 => (0..12_u64).prop_map(|millis| Advance { millis }),
        1 => Just(Advance { millis: 500 }),
        2 => (1..4_u32).prop_map(|prefetch| Consume {
            priority: 0, prefetch: Some(prefetch), no_ack: false, exclusive: false, channel: None,
        }),
        2 => Just(Get { no_ack: false }),
        2 => Just(Deliver { budget_bytes: usize::MAX }),
        3 => (prop::collection::vec(pick(), 1..3), any::<bool>()).prop_map(|(picks, refused)| {
            Settle { picks, outcome: Outcome::Requeue { redelivered: true, refused } }
        }),
        2 => Just(PageOut { partial: false }),
        2 => Just(Written { pick: 0, success: true }),
        2 => prop::bool::weighted(0.7).prop_map(|ahead| PageWanted { ahead }),
        2 => (pick(), damage()).prop_map(|(pick, damage)| Read { pick, damage }),
        1 => restart().prop_map(Restart),
    ]
}

fn restart() -> impl Strategy<Value = Restart> {
    let shape = (
        prop::collection::vec((1..5_usize, any::<bool>()), 1..4),
        0..3_u64,
        any::<(bool, bool)>(),
        prop_oneof![Just(0), 0..20_usize],
    );
    shape.prop_map(
        |(runs, gap, (counts_known, names_kept), redelivered)| Restart {
            runs,
            gap,
            counts_known,
            names_kept,
            redelivered,
        },
    )
}

fn damage() -> impl Strategy<Value = u8> {
    prop_oneof![8 => Just(0), 1 => any::<u8>(), 1 => Just(u8::MAX)]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Outcome::Ack),
        Just(Outcome::Discard),
        any::<(bool, bool)>().prop_map(|(redelivered, refused)| Outcome::Requeue {
            redelivered,
            refused
        }),
    ]
}
