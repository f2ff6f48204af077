//! The rules of the queues that the model test makes. Most have few, so that
//! each is tried alone and with each other one.

use proptest::prelude::*;

use super::message::{GROUP_HEADER, NAME_HEADER};
use crate::model::{Deduplication, ExchangeName, Growth, Overflow, QueueRules, Retry, RetryOf};

/// What a case is about.
#[derive(Clone, Debug)]
pub(super) struct Features {
    pub(super) rules: QueueRules,
    /// Whether messages have TTLs of their own.
    pub(super) expiring: bool,
    /// Whether messages wait for their time.
    pub(super) scheduled: bool,
}

pub(super) fn features() -> impl Strategy<Value = Features> {
    features_of(mask())
}

/// Groups, retries and messages that wait for their time, with whatever else.
pub(super) fn late_features() -> impl Strategy<Value = Features> {
    features_of(mask().prop_map(|mask| mask | 1 << 9 | 1 << 10 | 1 << 13))
}

fn features_of(mask: impl Strategy<Value = u16>) -> impl Strategy<Value = Features> {
    (mask, all_rules()).prop_map(|(mask, rules)| Features {
        rules: masked(rules, mask),
        expiring: mask & 1 << 12 != 0,
        scheduled: mask & 1 << 13 != 0,
    })
}

/// Rules that a policy could set.
pub(super) fn policy() -> impl Strategy<Value = QueueRules> {
    (mask(), all_rules()).prop_map(|(mask, rules)| masked(rules, mask))
}

fn mask() -> impl Strategy<Value = u16> {
    let bit = || (0..14_u16).prop_map(|bit| 1 << bit);
    prop_oneof![
        1 => Just(0),
        3 => (bit(), bit()).prop_map(|(one, other)| one | other),
        3 => (bit(), bit(), bit(), bit()).prop_map(|(a, b, c, d)| a | b | c | d),
        2 => any::<u16>(),
    ]
}

fn masked(rules: QueueRules, mask: u16) -> QueueRules {
    let has = |bit: u16| mask & (1 << bit) != 0;
    QueueRules {
        message_ttl: rules.message_ttl.filter(|_| has(0)),
        expires: rules.expires.filter(|_| has(1)),
        max_length: rules.max_length.filter(|_| has(2)),
        max_length_bytes: rules.max_length_bytes.filter(|_| has(3)),
        overflow: if has(2) || has(3) {
            rules.overflow
        } else {
            Overflow::default()
        },
        dead_letter_exchange: rules.dead_letter_exchange.filter(|_| has(4)),
        dead_letter_routing_key: None,
        max_priority: rules.max_priority.filter(|_| has(5)),
        single_active_consumer: has(6),
        delivery_limit: rules.delivery_limit.filter(|_| has(7)),
        consumer_timeout: rules.consumer_timeout.filter(|_| has(8)),
        retry: rules.retry.filter(|_| has(9)),
        group_header: rules.group_header.filter(|_| has(10)),
        deduplication: rules.deduplication.filter(|_| has(11)),
    }
}

fn all_rules() -> impl Strategy<Value = QueueRules> {
    let overflow = prop_oneof![
        2 => Just(Overflow::DropHead),
        1 => Just(Overflow::RejectPublish),
        1 => Just(Overflow::RejectPublishDeadLetter),
    ];
    (
        (prop_oneof![1 => Just(0), 5 => 1..30_u64], 1..60_u64),
        (0..8_u64, 0..200_u64, overflow),
        (0..4_u8, 0..4_u32, 1..30_u64),
        retry(),
        (1..6_u64, prop::option::of(1..20_u64)),
    )
        .prop_map(
            |(
                (ttl, expires),
                (length, bytes, overflow),
                (priority, limit, timeout),
                retry,
                (count, time),
            )| QueueRules {
                message_ttl: Some(ttl),
                expires: Some(expires),
                max_length: Some(length),
                max_length_bytes: Some(bytes),
                overflow,
                dead_letter_exchange: Some(ExchangeName::from("dead")),
                dead_letter_routing_key: None,
                max_priority: Some(priority),
                single_active_consumer: true,
                delivery_limit: Some(limit),
                consumer_timeout: Some(timeout),
                retry: Some(retry),
                group_header: Some(GROUP_HEADER.into()),
                deduplication: Some(Deduplication {
                    header: NAME_HEADER.into(),
                    count,
                    time,
                }),
            },
        )
}

fn retry() -> impl Strategy<Value = Retry> {
    let growth = prop_oneof![
        Just(Growth::Linear),
        Just(Growth::Factor(1.0)),
        Just(Growth::Factor(2.0)),
    ];
    let of = prop_oneof![
        2 => Just(RetryOf::All),
        1 => Just(RetryOf::Failed),
        1 => Just(RetryOf::Returned),
    ];
    let delay = prop_oneof![8 => 0..20_u64, 1 => Just(2_500)];
    let more = prop_oneof![4 => 0..40_u64, 1 => Just(2_500)];
    // Parts that have no rest in binary.
    let jitter = prop_oneof![2 => Just(0.0), 1 => Just(0.25), 1 => Just(0.5), 1 => Just(1.0)];
    (delay, growth, more, jitter, of).prop_map(|(delay, growth, more, jitter, of)| Retry {
        delay,
        growth,
        max_delay: delay + more,
        jitter,
        of,
    })
}
