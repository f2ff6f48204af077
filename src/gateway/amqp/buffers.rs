//! Buffers to read into and to write from. A thread's connections share a few
//! large ones: a connection that waits holds none, so idle ones cost no buffer.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncReadExt;
use tokio::net::tcp::ReadHalf;

/// Octets that one read takes at most.
const READ_BYTES: usize = 256 * 1024;
/// Room that a read wants behind an unfinished frame.
const READ_BYTES_MIN: usize = 64 * 1024;
/// Room that an output begins with.
const OUTPUT_BYTES_MIN: usize = 32 * 1024;
/// Capacity up to which an output's memory is worth keeping.
const OUTPUT_BYTES_KEPT: usize = 2 * 1024 * 1024;
/// Spare buffers of each kind that a thread keeps.
const SPARE_MAX: usize = 4;

thread_local! {
    static SPARE: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
    static SPARE_OUTPUT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Memory for an output. New memory has room for some deliveries at once, instead
/// of growing step by step.
pub(super) fn output() -> Vec<u8> {
    let spare = SPARE_OUTPUT.with_borrow_mut(Vec::pop);
    spare.unwrap_or_else(|| Vec::with_capacity(OUTPUT_BYTES_MIN))
}

/// Takes an output's memory back, unless it has grown beyond use.
pub(super) fn keep_output(mut buffer: Vec<u8>) {
    buffer.clear();
    SPARE_OUTPUT.with_borrow_mut(|spare| {
        if spare.len() < SPARE_MAX && buffer.capacity() <= OUTPUT_BYTES_KEPT {
            spare.push(buffer);
        }
    });
}

/// Reads once, behind what `input` holds already; 0 at the end of the stream.
/// While it waits, an empty `input` has no buffer.
pub(super) async fn read(socket: &mut ReadHalf<'_>, input: &mut BytesMut) -> io::Result<usize> {
    poll_fn(|context| {
        if input.is_empty() {
            *input = take();
        } else {
            input.reserve(READ_BYTES_MIN);
        }
        let polled = pin!(socket.read_buf(input)).poll(context);
        if polled.is_pending() && input.is_empty() {
            keep(std::mem::take(input));
        }
        polled
    })
    .await
}

/// What is left of a buffer whose octets before `offset` are done with. Where
/// messages still share it, the rest is copied out.
pub(super) fn rest(input: Bytes, offset: usize) -> BytesMut {
    match input.try_into_mut() {
        Ok(mut buffer) => {
            buffer.advance(offset);
            if buffer.is_empty() {
                keep(buffer);
                return BytesMut::new();
            }
            buffer
        }
        Err(input) => BytesMut::from(input.get(offset..).unwrap_or_default()),
    }
}

fn take() -> BytesMut {
    let mut buffer = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
    buffer.reserve(READ_BYTES);
    buffer
}

fn keep(mut buffer: BytesMut) {
    buffer.clear();
    SPARE.with_borrow_mut(|spare| {
        if spare.len() < SPARE_MAX {
            spare.push(buffer);
        }
    });
}
