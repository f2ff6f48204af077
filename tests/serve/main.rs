//! `leveret serve` as an operator meets it: the real binary, its signals, its
//! log and its exit code, with clients on real sockets.

#[path = "../support/mod.rs"]
mod support;

mod log;
mod policies;
mod process;
mod reload;
mod shutdown;
mod start;
