//! Publishes as frames that were encoded before the run, so that a message costs two copies
//! and a stamp.
//!
//! ```text
//! head, one per route:  method frame │ header frame
//! tail, shared:         body frame(s), the stamp behind the first one's seven octets
//! ```

use leveret_protocol::method::BasicPublish;
use leveret_protocol::{content, frame};

use super::scenario::{Route, Scenario};
use super::stamp::STAMP_BYTES;

/// What a producer sends, over and over.
#[derive(Debug)]
pub struct Template {
    heads: Vec<u8>,
    /// Where in `heads` each route's head ends, and the route's lane and priority.
    routes: Vec<(usize, u16, u8)>,
    tail: Vec<u8>,
    /// The route of the next message, and where its head starts.
    next: usize,
    next_start: usize,
    /// How far before its end a head has the message's name, if it has one.
    name_before_end: Option<usize>,
}

impl Template {
    /// Encodes a message for each route.
    pub fn new(scenario: &Scenario, routes: &[Route], frame_max: u32) -> Self {
        let body = vec![b'.'; scenario.body_bytes];
        let tail_bytes = content::body_frames(body.len(), frame_max).wire_bytes();
        let mut template = Self {
            heads: Vec::new(),
            routes: Vec::with_capacity(routes.len()),
            tail: Vec::new(),
            next: 0,
            next_start: 0,
            name_before_end: None,
        };
        let mut message = Vec::new();
        for route in routes {
            message.clear();
            let publish = BasicPublish {
                exchange: scenario.exchange_name(),
                routing_key: &route.key,
                ..BasicPublish::default()
            };
            let properties = scenario.properties(route);
            content::encode(&mut message, 1, &publish, &properties, &body, frame_max);
            let (head, tail) = message.split_at(message.len() - tail_bytes);
            if scenario.message_ids {
                let ends = head.windows(NAME_BYTES);
                let place = ends.rev().position(|octets| octets == NO_NAME.as_bytes());
                template.name_before_end = place.map(|behind| behind + NAME_BYTES);
            }
            template.heads.extend_from_slice(head);
            let end = template.heads.len();
            template.routes.push((end, route.lane, route.priority));
            if template.tail.is_empty() {
                template.tail.extend_from_slice(tail);
            }
        }
        template
    }

    /// Lane and priority of the message that comes next.
    #[inline]
    pub fn next_stream(&self) -> (u16, u8) {
        let next = self.routes.get(self.next);
        next.map_or((0, 0), |&(_, lane, priority)| (lane, priority))
    }

    /// Appends the message that comes next.
    #[inline]
    pub fn append(&mut self, out: &mut Vec<u8>, stamp: &[u8; STAMP_BYTES]) {
        let Some(&(end, ..)) = self.routes.get(self.next) else {
            return;
        };
        let head = self.heads.get(self.next_start..end).unwrap_or_default();
        (self.next, self.next_start) = (self.next + 1, end);
        if self.next == self.routes.len() {
            (self.next, self.next_start) = (0, 0);
        }
        out.extend_from_slice(head);
        if let Some(before_end) = self.name_before_end
            && let Some(at) = out.len().checked_sub(before_end)
            && let Some(place) = out.get_mut(at..at + NAME_BYTES)
        {
            put_name(place, stamp);
        }
        let at = out.len() + frame::HEADER_BYTES;
        out.extend_from_slice(&self.tail);
        if let Some(place) = out.get_mut(at..at + STAMP_BYTES) {
            place.copy_from_slice(stamp);
        }
    }

    /// Octets of the largest message.
    pub fn message_bytes_max(&self) -> usize {
        let starts = std::iter::once(0).chain(self.routes.iter().map(|&(end, ..)| end));
        let head_bytes_max = self
            .routes
            .iter()
            .zip(starts)
            .map(|(&(end, ..), start)| end - start)
            .max();
        head_bytes_max.unwrap_or(0) + self.tail.len()
    }
}

/// A message's name: producer and sequence, in hexadecimal digits.
fn put_name(place: &mut [u8], stamp: &[u8; STAMP_BYTES]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (digits, octet) in place.chunks_exact_mut(2).zip(stamp) {
        digits[0] = DIGITS[usize::from(octet >> 4)];
        digits[1] = DIGITS[usize::from(octet & 15)];
    }
}

/// What stands for a name in properties that are encoded before the run.
pub const NO_NAME: &str = "----------------";
const NAME_BYTES: usize = NO_NAME.len();

#[cfg(test)]
mod tests {
    use leveret_protocol::{ContentHeader, FrameKind, Limits, Method, PropertyScan};

    use super::*;
    use crate::cli::bench::BenchArgs;

    #[test]
    fn each_message_has_a_name_of_its_own_if_asked() {
        let args = BenchArgs::from_line("--message-ids --queues=2").expect("they are known");
        let scenario = Scenario::new(&args).expect("the options are fine");
        let mut template = Template::new(&scenario, &scenario.routes_of(0), 4_096);
        for number in 0..4u8 {
            let mut stamp = [0; STAMP_BYTES];
            stamp[7] = 0xa0 + number;
            let mut wire = Vec::new();
            template.append(&mut wire, &stamp);
            let (_, size) = frame::decode(&wire, 4_096).expect("valid").expect("whole");
            let (frame, _) = frame::decode(&wire[size..], 4_096)
                .expect("valid")
                .expect("whole");
            let header = ContentHeader::decode(frame.payload).expect("valid");
            let name = format!("00000000000000a{number}");
            let properties = PropertyScan::new(header.properties).expect("valid");
            assert_eq!(properties.message_id, Some(name.as_str()));
        }
    }

    #[test]
    fn messages_cycle_over_the_routes_and_carry_the_stamp() {
        for body_bytes in [16, 1_024, 10_000] {
            let line = format!("--exchange=topic --bindings=3 --size={body_bytes}");
            let args = BenchArgs::from_line(&line).expect("they are known");
            let scenario = Scenario::new(&args).expect("the options are fine");
            let mut template = Template::new(&scenario, &scenario.routes_of(0), 4_096);
            for number in 0..7u8 {
                let stamp = [number; STAMP_BYTES];
                let mut wire = Vec::new();
                assert_eq!(template.next_stream(), (0, 0));
                template.append(&mut wire, &stamp);
                assert_eq!(wire.len(), template.message_bytes_max());

                let (frame, size) = frame::decode(&wire, 4_096).expect("valid").expect("whole");
                let method = Method::decode(frame.payload, &Limits::default()).expect("valid");
                let Method::BasicPublish(publish) = method else {
                    panic!("{method:?}");
                };
                assert_eq!(publish.routing_key, format!("k.{}.m", number % 3));
                let mut rest = &wire[size..];
                let (frame, size) = frame::decode(rest, 4_096).expect("valid").expect("whole");
                let header = ContentHeader::decode(frame.payload).expect("valid");
                assert_eq!(header.body_bytes, body_bytes);
                rest = &rest[size..];
                let mut body = Vec::new();
                while let Some((frame, size)) = frame::decode(rest, 4_096).expect("valid") {
                    assert_eq!(frame.kind, FrameKind::Body);
                    body.extend_from_slice(frame.payload);
                    rest = &rest[size..];
                }
                assert_eq!(body.len() as u64, body_bytes);
                assert!(body.starts_with(&stamp) && rest.is_empty());
            }
        }
    }
}
