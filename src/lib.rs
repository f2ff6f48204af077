//! Leveret: a message broker that speaks AMQP 0-9-1.
//!
//! The modules stand in the order of the layers; each uses those above it in
//! this list and none below. ARCHITECTURE.md has the whole picture.

pub mod model;

pub mod policy;
pub mod queue;
pub mod routing;
pub mod session;

pub mod config;
pub mod topology;

mod server;

pub use server::{Broker, StartError};

pub mod store;

pub mod broker;

pub mod gateway;

pub mod cli;
pub mod telemetry;

/// The README's Rust code compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
