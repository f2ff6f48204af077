//! Taking messages off what was read (no I/O).

use std::io;

/// Takes messages off what was read.
pub trait Reader: Send {
    /// Takes what is whole, shows each message's body to `seen`, and returns how many
    /// octets that was; what is to be answered goes to `answer`.
    ///
    /// # Errors
    /// If this is not what the protocol has.
    fn take(
        &mut self,
        input: &[u8],
        seen: &mut dyn FnMut(&[u8]),
        answer: &mut Vec<u8>,
    ) -> io::Result<usize>;
}

/// NATS: `MSG subject id size`, and what else a server says.
pub struct NatsReader;

impl Reader for NatsReader {
    fn take(
        &mut self,
        input: &[u8],
        seen: &mut dyn FnMut(&[u8]),
        answer: &mut Vec<u8>,
    ) -> io::Result<usize> {
        let mut rest = input;
        while let Some(head) = line(rest) {
            let mut after = rest.get(head.len() + 2..).unwrap_or_default();
            if let Some(words) = head.strip_prefix(b"MSG ") {
                let size = words.rsplit(|octet| *octet == b' ').next();
                let size = number(size.unwrap_or_default())?;
                let Some((body, next)) = body(after, size) else {
                    break;
                };
                seen(body);
                after = next;
            } else if head == b"PING" {
                answer.extend_from_slice(b"PONG\r\n");
            } else if head != b"PONG" {
                return Err(unexpected(head));
            }
            rest = after;
        }
        Ok(input.len() - rest.len())
    }
}

/// Redis: answers to [`FETCH`].
#[derive(Default)]
pub struct RedisReader {
    /// Messages of the answer that are still to come.
    left: usize,
}

impl Reader for RedisReader {
    fn take(
        &mut self,
        input: &[u8],
        seen: &mut dyn FnMut(&[u8]),
        answer: &mut Vec<u8>,
    ) -> io::Result<usize> {
        let mut rest = input;
        loop {
            if self.left == 0 {
                let Some(after) = rest.strip_prefix(ANSWER) else {
                    let known = rest.len().min(ANSWER.len());
                    if rest.get(..known) != ANSWER.get(..known) {
                        return Err(unexpected(rest));
                    }
                    break;
                };
                let Some(count) = line(after) else { break };
                self.left = number(count)?;
                if self.left == 0 {
                    return Err(unexpected(rest));
                }
                rest = after.get(count.len() + 2..).unwrap_or_default();
            }
            let Some(line) = line(rest) else { break };
            let size = line.strip_prefix(b"$").ok_or_else(|| unexpected(line))?;
            let after = rest.get(line.len() + 2..).unwrap_or_default();
            let Some((body, next)) = body(after, number(size)?) else {
                break;
            };
            seen(body);
            rest = next;
            self.left -= 1;
            if self.left == 0 {
                answer.extend_from_slice(FETCH);
            }
        }
        Ok(input.len() - rest.len())
    }
}

/// The relay: every message has the same length, with the body at the same place.
pub struct RelayReader {
    /// Octets of a message.
    pub message_bytes: usize,
    /// Where in it the body begins.
    pub body_at: usize,
}

impl Reader for RelayReader {
    fn take(
        &mut self,
        input: &[u8],
        seen: &mut dyn FnMut(&[u8]),
        _: &mut Vec<u8>,
    ) -> io::Result<usize> {
        let messages = input.chunks_exact(self.message_bytes);
        let rest = messages.remainder().len();
        messages.for_each(|message| seen(message.get(self.body_at..).unwrap_or_default()));
        Ok(input.len() - rest)
    }
}

/// A body of that size and what comes behind its line's end, if all of it is there.
fn body(octets: &[u8], size: usize) -> Option<(&[u8], &[u8])> {
    let (body, end) = octets.split_at_checked(size)?;
    let (_, next) = end.split_at_checked(2)?;
    Some((body, next))
}

/// An error about what a peer sent.
pub fn unexpected(octets: &[u8]) -> io::Error {
    let start = octets
        .get(..octets.len().min(SHOWN_BYTES))
        .unwrap_or_default();
    io::Error::other(format!(
        "unexpected: {}",
        String::from_utf8_lossy(start).trim()
    ))
}

/// The line at the start of these octets, without its end, if it is whole.
fn line(octets: &[u8]) -> Option<&[u8]> {
    let end = octets.windows(2).position(|pair| pair == b"\r\n")?;
    octets.get(..end)
}

/// A number in decimal digits.
fn number(digits: &[u8]) -> io::Result<usize> {
    let text = std::str::from_utf8(digits).ok();
    text.and_then(|text| text.parse().ok())
        .ok_or_else(|| unexpected(digits))
}

/// Asks Redis for up to a hundred messages, as soon as there is one.
pub const FETCH: &[u8] = b"BLMPOP 0 1 bench LEFT COUNT 100\r\n";
/// How an answer to [`FETCH`] begins: the list's name, then its messages.
const ANSWER: &[u8] = b"*2\r\n$5\r\nbench\r\n*";
const SHOWN_BYTES: usize = 80;
