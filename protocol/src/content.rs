//! Whole messages as frames: method, content header, body (AMQP 0-9-1 §4.2.6).
//!
//! [`encode`] appends any content method, [`encode_deliver`] is the broker's
//! way out: it takes what the publisher sent as it came and allocates nothing
//! but the one growth of `out`. For a large body, [`encode_deliver_head`] stops
//! before the body and [`body_frames`] says how it is to be cut, so that the
//! caller can hand its slices to `writev`:
//!
//! ```
//! use leveret_protocol::{content, frame};
//!
//! let body = vec![7; 10_000];
//! let mut glue = Vec::new();
//! for piece in content::body_frames(body.len(), 4_096) {
//!     glue.extend_from_slice(&piece.header(1)); // written first,
//!     let _slice = &body[piece.range()];        // then this,
//!     glue.push(frame::FRAME_END);              // then the end octet
//! }
//! assert_eq!(glue.len(), 3 * frame::ENVELOPE_BYTES);
//! ```

use std::ops::Range;

use crate::frame::{self, ENVELOPE_BYTES, FRAME_END, FrameKind, HEADER_BYTES};
use crate::header::{BASIC_CLASS_ID, PROPERTIES_OFFSET};
use crate::method::{BasicDeliver, BasicPublish, EncodeMethod};
use crate::wire::{SHORT_STRING_MAX, Writer};

/// Appends a content method (publish, return, deliver, get-ok) with its header
/// and as many body frames as `frame_max` asks for; 0 stands for no limit.
///
/// `properties` are flags and list, as [`crate::ContentHeader::properties`]
/// holds them and [`crate::Properties::encode`] writes them. Only a body is
/// ever split: that method and header fit into a frame is for the caller.
pub fn encode(
    out: &mut Vec<u8>,
    channel: u16,
    method: &impl EncodeMethod,
    properties: &[u8],
    body: &[u8],
    frame_max: u32,
) {
    let frames = body_frames(body.len(), frame_max);
    out.reserve(
        method.bytes_hint()
            + properties.len()
            + PROPERTIES_OFFSET
            + 2 * ENVELOPE_BYTES
            + frames.wire_bytes(),
    );
    frame::encode_method(out, channel, method);
    encode_header(out, channel, properties, body.len() as u64);
    encode_body(out, channel, body, &frames);
}

/// Appends a header frame of class `basic` from its parts.
pub fn encode_header(out: &mut Vec<u8>, channel: u16, properties: &[u8], body_bytes: u64) {
    debug_assert!(fits_frame(properties.len()), "properties are below 4 GiB");
    let mut head = [0; HEADER_BYTES + PROPERTIES_OFFSET];
    let (envelope, fixed) = head.split_at_mut(HEADER_BYTES);
    envelope.copy_from_slice(&frame::header_octets(
        FrameKind::Header,
        channel,
        (PROPERTIES_OFFSET + properties.len()) as u32,
    ));
    fixed[..2].copy_from_slice(&BASIC_CLASS_ID.to_be_bytes());
    fixed[4..].copy_from_slice(&body_bytes.to_be_bytes());
    out.extend_from_slice(&head);
    out.extend_from_slice(properties);
    out.push(FRAME_END);
}

/// Appends a `basic.deliver` with header and body, as [`encode`] does, out of
/// the pieces that the publisher sent: `envelope` is exchange and routing key
/// as two short strings ([`publish_envelope`], [`encode_envelope`]),
/// `header_payload` the header frame's payload, whose body size must be that
/// of `body`.
#[inline]
#[allow(
    clippy::too_many_arguments,
    reason = "the fields of one frame sequence"
)]
pub fn encode_deliver(
    out: &mut Vec<u8>,
    channel: u16,
    consumer_tag: &str,
    delivery_tag: u64,
    redelivered: bool,
    envelope: &[u8],
    header_payload: &[u8],
    body: &[u8],
    frame_max: u32,
) {
    debug_assert_eq!(
        header_payload.get(4..PROPERTIES_OFFSET),
        Some(&(body.len() as u64).to_be_bytes()[..]),
        "the header announces this body"
    );
    let frames = body_frames(body.len(), frame_max);
    out.reserve(
        DELIVER_FIXED_BYTES
            + consumer_tag.len()
            + envelope.len()
            + header_payload.len()
            + frames.wire_bytes(),
    );
    encode_deliver_head(
        out,
        channel,
        consumer_tag,
        delivery_tag,
        redelivered,
        envelope,
        header_payload,
    );
    encode_body(out, channel, body, &frames);
}

/// Appends what [`encode_deliver`] does, without the body frames.
#[inline]
pub fn encode_deliver_head(
    out: &mut Vec<u8>,
    channel: u16,
    consumer_tag: &str,
    delivery_tag: u64,
    redelivered: bool,
    envelope: &[u8],
    header_payload: &[u8],
) {
    let tag = short_octets(consumer_tag);
    debug_assert!(
        fits_frame(envelope.len()) && fits_frame(header_payload.len()),
        "a payload is below 4 GiB"
    );
    let method_bytes = 4 + 1 + tag.len() + 8 + 1 + envelope.len();
    out.reserve(DELIVER_FIXED_BYTES + tag.len() + envelope.len() + header_payload.len());

    // Runs of fixed width are put together on the stack: one copy for each.
    let [k, c0, c1, s0, s1, s2, s3] =
        frame::header_octets(FrameKind::Method, channel, method_bytes as u32);
    let [class0, class1] = BasicDeliver::CLASS_ID.to_be_bytes();
    let [id0, id1] = BasicDeliver::METHOD_ID.to_be_bytes();
    let tag_bytes = tag.len() as u8;
    out.extend_from_slice(&[
        k, c0, c1, s0, s1, s2, s3, class0, class1, id0, id1, tag_bytes,
    ]);
    out.extend_from_slice(tag);
    let [t0, t1, t2, t3, t4, t5, t6, t7] = delivery_tag.to_be_bytes();
    out.extend_from_slice(&[t0, t1, t2, t3, t4, t5, t6, t7, u8::from(redelivered)]);
    out.extend_from_slice(envelope);
    let [k, c0, c1, s0, s1, s2, s3] =
        frame::header_octets(FrameKind::Header, channel, header_payload.len() as u32);
    out.extend_from_slice(&[FRAME_END, k, c0, c1, s0, s1, s2, s3]);
    out.extend_from_slice(header_payload);
    out.push(FRAME_END);
}

/// Appends exchange and routing key as `basic.publish`, `return`, `deliver`
/// and `get-ok` carry them: two short strings.
pub fn encode_envelope(out: &mut Vec<u8>, exchange: &str, routing_key: &str) {
    let mut writer = Writer::new(out);
    writer.shortstr(exchange);
    writer.shortstr(routing_key);
}

/// A `basic.publish` method, found in place by [`scan_publish`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PublishScan<'a> {
    /// Exchange and routing key in their wire form, two short strings. They
    /// are whole, but not known to be UTF-8: a key for a look-up.
    pub envelope: &'a [u8],
    /// An unroutable message is to be returned.
    pub mandatory: bool,
    /// A message that no consumer takes at once is to be returned.
    pub immediate: bool,
}

/// Reads a method frame's payload that is a whole `basic.publish`; `None` for
/// anything else, which is then for [`crate::Method::decode`] to judge.
#[inline]
#[must_use]
pub fn scan_publish(method_payload: &[u8]) -> Option<PublishScan<'_>> {
    const IDS: u32 = (BasicPublish::CLASS_ID as u32) << 16 | BasicPublish::METHOD_ID as u32;
    let (&[c0, c1, m0, m1, _, _], rest) = method_payload.split_first_chunk()?;
    let (&bits, envelope) = rest.split_last()?;
    let (&exchange_bytes, rest) = envelope.split_first()?;
    let (&key_bytes, key) = rest.get(usize::from(exchange_bytes)..)?.split_first()?;
    let whole = u32::from_be_bytes([c0, c1, m0, m1]) == IDS && key.len() == usize::from(key_bytes);
    whole.then_some(PublishScan {
        envelope,
        mandatory: bits & 1 != 0,
        immediate: bits & 2 != 0,
    })
}

/// Exchange and routing key of a `basic.publish` method payload, still in their
/// wire form; `None` if it is another method or malformed.
#[inline]
#[must_use]
pub fn publish_envelope(method_payload: &[u8]) -> Option<&[u8]> {
    scan_publish(method_payload).map(|publish| publish.envelope)
}

/// How a body is cut into frames of at most `frame_max` octets, envelope
/// included; 0 stands for no limit. An empty body has no frame.
#[inline]
#[must_use]
pub fn body_frames(body_bytes: usize, frame_max: u32) -> BodyFrames {
    let frame_max = match frame_max {
        0 => u32::MAX,
        limit => limit,
    };
    // A limit that the envelope alone exceeds is never negotiated; one octet a
    // frame keeps the plan finite all the same.
    let payload_max = (frame_max as usize).saturating_sub(ENVELOPE_BYTES).max(1);
    BodyFrames {
        offset: 0,
        body_bytes,
        payload_max,
    }
}

/// The body frames still to be written; see [`body_frames`].
#[derive(Clone, Debug)]
pub struct BodyFrames {
    offset: usize,
    body_bytes: usize,
    payload_max: usize,
}

impl BodyFrames {
    /// Octets of all frames that are left, envelopes included.
    #[inline]
    #[must_use]
    pub fn wire_bytes(&self) -> usize {
        (self.body_bytes - self.offset) + self.len() * ENVELOPE_BYTES
    }
}

impl Iterator for BodyFrames {
    type Item = BodyFrame;

    #[inline]
    fn next(&mut self) -> Option<BodyFrame> {
        let bytes = (self.body_bytes - self.offset).min(self.payload_max);
        if bytes == 0 {
            return None;
        }
        let offset = self.offset;
        self.offset += bytes;
        Some(BodyFrame { offset, bytes })
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.body_bytes - self.offset;
        // Nearly every body is one frame: that case is kept free of a division.
        let frames = if left <= self.payload_max {
            usize::from(left > 0)
        } else {
            left.div_ceil(self.payload_max)
        };
        (frames, Some(frames))
    }
}

impl ExactSizeIterator for BodyFrames {}

/// The part of a body that one frame carries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BodyFrame {
    /// Where in the body it begins.
    pub offset: usize,
    /// Octets of it; never 0.
    pub bytes: usize,
}

impl BodyFrame {
    /// The slice of the body.
    #[inline]
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.bytes
    }

    /// The octets in front of it; [`FRAME_END`] goes behind.
    #[inline]
    #[must_use]
    pub fn header(&self, channel: u16) -> [u8; HEADER_BYTES] {
        frame::header_octets(FrameKind::Body, channel, self.bytes as u32)
    }
}

#[inline]
fn encode_body(out: &mut Vec<u8>, channel: u16, body: &[u8], frames: &BodyFrames) {
    for piece in body.chunks(frames.payload_max) {
        let header = frame::header_octets(FrameKind::Body, channel, piece.len() as u32);
        out.extend_from_slice(&header);
        out.extend_from_slice(piece);
        out.push(FRAME_END);
    }
}

#[inline]
fn short_octets(text: &str) -> &[u8] {
    &text.as_bytes()[..text.floor_char_boundary(SHORT_STRING_MAX)]
}

fn fits_frame(bytes: usize) -> bool {
    u32::try_from(bytes).is_ok()
}

/// Octets of a deliver's method and header frames that do not vary: two
/// envelopes, ids, the tag's length, the delivery tag, the redelivered bit.
const DELIVER_FIXED_BYTES: usize = 2 * ENVELOPE_BYTES + 4 + 1 + 8 + 1;
