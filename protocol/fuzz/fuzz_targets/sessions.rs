//! `cargo +nightly fuzz run sessions`, in `protocol/`: see `src/sessions.rs`.

#![no_main]

#[path = "../src/sessions.rs"]
mod sessions;

libfuzzer_sys::fuzz_target!(|data: &[u8]| sessions::run(data));
