//! Sockets: one folder per protocol.

pub mod amqp;
