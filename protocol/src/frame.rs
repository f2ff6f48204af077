//! The frame envelope (AMQP 0-9-1 §4.2.3): type, channel, size, payload, `0xCE`.
//!
//! [`decode`] is incremental: `None` means that more bytes are due. It believes
//! no size that is above the limit and copies nothing. [`take`] does the same
//! to a [`BytesMut`], for readers that keep frames beyond the next read.

use bytes::{Buf, Bytes, BytesMut};
use nom::Parser;

use crate::DecodeError;
use crate::method::EncodeMethod;
use crate::wire::{be_u8, be_u16, be_u32};

/// Octets of a frame around its payload: 7 in front, the end octet behind.
pub const ENVELOPE_BYTES: usize = 8;
/// Octets in front of a frame's payload.
pub const HEADER_BYTES: usize = 7;
/// The octet that ends every frame.
pub const FRAME_END: u8 = 0xCE;
/// The smallest frame size a peer may negotiate (AMQP 0-9-1 `frame-min-size`).
pub const FRAME_MIN_SIZE: u32 = 4_096;
/// What a client says first: `AMQP`, 0, 0, 9, 1.
pub const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\x00\x00\x09\x01";
/// A whole heartbeat frame.
pub const HEARTBEAT: [u8; 8] = [8, 0, 0, 0, 0, 0, 0, FRAME_END];

/// What a frame carries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum FrameKind {
    /// A method's ids and fields.
    Method = 1,
    /// A content header.
    Header = 2,
    /// A piece of content.
    Body = 3,
    /// Nothing: the peer is alive.
    Heartbeat = 8,
}

impl FrameKind {
    #[inline]
    fn from_octet(octet: u8) -> Result<Self, DecodeError> {
        match octet {
            1 => Ok(Self::Method),
            2 => Ok(Self::Header),
            3 => Ok(Self::Body),
            8 => Ok(Self::Heartbeat),
            other => Err(DecodeError::FrameKindUnknown(other)),
        }
    }
}

/// One whole frame, its payload borrowed from the buffer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Frame<'a> {
    /// What the payload is.
    pub kind: FrameKind,
    /// Channel number; 0 is the connection itself.
    pub channel: u16,
    /// The octets between size and end octet.
    pub payload: &'a [u8],
}

/// One whole frame that shares the memory of the buffer it was taken from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OwnedFrame {
    /// What the payload is.
    pub kind: FrameKind,
    /// Channel number; 0 is the connection itself.
    pub channel: u16,
    /// The octets between size and end octet. While this lives, so does the
    /// whole buffer behind it.
    pub payload: Bytes,
}

impl OwnedFrame {
    /// The same frame, borrowed.
    #[must_use]
    pub fn as_frame(&self) -> Frame<'_> {
        Frame {
            kind: self.kind,
            channel: self.channel,
            payload: &self.payload,
        }
    }
}

/// The seven octets in front of a payload, checked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FrameHeader {
    /// What the payload is.
    pub kind: FrameKind,
    /// Channel number; 0 is the connection itself.
    pub channel: u16,
    /// Octets of payload.
    pub payload_bytes: usize,
}

impl FrameHeader {
    /// Octets of the whole frame.
    #[must_use]
    pub fn frame_bytes(&self) -> usize {
        self.payload_bytes + ENVELOPE_BYTES
    }
}

/// Reads the envelope at the start of `input`; `None` if fewer than 7 octets
/// are there.
///
/// # Errors
/// 501 for an unknown type or a frame above `frame_max`. As RabbitMQ does, the
/// 8 octets of envelope are forgiven: a payload of `frame_max` octets passes.
#[inline]
pub fn decode_header(input: &[u8], frame_max: u32) -> Result<Option<FrameHeader>, DecodeError> {
    let Ok((_, (kind, channel, size))) = (be_u8, be_u16, be_u32).parse(input) else {
        // The type octet alone tells garbage from a frame that is still coming.
        if let Some(&octet) = input.first() {
            FrameKind::from_octet(octet)?;
        }
        return Ok(None);
    };
    let kind = FrameKind::from_octet(kind)?;
    if size > frame_max {
        return Err(DecodeError::FrameTooLarge { size, frame_max });
    }
    Ok(Some(FrameHeader {
        kind,
        channel,
        payload_bytes: size as usize,
    }))
}

/// Takes one frame off the start of `input`: the frame and how many octets it
/// took, or `None` if it is not complete yet.
///
/// # Errors
/// 501 for an unknown type, a frame above `frame_max`, a wrong end octet.
#[inline]
pub fn decode(input: &[u8], frame_max: u32) -> Result<Option<(Frame<'_>, usize)>, DecodeError> {
    let Some(header) = decode_header(input, frame_max)? else {
        return Ok(None);
    };
    let size = header.frame_bytes();
    let (Some(payload), Some(&end)) = (input.get(HEADER_BYTES..size - 1), input.get(size - 1))
    else {
        return Ok(None);
    };
    if end != FRAME_END {
        return Err(DecodeError::FrameEndMissing(end));
    }
    Ok(Some((
        Frame {
            kind: header.kind,
            channel: header.channel,
            payload,
        },
        size,
    )))
}

/// Takes one frame off the front of `buffer`, or `None` if it is not complete
/// yet. Nothing is copied, and nothing reserved for what is announced.
///
/// ```
/// use bytes::BytesMut;
/// use leveret_protocol::{FrameKind, frame};
///
/// let mut buffer = BytesMut::from(&frame::HEARTBEAT[..5]);
/// assert_eq!(frame::take(&mut buffer, 4_096), Ok(None));
/// buffer.extend_from_slice(&frame::HEARTBEAT[5..]);
/// let frame = frame::take(&mut buffer, 4_096)?.expect("a whole frame");
/// assert_eq!((frame.kind, buffer.len()), (FrameKind::Heartbeat, 0));
/// # Ok::<(), leveret_protocol::DecodeError>(())
/// ```
///
/// # Errors
/// As [`decode`]; `buffer` is then unchanged.
pub fn take(buffer: &mut BytesMut, frame_max: u32) -> Result<Option<OwnedFrame>, DecodeError> {
    let Some((Frame { kind, channel, .. }, size)) = decode(buffer, frame_max)? else {
        return Ok(None);
    };
    let mut payload = buffer.split_to(size).freeze();
    payload.advance(HEADER_BYTES);
    payload.truncate(size - ENVELOPE_BYTES);
    Ok(Some(OwnedFrame {
        kind,
        channel,
        payload,
    }))
}

/// The seven octets in front of a payload of `payload_bytes`.
#[inline]
#[must_use]
pub fn header_octets(kind: FrameKind, channel: u16, payload_bytes: u32) -> [u8; HEADER_BYTES] {
    let [c0, c1] = channel.to_be_bytes();
    let [s0, s1, s2, s3] = payload_bytes.to_be_bytes();
    [kind as u8, c0, c1, s0, s1, s2, s3]
}

/// Appends the seven octets in front of a payload of `payload_bytes`.
#[inline]
pub fn encode_header(out: &mut Vec<u8>, kind: FrameKind, channel: u16, payload_bytes: u32) {
    out.extend_from_slice(&header_octets(kind, channel, payload_bytes));
}

/// Appends a whole frame around `payload`.
pub fn encode(out: &mut Vec<u8>, kind: FrameKind, channel: u16, payload: &[u8]) {
    debug_assert!(
        u32::try_from(payload.len()).is_ok(),
        "a payload is below 4 GiB"
    );
    encode_header(out, kind, channel, payload.len() as u32);
    out.extend_from_slice(payload);
    out.push(FRAME_END);
}

/// Appends a frame whose payload `write` appends; its size is filled in after.
#[inline]
pub fn encode_with(
    out: &mut Vec<u8>,
    kind: FrameKind,
    channel: u16,
    write: impl FnOnce(&mut Vec<u8>),
) {
    let start = out.len();
    encode_header(out, kind, channel, 0);
    write(out);
    let size = (out.len() - start - HEADER_BYTES) as u32;
    out[start + 3..start + HEADER_BYTES].copy_from_slice(&size.to_be_bytes());
    out.push(FRAME_END);
}

/// Appends a method frame.
#[inline]
pub fn encode_method(out: &mut Vec<u8>, channel: u16, method: &impl EncodeMethod) {
    encode_with(out, FrameKind::Method, channel, |out| method.encode(out));
}
