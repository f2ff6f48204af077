//! The reply codes of AMQP 0-9-1 and what each one closes.

/// How much an error ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ErrorScope {
    /// Nothing is closed: the code travels in `basic.return` or a close-ok.
    None,
    /// A soft error closes the channel.
    Channel,
    /// A hard error closes the connection.
    Connection,
}

macro_rules! reply_codes {
    ($($(#[$doc:meta])* $variant:ident = $code:literal $name:literal $scope:ident;)*) => {
        /// A reply code (AMQP 0-9-1 domain `reply-code`).
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        #[repr(u16)]
        pub enum ReplyCode { $($(#[$doc])* $variant = $code,)* }

        impl ReplyCode {
            /// Every code, in numeric order.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name that starts a reply text: `NOT_FOUND - …`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What the code closes.
            #[must_use]
            pub fn scope(self) -> ErrorScope {
                match self { $(Self::$variant => ErrorScope::$scope,)* }
            }

            /// The code with this number, if AMQP 0-9-1 has one.
            #[must_use]
            pub fn from_code(code: u16) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

reply_codes! {
    /// Done.
    Success = 200 "OK" None;
    /// Content too large for the server.
    ContentTooLarge = 311 "CONTENT_TOO_LARGE" Channel;
    /// A mandatory message reached no queue.
    NoRoute = 312 "NO_ROUTE" None;
    /// An immediate message reached no consumer.
    NoConsumers = 313 "NO_CONSUMERS" Channel;
    /// An operator or the server closes the connection.
    ConnectionForced = 320 "CONNECTION_FORCED" Connection;
    /// The virtual host is unknown.
    InvalidPath = 402 "INVALID_PATH" Connection;
    /// No permission.
    AccessRefused = 403 "ACCESS_REFUSED" Channel;
    /// No such queue or exchange.
    NotFound = 404 "NOT_FOUND" Channel;
    /// Another connection's exclusive queue.
    ResourceLocked = 405 "RESOURCE_LOCKED" Channel;
    /// A precondition does not hold, or arguments differ.
    PreconditionFailed = 406 "PRECONDITION_FAILED" Channel;
    /// A frame that cannot be decoded.
    FrameError = 501 "FRAME_ERROR" Connection;
    /// A field with an impossible value.
    SyntaxError = 502 "SYNTAX_ERROR" Connection;
    /// A method that does not exist or makes no sense now.
    CommandInvalid = 503 "COMMAND_INVALID" Connection;
    /// A channel that is not open, or is open already.
    ChannelError = 504 "CHANNEL_ERROR" Connection;
    /// A frame that is not due.
    UnexpectedFrame = 505 "UNEXPECTED_FRAME" Connection;
    /// The server is out of a resource.
    ResourceError = 506 "RESOURCE_ERROR" Connection;
    /// Something the server never allows.
    NotAllowed = 530 "NOT_ALLOWED" Connection;
    /// Something the server does not do.
    NotImplemented = 540 "NOT_IMPLEMENTED" Connection;
    /// A fault in the server.
    InternalError = 541 "INTERNAL_ERROR" Connection;
}

impl ReplyCode {
    /// The number on the wire.
    #[must_use]
    pub fn code(self) -> u16 {
        self as u16
    }
}
