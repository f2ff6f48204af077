//! Messages that clients publish, assembled from their frames.
//!
//! Nearly always method, header and body lie in the read buffer one behind the
//! other, and the message is borrowed from there ([`whole_publish`]). What
//! comes in pieces is kept in [`Content`]:
//!
//! ```text
//! Idle ──publish──▶ Header ──header (0 < size)──▶ Body ──last octet──▶ Idle
//!                      └──── header (size = 0) ─────────────────────────▲
//! ```

use std::borrow::Cow;

use bytes::Bytes;
use leveret_protocol::content::PublishScan;
use leveret_protocol::header::{BASIC_CLASS_ID, PropertyScan};
use leveret_protocol::{ContentHeader, DecodeError, FrameKind, frame};

use crate::model::{self, LARGE_BODY_BYTES, PublishSeqNo};

/// A message as published.
#[derive(Debug)]
pub struct Publish<'a> {
    /// The channel.
    pub channel: u16,
    /// Return it if it reaches no queue.
    pub mandatory: bool,
    /// `immediate`, which no broker supports any more.
    pub immediate: bool,
    /// Whether it asks to survive a restart.
    pub persistent: bool,
    /// Whether a property is set that the broker looks at: headers, reply-to,
    /// expiration or user-id.
    pub notable: bool,
    /// Its number if its channel is in confirm mode, else 0.
    pub confirm: PublishSeqNo,
    /// Exchange and routing key in wire form.
    pub envelope: Cow<'a, [u8]>,
    /// The header frame's payload.
    pub header: Cow<'a, [u8]>,
    /// The body.
    pub body: BodyIn<'a>,
}

/// A published body.
#[derive(Debug)]
pub enum BodyIn<'a> {
    /// In the read buffer, or collected from small pieces.
    Slice(Cow<'a, [u8]>),
    /// Large: slices of the buffers that it was read into.
    Chunks(Vec<Bytes>),
}

/// Where a channel is within a message.
#[derive(Debug)]
pub(super) enum Content {
    Idle,
    Header(Start),
    Body(Start, Gathering),
}

/// A publish method whose content is due.
#[derive(Debug)]
pub(super) struct Start {
    envelope: Vec<u8>,
    mandatory: bool,
    immediate: bool,
}

/// A header and the body so far.
#[derive(Debug)]
pub(super) struct Gathering {
    header: Vec<u8>,
    facts: Facts,
    missing_bytes: u64,
    chunks: Vec<Bytes>,
    /// What came in small pieces since the last chunk.
    tail: Vec<u8>,
    large: bool,
}

/// What the publish path wants to know of the properties.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub(super) persistent: bool,
    pub(super) notable: bool,
}

/// Why a content frame is refused.
#[derive(Debug)]
pub(super) enum ContentError {
    Decode(DecodeError),
    WrongClass(u16),
    /// More body than the header announced.
    TooLong,
    /// The announced body is above the limit.
    TooLarge(u64),
}

impl From<DecodeError> for ContentError {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

/// Reads a header frame's payload and checks all of it that is fixed.
#[inline]
fn check_header(
    payload: &[u8],
    body_bytes_max: u64,
) -> Result<(ContentHeader<'_>, Facts), ContentError> {
    let header = ContentHeader::decode(payload)?;
    if header.class_id != BASIC_CLASS_ID {
        return Err(ContentError::WrongClass(header.class_id));
    }
    let facts = Facts::of(header.properties)?;
    if header.body_bytes > body_bytes_max {
        return Err(ContentError::TooLarge(header.body_bytes));
    }
    Ok((header, facts))
}

impl Facts {
    #[inline]
    fn of(properties: &[u8]) -> Result<Self, DecodeError> {
        let delivery_mode = match *properties {
            // Nothing, a delivery mode, a priority or both is what most have.
            [0, 0] | [0b0000_1000, 0, _] => 0,
            [0b0001_0000, 0, delivery_mode] | [0b0001_1000, 0, delivery_mode, _] => delivery_mode,
            _ => return Self::scan(properties),
        };
        Ok(Self {
            persistent: delivery_mode == 2,
            notable: false,
        })
    }

    fn scan(properties: &[u8]) -> Result<Self, DecodeError> {
        let scan = PropertyScan::new(properties)?;
        Ok(Self {
            persistent: scan.persistent(),
            notable: scan.headers.is_some()
                || scan.reply_to.is_some()
                || scan.expiration.is_some()
                || scan.user_id.is_some(),
        })
    }
}

/// The content behind a publish method if all of it is in the buffer, in one
/// body frame at most and small: header payload, facts, body, octets taken.
/// `None` leaves it to the slow path, which also names the error.
#[inline]
pub(super) fn whole_content(
    input: &[u8],
    channel: u16,
    frame_max: u32,
    body_bytes_max: u64,
) -> Option<(&[u8], Facts, &[u8], usize)> {
    let (head, head_size) = frame::decode(input, frame_max).ok()??;
    if head.kind != FrameKind::Header || head.channel != channel {
        return None;
    }
    let (header, facts) = check_header(head.payload, body_bytes_max).ok()?;
    if header.body_bytes == 0 {
        return Some((head.payload, facts, &[], head_size));
    }
    if header.body_bytes >= LARGE_BODY_BYTES as u64 {
        return None;
    }
    let (body, body_size) = frame::decode(input.get(head_size..)?, frame_max).ok()??;
    let whole = body.kind == FrameKind::Body
        && body.channel == channel
        && body.payload.len() as u64 == header.body_bytes;
    whole.then_some((head.payload, facts, body.payload, head_size + body_size))
}

impl Start {
    pub(super) fn new(method: &PublishScan<'_>) -> Self {
        Self {
            envelope: method.envelope.to_vec(),
            mandatory: method.mandatory,
            immediate: method.immediate,
        }
    }

    /// Takes the header: the message if it has no body, else what gathers it.
    pub(super) fn header(
        self,
        channel: u16,
        payload: &[u8],
        body_bytes_max: u64,
    ) -> Result<(Content, Option<Publish<'static>>), ContentError> {
        let (header, facts) = check_header(payload, body_bytes_max)?;
        let large = header.body_bytes >= LARGE_BODY_BYTES as u64;
        let gathering = Gathering {
            header: payload.to_vec(),
            facts,
            missing_bytes: header.body_bytes,
            chunks: Vec::new(),
            tail: Vec::new(),
            large,
        };
        if header.body_bytes == 0 {
            return Ok((Content::Idle, Some(gathering.finish(channel, self))));
        }
        Ok((Content::Body(self, gathering), None))
    }
}

impl Gathering {
    /// Takes a body frame's payload, a slice of `input`; whether it was the last.
    pub(super) fn body(&mut self, payload: &[u8], input: &Bytes) -> Result<bool, ContentError> {
        self.missing_bytes = self
            .missing_bytes
            .checked_sub(payload.len() as u64)
            .ok_or(ContentError::TooLong)?;
        // A small slice would pin a large buffer: it is copied.
        if self.large && payload.len() >= SLICE_BYTES_MIN {
            self.close_tail();
            self.chunks.push(input.slice_ref(payload));
        } else {
            self.tail.extend_from_slice(payload);
            if self.large && self.tail.len() >= SLICE_BYTES_MIN {
                self.close_tail();
            }
        }
        Ok(self.missing_bytes == 0)
    }

    pub(super) fn finish(mut self, channel: u16, start: Start) -> Publish<'static> {
        let body = if self.large {
            self.close_tail();
            BodyIn::Chunks(self.chunks)
        } else {
            BodyIn::Slice(Cow::Owned(self.tail))
        };
        Publish {
            channel,
            mandatory: start.mandatory,
            immediate: start.immediate,
            persistent: self.facts.persistent,
            notable: self.facts.notable,
            confirm: PublishSeqNo(0),
            envelope: Cow::Owned(start.envelope),
            header: Cow::Owned(self.header),
            body,
        }
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            self.chunks
                .push(Bytes::from(std::mem::take(&mut self.tail)));
        }
    }
}

impl BodyIn<'_> {
    /// The body as messages store it.
    #[must_use]
    pub fn as_body(&self) -> model::Body<'_> {
        match self {
            Self::Slice(body) => model::Body::Slice(body),
            Self::Chunks(chunks) => model::Body::Chunks(chunks),
        }
    }
}

impl Publish<'_> {
    /// The exchange's name.
    #[must_use]
    pub fn exchange(&self) -> &str {
        model::envelope_parts(&self.envelope).unwrap_or_default().0
    }

    /// The routing key.
    #[must_use]
    pub fn routing_key(&self) -> &str {
        model::envelope_parts(&self.envelope).unwrap_or_default().1
    }

    /// The properties' flags and list.
    #[must_use]
    pub fn properties(&self) -> &[u8] {
        self.header
            .get(leveret_protocol::header::PROPERTIES_OFFSET..)
            .unwrap_or_default()
    }
}

/// Body frames from this size on are shared with the read buffer.
const SLICE_BYTES_MIN: usize = 16 * 1024;
