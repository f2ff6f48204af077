//! Deliveries put together from frames (no I/O). Of a body only the stamp is looked at.
//!
//! ```text
//! Idle ─deliver─▶ Header ─header(0 < n)─▶ Body ─last octet─▶ Idle, a delivery
//!   └─other method─▶ Idle, a method                       header(0) likewise
//! ```

use leveret_protocol::method::BasicDeliver;
use leveret_protocol::{ContentHeader, Frame, FrameKind, Limits, Method, frame};

use super::client::ClientError;
use super::stamp::{STAMP_BYTES, Stamp};

/// What a frame completed.
#[derive(Debug, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "it lives for one turn of a loop and is never stored"
)]
pub enum Event<'a> {
    /// A whole message.
    Delivery(Delivery),
    /// A method without content.
    Method(Method<'a>),
}

/// A message that arrived.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Delivery {
    /// The queue, by which this tool names its consumers.
    pub queue: u16,
    /// Delivery tag.
    pub delivery_tag: u64,
    /// The broker says that it may have been delivered before.
    pub redelivered: bool,
    /// Octets of the body.
    pub body_bytes: u64,
    /// What the message says about itself; `None` if it is too short to.
    pub stamp: Option<Stamp>,
}

/// The delivery under way on a channel.
#[derive(Debug, Default)]
pub struct Assembly(Content);

#[derive(Debug, Default)]
enum Content {
    #[default]
    Idle,
    Header(Delivery),
    Body {
        delivery: Delivery,
        missing_bytes: u64,
        /// The first octets, as far as they have come.
        start: [u8; STAMP_BYTES],
        start_bytes: usize,
    },
}

impl Assembly {
    /// Whether no delivery is under way.
    #[inline]
    pub fn is_idle(&self) -> bool {
        matches!(self.0, Content::Idle)
    }

    /// Takes a frame.
    ///
    /// # Errors
    /// If the frame is malformed or not due.
    #[inline]
    pub fn take<'a>(
        &mut self,
        frame: Frame<'a>,
        limits: &Limits,
    ) -> Result<Option<Event<'a>>, ClientError> {
        match (frame.kind, &mut self.0) {
            (FrameKind::Method, Content::Idle) => match scan_deliver(frame.payload) {
                Some(delivery) => {
                    self.0 = Content::Header(delivery);
                    Ok(None)
                }
                None => Ok(Some(Event::Method(Method::decode(frame.payload, limits)?))),
            },
            (FrameKind::Header, Content::Header(delivery)) => {
                let mut delivery = *delivery;
                delivery.body_bytes = ContentHeader::decode(frame.payload)?.body_bytes;
                if delivery.body_bytes == 0 {
                    self.0 = Content::Idle;
                    return Ok(Some(Event::Delivery(delivery)));
                }
                self.0 = Content::Body {
                    delivery,
                    missing_bytes: delivery.body_bytes,
                    start: [0; STAMP_BYTES],
                    start_bytes: 0,
                };
                Ok(None)
            }
            (
                FrameKind::Body,
                Content::Body {
                    delivery,
                    missing_bytes,
                    start,
                    start_bytes,
                },
            ) => {
                if let Some(missing) = start.get_mut(*start_bytes..) {
                    let count = missing.len().min(frame.payload.len());
                    let (now, _) = frame.payload.split_at(count);
                    missing
                        .iter_mut()
                        .zip(now)
                        .for_each(|(to, from)| *to = *from);
                    *start_bytes += count;
                }
                let Some(missing) = missing_bytes.checked_sub(frame.payload.len() as u64) else {
                    return Err(ClientError::Unexpected("end of a body".to_owned()));
                };
                *missing_bytes = missing;
                if missing > 0 {
                    return Ok(None);
                }
                let stamp = (*start_bytes == STAMP_BYTES).then(|| Stamp::decode(start));
                let delivery = Delivery { stamp, ..*delivery };
                self.0 = Content::Idle;
                Ok(Some(Event::Delivery(delivery)))
            }
            (FrameKind::Heartbeat, _) => Ok(None),
            (kind, _) => Err(ClientError::Unexpected(format!("{kind:?} frame"))),
        }
    }
}

/// Reads a delivery whose three frames are all there, in one go, and says how many octets it
/// took. `None` for anything else: a larger body, a cut, another method are for [`Assembly`],
/// which must be idle.
#[inline]
pub fn scan_whole(unread: &[u8], frame_max: u32) -> Option<(Delivery, usize)> {
    let (method, method_size) = frame_of(FrameKind::Method, unread, frame_max)?;
    let delivery = scan_deliver(method)?;
    let rest = unread.get(method_size..)?;
    let (header, header_size) = frame_of(FrameKind::Header, rest, frame_max)?;
    let body_bytes = ContentHeader::decode(header).ok()?.body_bytes;
    let (body, body_size) = frame_of(FrameKind::Body, rest.get(header_size..)?, frame_max)?;
    let stamp = Stamp::decode(body.first_chunk()?);
    let delivery = Delivery {
        body_bytes,
        stamp: Some(stamp),
        ..delivery
    };
    let whole = body.len() as u64 == body_bytes;
    whole.then_some((delivery, method_size + header_size + body_size))
}

#[inline]
fn frame_of(kind: FrameKind, input: &[u8], frame_max: u32) -> Option<(&[u8], usize)> {
    let (frame, size) = frame::decode(input, frame_max).ok()??;
    (frame.kind == kind).then_some((frame.payload, size))
}

/// Reads a `basic.deliver` in place; `None` for any other method, and for consumer tags
/// that are not ours.
#[inline]
fn scan_deliver(payload: &[u8]) -> Option<Delivery> {
    const IDS: u32 = (BasicDeliver::CLASS_ID as u32) << 16 | BasicDeliver::METHOD_ID as u32;
    let (ids, rest) = payload.split_first_chunk()?;
    if u32::from_be_bytes(*ids) != IDS {
        return None;
    }
    let (&tag_bytes, rest) = rest.split_first()?;
    let (tag, rest) = rest.split_at_checked(tag_bytes.into())?;
    let queue = tag.iter().try_fold(0u16, |queue, digit| {
        let digit = digit.checked_sub(b'0').filter(|&digit| digit < 10)?;
        queue.checked_mul(10)?.checked_add(digit.into())
    })?;
    let (delivery_tag, rest) = rest.split_first_chunk()?;
    let (&bits, _exchange_and_key) = rest.split_first()?;
    Some(Delivery {
        queue,
        delivery_tag: u64::from_be_bytes(*delivery_tag),
        redelivered: bits & 1 != 0,
        body_bytes: 0,
        stamp: None,
    })
}

#[cfg(test)]
mod tests {
    use leveret_protocol::content;

    use super::*;

    fn wire(queue: &str, body: &[u8], frame_max: u32) -> Vec<u8> {
        let deliver = BasicDeliver {
            consumer_tag: queue,
            delivery_tag: 77,
            redelivered: true,
            exchange: "x",
            routing_key: "k",
        };
        let mut wire = Vec::new();
        content::encode(&mut wire, 1, &deliver, &[0, 0], body, frame_max);
        wire
    }

    fn deliveries(mut wire: &[u8]) -> Result<Vec<Delivery>, ClientError> {
        let mut assembly = Assembly::default();
        let mut deliveries = Vec::new();
        while let Some((frame, size)) = frame::decode(wire, 131_072)? {
            match assembly.take(frame, &Limits::default())? {
                Some(Event::Delivery(delivery)) => deliveries.push(delivery),
                Some(Event::Method(method)) => panic!("{method:?}"),
                None => {}
            }
            wire = &wire[size..];
        }
        Ok(deliveries)
    }

    #[test]
    fn the_stamp_is_found_however_the_body_is_cut() {
        let stamp = Stamp {
            producer: 3,
            sequence: 4,
            due_ns: 5,
        };
        for (body_bytes, frame_max) in [(16, 0), (1_000, 0), (1_000, 300), (40, 8 + 5), (16, 9)] {
            let mut body = stamp.encode().to_vec();
            body.resize(body_bytes, b'.');
            let found = deliveries(&wire("65535", &body, frame_max)).expect("it is whole");
            let expected = Delivery {
                queue: 65_535,
                delivery_tag: 77,
                redelivered: true,
                body_bytes: body_bytes as u64,
                stamp: Some(stamp),
            };
            assert_eq!(found, [expected], "{body_bytes} in frames of {frame_max}");

            let mut wire = wire("65535", &body, frame_max);
            let size = wire.len();
            let one_frame = content::body_frames(body_bytes, frame_max).len() == 1;
            let whole = one_frame.then_some((expected, size));
            assert_eq!(scan_whole(&wire[..size - 1], 131_072), None);
            wire.push(1);
            assert_eq!(scan_whole(&wire, 131_072), whole);
        }
    }

    #[test]
    fn short_bodies_have_no_stamp() {
        for body_bytes in [0, 1, 15] {
            let found = deliveries(&wire("0", &vec![1; body_bytes], 0)).expect("it is whole");
            let stamps: Vec<Option<Stamp>> = found.iter().map(|found| found.stamp).collect();
            assert_eq!(stamps, [None], "{body_bytes}");
        }
    }

    #[test]
    fn frames_out_of_turn_are_refused() {
        let whole = wire("0", &[0; 16], 0);
        let (_, method) = frame::decode(&whole, 4_096).expect("valid").expect("whole");
        let (_, header) = frame::decode(&whole[method..], 4_096)
            .expect("valid")
            .expect("whole");
        let body = &whole[method + header..];
        let twice = [&whole[..method], &whole[..method]].concat();
        let headless = [&whole[..method], body].concat();
        let longer = [
            &whole[..method + header],
            &wire("0", &[0; 17], 0)[method + header..],
        ];
        for (shows, wire) in [
            ("a body alone", body),
            ("a header alone", &whole[method..]),
            ("a method where the header is due", &twice),
            ("a body where the header is due", &headless),
            ("a body that is too long", &longer.concat()),
        ] {
            assert!(deliveries(wire).is_err(), "{shows}");
        }
    }
}
