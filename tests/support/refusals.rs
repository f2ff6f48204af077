//! Expecting refusals: who closes what, with which code, text and cause.

use leveret_protocol::Method;
use leveret_protocol::method::{EncodeMethod, *};

use super::client::Client;
use super::matched;

impl Client {
    /// Sends a method that must close its channel with this code and text and
    /// with the method's own ids, then opens the channel again.
    ///
    /// A text that ends in `*` is a prefix.
    #[track_caller]
    pub fn refused(&mut self, channel: u16, method: &impl EncodeMethod, code: u16, text: &str) {
        self.send(channel, method);
        let ids = self.expect_channel_close(channel, code, text);
        assert_eq!(ids, ids_of(method), "class and method of {text:?}");
        self.open_channel(channel);
    }

    /// Sends a method that must close the connection with this code and text
    /// and with the method's own ids, and sees the connection through to its end.
    #[track_caller]
    pub fn fatal(mut self, channel: u16, method: &impl EncodeMethod, code: u16, text: &str) {
        self.send(channel, method);
        let ids = self.expect_connection_close(code, text);
        assert_eq!(ids, ids_of(method), "class and method of {text:?}");
    }

    /// Waits for `channel.close` behind whatever else comes on that channel,
    /// answers it, and returns the failing class and method.
    #[track_caller]
    pub fn expect_channel_close(&mut self, channel: u16, code: u16, text: &str) -> (u16, u16) {
        let close = matched!(self.next_method(channel), Method::ChannelClose(close) => close);
        assert_reply(close.reply_code, close.reply_text, code, text);
        self.send(channel, &ChannelCloseOk {});
        (close.class_id, close.method_id)
    }

    /// Waits for `connection.close`, answers it, waits for the end of the
    /// socket, and returns the failing class and method.
    #[track_caller]
    pub fn expect_connection_close(&mut self, code: u16, text: &str) -> (u16, u16) {
        let close = matched!(self.next_method(0), Method::ConnectionClose(close) => close);
        assert_reply(close.reply_code, close.reply_text, code, text);
        self.send(0, &ConnectionCloseOk {});
        self.expect_end();
        (close.class_id, close.method_id)
    }
}

#[track_caller]
fn assert_reply(code_is: u16, text_is: &str, code: u16, text: &str) {
    match text.strip_suffix('*') {
        Some(prefix) => assert!(
            code_is == code && text_is.starts_with(prefix),
            "expected {code} {text:?}, got {code_is} {text_is:?}"
        ),
        None => assert_eq!((code_is, text_is), (code, text)),
    }
}

/// Class and method id are what every method starts with.
fn ids_of(method: &impl EncodeMethod) -> (u16, u16) {
    let mut payload = Vec::new();
    method.encode(&mut payload);
    let short = |at: usize| u16::from_be_bytes([payload[at], payload[at + 1]]);
    (short(0), short(2))
}
