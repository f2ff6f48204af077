//! What a peer does against the rules, and the error that it gets for that.

use leveret_protocol::{DecodeError, Frame, FrameKind, ReplyCode};

use super::close::{Cause, PUBLISH_IDS};
use super::content::{Content, ContentError};
use super::{Phase, Session};

impl Session {
    pub(super) fn fail_frame(&mut self, error: &DecodeError) {
        if self.phase == Phase::Closing {
            // The peer has stopped making sense: its answer will not come.
            self.phase = Phase::Closed;
            return;
        }
        self.fail(Cause::new(error.reply_code(), error.to_string(), (0, 0)));
    }

    pub(super) fn fail_decoding(&mut self, error: &DecodeError, payload: &[u8]) {
        self.fail(Cause::new(
            error.reply_code(),
            error.to_string(),
            ids_of(payload),
        ));
    }

    pub(super) fn fail_content(&mut self, number: u16, error: &ContentError) {
        let maximum = self.settings.message_bytes_max;
        let (code, text) = match error {
            ContentError::Decode(error) => (error.reply_code(), error.to_string()),
            ContentError::WrongClass(class_id) => (
                ReplyCode::UnexpectedFrame,
                format!(
                    "expected content header for class 60, got one for class {class_id} instead"
                ),
            ),
            ContentError::TooLong => (
                ReplyCode::FrameError,
                "content body exceeds the announced size".to_owned(),
            ),
            ContentError::TooLarge(size) => (
                ReplyCode::PreconditionFailed,
                format!("message size {size} is larger than configured max size {maximum}"),
            ),
        };
        self.fail_on(number, Cause::new(code, text, PUBLISH_IDS));
    }

    pub(super) fn fail_order(&mut self, kind: FrameKind, content: &Content) {
        let text = match (content, kind) {
            (_, FrameKind::Heartbeat) => "heartbeat frame on a channel other than 0",
            (Content::Idle, _) => "expected method frame, got non method frame instead",
            (Content::Header(_), _) => {
                "expected content header for class 60, got non content header frame instead"
            }
            (Content::Body(..), _) => "expected content body, got non content body frame instead",
        };
        let ids = if matches!(content, Content::Idle) {
            (0, 0)
        } else {
            PUBLISH_IDS
        };
        self.fail(Cause::new(ReplyCode::UnexpectedFrame, text, ids));
    }
}

pub(super) fn not_transactional(ids: (u16, u16)) -> Cause {
    Cause::new(
        ReplyCode::PreconditionFailed,
        "channel is not transactional",
        ids,
    )
}

/// The ids at the start of a method payload, readable or not.
fn ids_of(payload: &[u8]) -> (u16, u16) {
    match payload {
        [c0, c1, m0, m1, ..] => (
            u16::from_be_bytes([*c0, *c1]),
            u16::from_be_bytes([*m0, *m1]),
        ),
        _ => (0, 0),
    }
}

pub(super) fn method_ids(frame: Frame<'_>) -> (u16, u16) {
    if frame.kind == FrameKind::Method {
        ids_of(frame.payload)
    } else {
        (0, 0)
    }
}
