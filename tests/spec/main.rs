//! AMQP 0-9-1 as clients written for RabbitMQ see it, over a real socket.
//!
//! `LEVERET_TEST_ADDR=host:port cargo test --test spec` runs the same tests
//! against any broker; without it they start one in this process. Against
//! RabbitMQ, which answers several failures after three seconds only, it saves
//! time to add `-- --test-threads=8`. A test that begins with `leveret_only!`
//! shows where Leveret promises other than RabbitMQ 3.10.

#[path = "../support/mod.rs"]
mod support;

mod bindings;
mod blocked;
mod channels;
mod configured;
mod confirms;
mod consuming;
mod dead_letters;
mod deaths;
mod deduplication;
mod delivery_limit;
mod equivalence;
mod events;
mod exchange_types;
mod exchanges;
mod expires;
mod firehose;
mod frames;
mod get;
mod groups;
mod handshake;
mod heartbeats;
mod held;
mod hostile;
mod limits;
mod overflow;
mod policies;
mod priorities;
mod publishing;
mod queues;
mod real_client;
mod reply_to;
mod retries;
mod scheduled;
mod settling;
mod single_active;
mod ttl;
mod tx;
