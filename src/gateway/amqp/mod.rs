//! AMQP 0-9-1 over TCP: a listener, and one task per connection that moves
//! octets between its socket, its [`crate::session::Session`] and the broker.

mod attachments;
mod barrier;
mod buffers;
mod channels;
mod connection;
mod deliveries;
mod heartbeat;
mod listener;
mod notices;
mod origins;
mod publishing;
mod queue_requests;
mod release;
mod requests;
mod throttle;

pub use listener::{AmqpSettings, Listener};
