//! Reads messages, looks at every stamp, and counts.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::flow::{Counter, Shared};
use super::readers::Reader;
use super::wire::STAMP_BYTES;

/// What one receiver has seen.
#[derive(Debug)]
pub struct Received {
    /// Messages.
    pub messages: u64,
    /// Those that were not the next one.
    pub out_of_order: u64,
    /// From due time to receipt, in nanoseconds.
    pub latencies: Histogram<u64>,
}

impl Received {
    /// Nothing.
    pub fn new() -> Self {
        Self {
            messages: 0,
            out_of_order: 0,
            latencies: Histogram::new_with_bounds(FINEST_NS, LONGEST_NS, 3)
                .expect("the bounds are a factor of two apart and the digits at most five"),
        }
    }

    /// Adds another receiver's.
    pub fn merge(&mut self, other: &Self) {
        self.messages += other.messages;
        self.out_of_order += other.out_of_order;
        self.latencies
            .add(&other.latencies)
            .expect("both histograms have the same bounds");
    }
}

/// Receives until the run is over.
///
/// # Errors
/// If the connection breaks, or brings something else.
pub fn run<R: Reader>(
    mut stream: TcpStream,
    mut reader: R,
    counter: &Counter,
    shared: &Shared,
) -> io::Result<Received> {
    stream.set_read_timeout(Some(LOOK))?;
    let mut received = Received::new();
    let mut answer = Vec::new();
    let mut buffer = vec![0; READ_BYTES];
    let (mut from, mut to) = (0, 0);
    while !shared.finish.load(Ordering::Relaxed) {
        let Some(free) = buffer.get_mut(to..) else {
            break;
        };
        match stream.read(free) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => to += count,
            Err(error) if is_timeout(&error) => continue,
            Err(error) => return Err(error),
        }
        let now_ns = shared.now_ns();
        let waiting = buffer.get(from..to).unwrap_or_default();
        let mut seen = |body: &[u8]| received.record(body, now_ns, shared.measured_from_ns);
        from += reader.take(waiting, &mut seen, &mut answer)?;
        counter.0.store(received.messages, Ordering::Relaxed);
        if !answer.is_empty() {
            stream.write_all(&answer)?;
            answer.clear();
        }
        if from == to {
            (from, to) = (0, 0);
        } else if buffer.len() - to < READ_BYTES / 2 {
            buffer.copy_within(from..to, 0);
            (from, to) = (0, to - from);
            if buffer.len() - to < READ_BYTES / 2 {
                // A message that is larger than the buffer.
                buffer.resize(buffer.len() * 2, 0);
            }
        }
    }
    Ok(received)
}

impl Received {
    #[inline]
    fn record(&mut self, body: &[u8], now_ns: u64, measured_from_ns: u64) {
        let stamp: Option<[u8; STAMP_BYTES]> = body.first_chunk().copied();
        let stamp = u128::from_be_bytes(stamp.unwrap_or_default());
        let (sequence, due_ns) = ((stamp >> 64) as u64, stamp as u64);
        if sequence != self.messages {
            self.out_of_order += 1;
        }
        self.messages += 1;
        if due_ns >= measured_from_ns {
            self.latencies
                .saturating_record(now_ns.saturating_sub(due_ns));
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}

/// As much as `leveret bench` reads at once.
const READ_BYTES: usize = 256 * 1_024;
/// How often the end of the run is looked for while nothing comes.
const LOOK: Duration = Duration::from_millis(20);
const FINEST_NS: u64 = 64;
const LONGEST_NS: u64 = 3_600_000_000_000;
