//! Why bytes could not be read, named by cause.

use crate::ReplyCode;

/// A peer's bytes are not AMQP 0-9-1. [`DecodeError::reply_code`] says what to
/// close the connection with.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DecodeError {
    /// The frame's type octet is none of method, header, body, heartbeat.
    #[error("unknown frame type {0}")]
    FrameKindUnknown(u8),
    /// The announced payload does not fit into the negotiated frame size.
    #[error("frame of {size} octets is larger than the negotiated {frame_max}")]
    FrameTooLarge {
        /// The payload's announced size in octets.
        size: u32,
        /// The negotiated frame size in octets, envelope included.
        frame_max: u32,
    },
    /// The octet after the payload is not `0xCE`.
    #[error("frame ends in {0:#04x} instead of 0xce")]
    FrameEndMissing(u8),
    /// No method has this class and method id.
    #[error("unknown method {class_id}.{method_id}")]
    MethodUnknown {
        /// Class id.
        class_id: u16,
        /// Method id.
        method_id: u16,
    },
    /// A method's or header's fields end early, run over, or hold what their
    /// type does not allow.
    #[error("{0}")]
    Malformed(&'static str),
    /// A field table nests deeper or holds more than the limits allow.
    #[error("field table exceeds the limit of {0}")]
    TableLimit(&'static str),
}

impl DecodeError {
    /// The code to close the connection with (AMQP 0-9-1 §1.2, `reply-code`).
    #[must_use]
    pub fn reply_code(&self) -> ReplyCode {
        match self {
            Self::FrameKindUnknown(_) | Self::FrameTooLarge { .. } | Self::FrameEndMissing(_) => {
                ReplyCode::FrameError
            }
            Self::MethodUnknown { .. } => ReplyCode::CommandInvalid,
            Self::Malformed(_) | Self::TableLimit(_) => ReplyCode::SyntaxError,
        }
    }
}
