//! The messages that the model test publishes: a number, and what rules look at.

use std::sync::Arc;

use leveret_protocol::header::PROPERTIES_OFFSET;
use leveret_protocol::{FieldTable, FieldValue, Properties};
use proptest::prelude::*;

use super::{Time, after};
use crate::model::{BlockBuilder, Body, CANCEL_HEADER, Message, Traits};

/// What a message asks for.
#[derive(Clone, Debug, Default)]
pub(in crate::queue) struct Spec {
    /// Octets of the body behind the number.
    pub(in crate::queue) size: u8,
    pub(in crate::queue) priority: Option<u8>,
    pub(in crate::queue) ttl: Option<u64>,
    pub(in crate::queue) later: Option<Later>,
    pub(in crate::queue) group: Option<u8>,
    /// For telling copies apart, and for taking it back if it is an id.
    pub(in crate::queue) name: Option<Name>,
    /// It is no message, but takes those of that id back.
    pub(in crate::queue) takes_back: Option<u8>,
}

/// When it is to be delivered.
#[derive(Clone, Copy, Debug)]
pub(in crate::queue) enum Later {
    /// `x-delay`
    After(u64),
    /// `x-deliver-at`, counted from some time before its publication.
    At(u64),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::queue) enum Name {
    Header(u8),
    Id(u8),
}

impl Spec {
    /// When it is due; `None` if that is no later than its arrival.
    pub(in crate::queue) fn deliver_at(&self, now: Time) -> Option<Time> {
        let at = match self.later? {
            Later::After(delay) => after(now, delay),
            Later::At(time) => now - AT_BEFORE + time,
        };
        (at > now).then_some(at)
    }

    /// Its `message-id`.
    pub(in crate::queue) fn id(&self) -> Option<u8> {
        match self.name? {
            Name::Id(id) => Some(id),
            Name::Header(_) => None,
        }
    }

    /// What it is remembered by. A header's number and an id are told apart.
    pub(in crate::queue) fn known_as(&self) -> Option<Name> {
        self.name
    }

    pub(in crate::queue) fn message(&self, number: u64, now: Time) -> Message {
        let mut headers = FieldTable::default();
        match self.later {
            Some(Later::After(delay)) => headers.insert("x-delay", delay as i64),
            Some(Later::At(time)) => {
                headers.insert("x-deliver-at", (now - AT_BEFORE + time) as i64);
            }
            None => {}
        }
        if let Some(group) = self.group {
            // All types that can name a group.
            let value = match group {
                0 => FieldValue::from("zero"),
                1 => FieldValue::Bool(true),
                other => FieldValue::I64(other.into()),
            };
            headers.insert(GROUP_HEADER, value);
        }
        if let Some(Name::Header(name)) = self.name {
            headers.insert(NAME_HEADER, FieldValue::I64(name.into()));
        }
        if let Some(id) = self.takes_back {
            headers.insert(CANCEL_HEADER, FieldValue::from(format!("id {id}").as_str()));
        }
        let mut properties = Properties {
            priority: self.priority,
            expiration: self.ttl.map(|ttl| ttl.to_string()),
            ..Properties::default()
        };
        if let Some(Name::Id(name)) = self.name {
            properties.message_id = Some(format!("id {name}"));
        }
        if !headers.is_empty() {
            properties.headers = Some(headers);
        }
        let mut header = vec![0; PROPERTIES_OFFSET];
        properties.encode(&mut header);
        let mut body = number.to_be_bytes().to_vec();
        body.resize(8 + self.size as usize, 0);
        let mut traits = Traits::new(true);
        if self.ttl.is_some() {
            traits = traits.with_expiration();
        }
        if self.later.is_some() {
            traits = traits.with_schedule();
        }
        if self.takes_back.is_some() {
            traits = traits.with_cancellation();
        }
        let mut builder = BlockBuilder::default();
        builder.arrived(now);
        builder.push(b"\0\x01q", &header, Body::Slice(&body), traits);
        Message::new(Arc::new(builder.finish()), 0)
    }
}

pub(in crate::queue) fn specs() -> impl Strategy<Value = Vec<Spec>> {
    prop::collection::vec(spec(), 0..9)
}

fn spec() -> impl Strategy<Value = Spec> {
    let later = prop_oneof![
        4 => (0..40_u64).prop_map(Later::After),
        1 => (2_000..6_000_u64).prop_map(Later::After),
        2 => (0..60_u64).prop_map(Later::At),
    ];
    let name = prop_oneof![
        (0..4_u8).prop_map(Name::Header),
        (0..4_u8).prop_map(Name::Id)
    ];
    (
        0..40_u8,
        prop::option::of(0..4_u8),
        prop::option::weighted(0.4, prop_oneof![Just(0), 1..30_u64, Just(5_000)]),
        prop::option::weighted(0.3, later),
        prop::option::weighted(0.8, 0..3_u8),
        prop::option::weighted(0.7, name),
        prop::option::weighted(0.06, 0..4_u8),
    )
        .prop_map(
            |(size, priority, ttl, later, group, name, takes_back)| Spec {
                size,
                priority,
                ttl,
                later,
                group,
                name,
                takes_back,
            },
        )
}

/// The number that a message's body begins with.
pub(in crate::queue) fn number(message: &Message) -> u64 {
    let Body::Slice(body) = message.body() else {
        panic!("a small body is one slice");
    };
    u64::from_be_bytes(body[..8].try_into().unwrap())
}

pub(in crate::queue) const GROUP_HEADER: &str = "group";
pub(in crate::queue) const NAME_HEADER: &str = "name";
/// How long before its publication a message's time may be.
const AT_BEFORE: u64 = 20;
