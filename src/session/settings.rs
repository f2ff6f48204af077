//! What a session offers and allows.

use leveret_protocol::{FieldTable, Limits};

/// The broker's side of a handshake, the same for all connections of a listener.
#[derive(Clone, Debug)]
pub struct SessionSettings {
    /// Frame and table limits; `frame_max` is what tune offers.
    pub limits: Limits,
    /// How many channels a connection may have open.
    pub channel_max: u16,
    /// The heartbeat that tune proposes, in seconds; 0 is none.
    pub heartbeat_seconds: u16,
    /// Largest message body in octets; larger ones are refused with 406.
    pub message_bytes_max: u64,
    /// `server_properties` of `connection.start`, capabilities included.
    pub server_properties: FieldTable,
}

impl SessionSettings {
    /// `server_properties` as clients expect them; frameworks parse `version`.
    #[must_use]
    pub fn server_properties(product: &str, version: &str, cluster_name: &str) -> FieldTable {
        let capabilities: FieldTable = CAPABILITIES.iter().map(|name| (*name, true)).collect();
        let mut properties = FieldTable::new();
        properties.insert("capabilities", capabilities);
        properties.insert("cluster_name", cluster_name);
        properties.insert("copyright", "The Leveret authors");
        properties.insert("information", "Licensed under the Apache License 2.0");
        properties.insert("platform", concat!("Rust ", env!("CARGO_PKG_RUST_VERSION")));
        properties.insert("product", product);
        properties.insert("version", version);
        properties
    }
}

/// RabbitMQ's extensions that this broker has.
const CAPABILITIES: &[&str] = &[
    "publisher_confirms",
    "exchange_exchange_bindings",
    "basic.nack",
    "consumer_cancel_notify",
    "connection.blocked",
    "consumer_priorities",
    "authentication_failure_close",
    "per_consumer_qos",
    "direct_reply_to",
];
