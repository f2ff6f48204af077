//! Watching what a broker tells about itself.

use std::net::SocketAddr;

use leveret_protocol::method::*;
use leveret_protocol::{FieldTable, FieldValue};

use super::broker::{broker, leveret_with};
use super::client::Client;
use super::features::Arguments;
use super::handshake::{Login, on_rabbitmq};

/// The event exchange.
pub const EVENTS: &str = "amq.rabbitmq.event";
/// The trace exchange.
pub const TRACES: &str = "amq.rabbitmq.trace";

/// A broker that tells about itself: a Leveret of the test's own, so that
/// nothing is told of other tests. `None` on a RabbitMQ that has it switched
/// off, as it has unless `LEVERET_TEST_NOTICES` says otherwise.
pub fn telling_broker() -> Option<SocketAddr> {
    if !on_rabbitmq() {
        return Some(leveret_with(""));
    }
    let is_on = std::env::var_os("LEVERET_TEST_NOTICES").is_some();
    if !is_on {
        eprintln!("Leveret only: this RabbitMQ has notices switched off");
    }
    is_on.then(broker)
}

/// A client with channel 1.
#[track_caller]
pub fn client_at(address: SocketAddr) -> Client {
    let mut client = Client::connect_at(address, &Login::default());
    client.open_channel(1);
    client
}

/// Somebody who gets what a broker tells.
pub struct Watcher {
    pub client: Client,
    pub queue: &'static str,
    exchange: &'static str,
}

/// What was told.
#[derive(Debug)]
pub struct Told {
    pub routing_key: &'static str,
    pub headers: FieldTable,
    pub timestamp: Option<u64>,
    pub delivery_mode: Option<u8>,
    pub body: String,
}

impl Watcher {
    /// Listens to an exchange with these keys.
    #[track_caller]
    pub fn new(address: SocketAddr, exchange: &'static str, keys: &[&str]) -> Self {
        let mut client = client_at(address);
        let queue = client.temp_queue(1);
        for key in keys {
            client.bind(1, queue, exchange, key);
        }
        client.consume(1, queue, true);
        Self {
            client,
            queue,
            exchange,
        }
    }

    /// The next that is told.
    #[track_caller]
    pub fn next(&mut self) -> Told {
        let delivery = self.client.delivery(1);
        assert_eq!(delivery.exchange, self.exchange);
        let properties = &delivery.content.properties;
        Told {
            routing_key: delivery.routing_key,
            headers: properties.headers.clone().expect("it has headers"),
            timestamp: properties.timestamp,
            delivery_mode: properties.delivery_mode,
            body: delivery.text().to_owned(),
        }
    }

    /// The next with this key and among others these headers; the others before
    /// it are of no interest.
    #[track_caller]
    pub fn find(&mut self, key: &str, headers: Arguments<'_>) -> Told {
        loop {
            let told = self.next();
            let has = |(name, value): &(&str, FieldValue)| told.headers.get(name) == Some(value);
            if told.routing_key == key && headers.iter().all(has) {
                return told;
            }
        }
    }

    /// Stops to listen with that key.
    #[track_caller]
    pub fn unbind(&mut self, key: &str) {
        let unbind = QueueUnbind {
            queue: self.queue,
            exchange: self.exchange,
            routing_key: key,
            ..QueueUnbind::default()
        };
        self.client.ok(1, &unbind);
    }
}

impl Told {
    /// A header that is a text.
    #[track_caller]
    pub fn text(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value
            .and_then(FieldValue::as_str)
            .unwrap_or_else(|| panic!("{name} is a text in {self:?}"))
    }

    /// A header that is a number.
    #[track_caller]
    pub fn number(&self, name: &str) -> i64 {
        match self.headers.get(name) {
            Some(FieldValue::I64(number)) => *number,
            _ => panic!("{name} is a long in {self:?}"),
        }
    }

    /// All headers, sorted by name, but for those.
    pub fn headers_without(&self, names: &[&str]) -> Vec<(String, FieldValue)> {
        let headers = self.headers.iter();
        let mut kept: Vec<_> = headers
            .filter(|(name, _)| !names.contains(&name.as_str()))
            .map(|(name, value)| (name.to_string(), value.clone()))
            .collect();
        kept.sort_by(|a, b| a.0.cmp(&b.0));
        kept
    }
}
