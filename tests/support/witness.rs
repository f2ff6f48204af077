//! An innocent bystander: a connection opened before somebody misbehaves.

use super::client::Client;

/// A connection with a queue and a consumer that must notice nothing.
pub struct Witness {
    client: Client,
    queue: &'static str,
}

impl Witness {
    /// Opens the connection and starts the consumer.
    #[track_caller]
    pub fn new() -> Self {
        let mut client = Client::with_channel();
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
