//! What a dead letter carries: where it died and why, in the headers that
//! RabbitMQ has for it.
//!
//! `x-death` is an array of tables, the newest death first, one for each queue
//! and reason; it counts how often. As with RabbitMQ 3.10, what a publisher has
//! put there counts: messages are consumed and published again with their
//! headers. So all of it may be anything, and what makes no sense is passed
//! over.

use foldhash::HashMap;
use leveret_protocol::header::{BASIC_CLASS_ID, PROPERTIES_OFFSET, Properties};
use leveret_protocol::{ContentHeader, Limits};

use super::super::properties::copies;
use crate::model::{DeathReason, FieldTable, FieldValue, Message, Traits};

/// How a message died, and how its copy goes on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Death<'a> {
    /// In which queue.
    pub(super) queue: &'a str,
    /// Why.
    pub(super) reason: DeathReason,
    /// When, in seconds since 1970.
    pub(super) seconds: u64,
    /// The key that it goes on with; `None` for those that it came with.
    pub(super) routing_key: Option<&'a str>,
}

/// A dead letter but for its exchange and its body, which stays the same.
#[derive(Debug)]
pub(super) struct Forwarded {
    /// The content header's payload.
    pub(super) header: Vec<u8>,
    /// What it is routed by: the routing key, then those of its headers CC and
    /// BCC.
    pub(super) routing_keys: Vec<String>,
    /// What is to be known of it. It has no TTL of its own any more, and it has
    /// waited already.
    pub(super) traits: Traits,
    /// Its headers, decoded.
    pub(super) headers: FieldTable,
}

impl Forwarded {
    /// The copy of a message that died.
    pub(super) fn new(message: &Message, death: &Death<'_>) -> Self {
        let octets = message.header().get(PROPERTIES_OFFSET..);
        // No stored message's properties are malformed; one that had lost them
        // would still be worth its body.
        let mut properties =
            Properties::decode(octets.unwrap_or_default(), &UNLIMITED).unwrap_or_default();
        let mut headers = properties.headers.take().unwrap_or_default();
        let mut routing_keys = vec![message.routing_key().to_owned()];
        routing_keys.extend(copies(&headers, "CC"));
        let expiration = properties.expiration.take();
        note(&mut headers, message, death, &routing_keys, expiration);
        let mut traits = Traits::new(message.persistent());
        if let Some(key) = death.routing_key {
            // They would lead back to where it has been.
            headers.remove("CC");
            headers.remove("BCC");
            routing_keys = vec![key.to_owned()];
        } else if message.traits().has_blind_copies() {
            routing_keys.extend(copies(&headers, "BCC"));
            traits = traits.with_blind_copies();
        }
        properties.headers = Some(headers);
        let mut octets = Vec::new();
        properties.encode(&mut octets);
        if octets.len() > PROPERTIES_BYTES_MAX {
            if let Some(headers) = &mut properties.headers {
                shorten(headers);
            }
            octets.clear();
            properties.encode(&mut octets);
        }
        let mut header = Vec::with_capacity(PROPERTIES_OFFSET + octets.len());
        let content = ContentHeader {
            class_id: BASIC_CLASS_ID,
            body_bytes: message.body_bytes() as u64,
            properties: &octets,
        };
        content.encode(&mut header);
        Self {
            header,
            routing_keys,
            traits,
            headers: properties.headers.unwrap_or_default(),
        }
    }

    /// Whether it has been in that queue before and nobody has rejected it
    /// since: it would go round for ever.
    pub(super) fn is_cycle(&self, queue: &str) -> bool {
        let Some(FieldValue::Array(deaths)) = self.headers.get(DEATHS) else {
            return false;
        };
        let is = |death: &FieldValue, name: &str, text: &str| match death {
            FieldValue::Table(death) => death.get(name).and_then(FieldValue::as_str) == Some(text),
            _ => false,
        };
        let Some(last) = deaths.iter().position(|death| is(death, "queue", queue)) else {
            return false;
        };
        let rejected = DeathReason::Rejected.name();
        let mut since = deaths.iter().take(last + 1);
        since.all(|death| !is(death, "reason", rejected))
    }
}

/// Enters the death into the headers.
fn note(
    headers: &mut FieldTable,
    message: &Message,
    death: &Death<'_>,
    routing_keys: &[String],
    expiration: Option<String>,
) {
    let found = headers.remove(DEATHS);
    let (reason, exchange) = (death.reason.name(), message.exchange());
    let about = [
        ("reason", reason),
        ("queue", death.queue),
        ("exchange", exchange),
    ];
    // Where `x-death` came to nothing, by a client that turns headers into
    // strings, the others may still know of the first death.
    let may_know = found.is_some();
    let mut deaths = match found {
        Some(FieldValue::Array(values)) => grouped(values),
        _ => Vec::new(),
    };
    if deaths.is_empty() {
        for (what, text) in about {
            let name = format!("x-first-death-{what}");
            if !may_know || headers.get(&name).is_none() {
                headers.insert(name, text);
            }
        }
    }
    let key = (Some(death.queue.as_bytes()), Some(reason.as_bytes()));
    let known = deaths
        .iter()
        .position(|table| queue_and_reason(table) == key);
    let table = match known {
        Some(position) => {
            let mut table = deaths.remove(position);
            let count = count(&table).unwrap_or(0).saturating_add(1);
            table.insert("count", count);
            table
        }
        None => {
            let mut table = FieldTable::from_iter([
                ("count", FieldValue::I64(1)),
                ("reason", reason.into()),
                ("queue", death.queue.into()),
                ("time", FieldValue::Timestamp(death.seconds)),
                ("exchange", exchange.into()),
                (
                    "routing-keys",
                    FieldValue::Array(routing_keys.iter().map(|key| key.as_str().into()).collect()),
                ),
            ]);
            if let Some(expiration) = expiration {
                table.insert("original-expiration", expiration.as_str());
            }
            table
        }
    };
    deaths.insert(0, table);
    let deaths = deaths.into_iter().map(FieldValue::Table).collect();
    headers.insert(DEATHS, FieldValue::Array(deaths));
    for (what, text) in about {
        headers.insert(format!("x-last-death-{what}"), text);
    }
}

/// Lets each death have one routing key. A long list of them, entered again for
/// each queue on the way, could make a header that no client takes.
fn shorten(headers: &mut FieldTable) {
    let Some(FieldValue::Array(mut deaths)) = headers.remove(DEATHS) else {
        return;
    };
    for death in &mut deaths {
        if let FieldValue::Table(death) = death
            && let Some(FieldValue::Array(mut keys)) = death.remove("routing-keys")
        {
            keys.truncate(1);
            death.insert("routing-keys", FieldValue::Array(keys));
        }
    }
    headers.insert(DEATHS, FieldValue::Array(deaths));
}

/// The deaths that are tables, each queue and reason once: of several the
/// first stays, and counts them if it has no count. Brokers before RabbitMQ 3.5
/// had a table for each death.
fn grouped(values: Vec<FieldValue>) -> Vec<FieldTable> {
    type Key = (Option<Vec<u8>>, Option<Vec<u8>>);
    let mut kept: Vec<(FieldTable, i64)> = Vec::new();
    let mut places: HashMap<Key, usize> = HashMap::default();
    for value in values {
        let FieldValue::Table(table) = value else {
            continue;
        };
        let (queue, reason) = queue_and_reason(&table);
        let key = (queue.map(<[u8]>::to_vec), reason.map(<[u8]>::to_vec));
        let place = *places.entry(key).or_insert(kept.len());
        match kept.get_mut(place) {
            Some((_, times)) => *times += 1,
            None => kept.push((table, 1)),
        }
    }
    let counted = |(mut table, times): (FieldTable, i64)| {
        if count(&table).is_none() {
            table.insert("count", times);
        }
        table
    };
    kept.into_iter().map(counted).collect()
}

/// What a death is known by.
fn queue_and_reason(death: &FieldTable) -> (Option<&[u8]>, Option<&[u8]>) {
    let text = |name| match death.get(name) {
        Some(FieldValue::LongStr(octets)) => Some(octets.as_slice()),
        _ => None,
    };
    (text("queue"), text("reason"))
}

fn count(death: &FieldTable) -> Option<i64> {
    death.get("count").and_then(FieldValue::as_integer)
}

const DEATHS: &str = "x-death";
/// Properties that a frame of 128 KiB takes, which clients agree on by default.
const PROPERTIES_BYTES_MAX: usize = 128 * 1024 - 8 - PROPERTIES_OFFSET;
/// The message was taken once: what was added to its headers since must not
/// make it unreadable.
const UNLIMITED: Limits = Limits {
    frame_max: u32::MAX,
    table_depth_max: u8::MAX,
    table_entries_max: u32::MAX,
};

#[cfg(test)]
mod tests;
