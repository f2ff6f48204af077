//! Writes stamped messages, as many as the window and the rate allow.

use std::io::{self, Write};
use std::net::TcpStream;
use std::num::NonZeroU64;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use super::flow::Shared;
use super::wire::{STAMP_BYTES, Wire};

/// Sends until it is stopped.
///
/// # Errors
/// If the connection breaks, or the peer has not taken all.
pub fn run<W: Wire>(
    wire: &W,
    stream: &mut TcpStream,
    body_bytes: usize,
    rate: Option<u64>,
    shared: &Shared,
) -> io::Result<()> {
    // As the producers of `leveret bench` have it.
    SockRef::from(&*stream).set_send_buffer_size(SEND_BUFFER_BYTES)?;
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
    let (message, stamp_at) = wire.template(body_bytes);
    let window = (WINDOW_BYTES / message.len() as u64).clamp(WINDOW_MIN, WINDOW_MAX);
    let mut batch = Vec::with_capacity(BATCH_BYTES + message.len());
    let mut sent = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        let now_ns = shared.now_ns();
        let room = (shared.received_by_all() + window).saturating_sub(sent);
        let last = sent + room;
        batch.clear();
        while sent < last && batch.len() < BATCH_BYTES {
            let due_ns = rate.map_or(now_ns, |rate| due_ns(sent, rate));
            if due_ns > now_ns {
                break;
            }
            let from = batch.len() + stamp_at;
            batch.extend_from_slice(&message);
            if let Some(stamp) = batch.get_mut(from..from + STAMP_BYTES) {
                let both = u128::from(sent) << 64 | u128::from(due_ns);
                stamp.copy_from_slice(&both.to_be_bytes());
            }
            sent += 1;
        }
        if batch.is_empty() {
            let wake_ns = match rate {
                // At high rates that of the last message of a batch.
                Some(rate) if room > 0 => due_ns(sent + WAKE_INTERVAL_NS * rate / NS_PER_S, rate),
                _ => now_ns + WINDOW_WAIT_NS,
            };
            thread::sleep(Duration::from_nanos(wake_ns.saturating_sub(now_ns)));
            continue;
        }
        stream.write_all(&batch)?;
        shared.sent.store(sent, Ordering::Relaxed);
    }
    wire.finish(stream)
}

/// When a message of a steady rate is due.
fn due_ns(number: u64, rate: u64) -> u64 {
    let (seconds, rest) = (number / rate, number % rate);
    seconds * NS_PER_S + rest * NS_PER_S / rate
}

const SEND_BUFFER_BYTES: usize = 256 * 1_024;
/// As much as `leveret bench` writes at once.
const BATCH_BYTES: usize = 64 * 1_024;
/// Outstanding messages, in octets: NATS gives a consumer up at 64 MiB.
const WINDOW_BYTES: u64 = 16 << 20;
const WINDOW_MIN: u64 = 8;
const WINDOW_MAX: u64 = 1 << 16;
const WINDOW_WAIT_NS: u64 = 50_000;
/// Waking up more often than this costs more than the messages do.
const WAKE_INTERVAL_NS: u64 = 50_000;
const NS_PER_S: u64 = 1_000_000_000;
