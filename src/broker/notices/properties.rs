//! Properties of the messages that are traced, and of those that are made.

use leveret_protocol::header::{BASIC_CLASS_ID, PROPERTIES_OFFSET, Properties};
use leveret_protocol::{ContentHeader, Limits};

use crate::model::{FieldTable, FieldValue};

/// A stored message's properties. None are malformed; one that had lost them
/// would still be worth a trace.
pub(super) fn decode(header: &[u8]) -> Properties {
    let octets = header.get(PROPERTIES_OFFSET..).unwrap_or_default();
    Properties::decode(octets, &UNLIMITED).unwrap_or_default()
}

/// A timestamp among traced properties. RabbitMQ has it as a signed integer,
/// and cuts off what does not fit.
pub(super) fn timestamp_value(seconds: u64) -> FieldValue {
    match i32::try_from(seconds) {
        Ok(seconds) => FieldValue::I32(seconds),
        Err(_) => FieldValue::Timestamp(seconds),
    }
}

/// The content header's payload of a message with these properties and so large
/// a body. If it is larger than clients take, headers are left out.
pub(super) fn encode(mut properties: Properties, body_bytes: usize) -> Vec<u8> {
    let mut octets = Vec::new();
    properties.encode(&mut octets);
    for name in DISPENSABLE {
        if octets.len() > PROPERTIES_BYTES_MAX
            && let Some(headers) = &mut properties.headers
        {
            headers.remove(name);
            octets.clear();
            properties.encode(&mut octets);
        }
    }
    if octets.len() > PROPERTIES_BYTES_MAX {
        properties.headers = Some(FieldTable::new());
        octets.clear();
        properties.encode(&mut octets);
    }
    let mut header = Vec::with_capacity(PROPERTIES_OFFSET + octets.len());
    let content = ContentHeader {
        class_id: BASIC_CLASS_ID,
        body_bytes: body_bytes as u64,
        properties: &octets,
    };
    content.encode(&mut header);
    header
}

/// Headers that can be long, the longest first.
const DISPENSABLE: [&str; 4] = ["properties", "arguments", "routed_queues", "routing_keys"];
/// Properties that a frame of 128 KiB takes, which clients agree on by default.
const PROPERTIES_BYTES_MAX: usize = 128 * 1024 - 8 - PROPERTIES_OFFSET;
/// What was taken once can be read again.
const UNLIMITED: Limits = Limits {
    frame_max: u32::MAX,
    table_depth_max: u8::MAX,
    table_entries_max: u32::MAX,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_no_client_takes_is_shortened() {
        let long = "x".repeat(PROPERTIES_BYTES_MAX);
        for (name, is_kept) in [("properties", true), ("unknown", false)] {
            let mut headers = FieldTable::new();
            headers.insert("node", "n");
            headers.insert(name, long.as_str());
            let properties = Properties {
                headers: Some(headers),
                ..Properties::default()
            };
            let header = encode(properties, 7);
            assert!(header.len() < 200);
            let headers = decode(&header).headers.expect("they are there");
            assert_eq!(headers.get("node").is_some(), is_kept);
            assert!(headers.get(name).is_none());
        }
    }
}
