//! Brokers that speak AMQP 0-9-1: `leveret bench` loads them.

mod amqp;
mod given;
mod leveret;
mod rabbitmq;

pub use given::GivenBroker;
pub use leveret::{Leveret, NAME as LEVERET};
pub use rabbitmq::{QueueVersion, RabbitMq};
