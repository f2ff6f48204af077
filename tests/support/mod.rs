//! What the socket-level tests share: the broker under test and a raw client.
//!
//! The client is built on the codec crate alone, blocks, and never hangs: each
//! expectation has a deadline ([`client::PATIENCE`]). Silence is shown by a
//! round trip that would have come after what must not come, never by sleeping.

#![allow(
    dead_code,
    unused_macros,
    reason = "each binary of tests uses its part"
)]

pub mod actions;
pub mod broker;
pub mod client;
pub mod features;
pub mod handshake;
pub mod notices;
pub mod refusals;
pub mod witness;

/// The value behind a pattern, or a panic that shows what came instead.
macro_rules! matched {
    ($value:expr, $pattern:pat => $result:expr) => {
        match $value {
            $pattern => $result,
            other => panic!("expected {}, got {other:?}", stringify!($pattern)),
        }
    };
}

/// Ends a test early on RabbitMQ, with the reason why its behaviour is not the
/// one that Leveret promises.
macro_rules! leveret_only {
    ($reason:literal) => {
        if $crate::support::handshake::on_rabbitmq() {
            eprintln!("Leveret only: {}", $reason);
            return;
        }
    };
}

#[allow(unused_imports, reason = "each binary of tests uses its part")]
pub(crate) use {leveret_only, matched};
