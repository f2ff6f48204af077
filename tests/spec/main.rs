//! AMQP 0-9-1 as clients written for RabbitMQ see it, over a real socket.
//!
//! `LEVERET_TEST_ADDR=host:port cargo test --test spec` runs the same tests
//! against any broker; without it they start one in this process. A test that
//! begins with `leveret_only!` shows where Leveret promises other than RabbitMQ.

#[path = "../support/mod.rs"]
mod support;

mod bindings;
mod channels;
mod configured;
mod confirms;
mod consuming;
mod equivalence;
mod exchanges;
mod frames;
mod get;
mod handshake;
mod heartbeats;
mod hostile;
mod limits;
mod publishing;
mod queues;
mod real_client;
mod reply_to;
mod settling;
mod tx;
