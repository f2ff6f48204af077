//! An innocent bystander: a connection opened before somebody misbehaves.

use std::net::SocketAddr;

use super::broker::broker;
use super::client::Client;
use super::handshake::Login;

/// A connection with a queue and a consumer that must notice nothing.
pub struct Witness {
    client: Client,
    queue: &'static str,
}

impl Witness {
    /// Opens the connection and starts the consumer.
    #[track_caller]
    pub fn new() -> Self {
        Self::at(broker())
    }

    /// The same at another broker.
    #[track_caller]
    pub fn at(address: SocketAddr) -> Self {
        let mut client = Client::connect_at(address, &Login::default());
        client.open_channel(1);
        let queue = client.temp_queue(1);
        client.consume(1, queue, true);
        Self { client, queue }
    }

    /// Sends itself a message, and gets it.
    #[track_caller]
    pub fn undisturbed(&mut self) {
        self.client.publish(1, "", self.queue, "still here");
        assert_eq!(self.client.delivery(1).text(), "still here");
    }
}
