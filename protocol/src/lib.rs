//! A sans-IO codec for AMQP 0-9-1 with RabbitMQ's extensions.
//!
//! Bytes to frames, methods, field tables and content headers, and back, for
//! both directions: a server, a client or a test can be built on it. It does
//! no I/O, holds no connection state and never panics on input; what a peer
//! can make it allocate is bounded by [`Limits`].
//!
//! A reader loop looks like this: [`frame::decode`] takes whole frames off a
//! buffer without copying, [`Method::decode`] reads a method frame's payload,
//! [`ContentHeader::decode`] a header frame's. The fields borrow from the
//! buffer; only field tables are owned. A client that keeps frames beyond the
//! next read uses [`frame::take`]; [`content`] writes whole messages.
//!
//! A broker passes most of a message on as it came, so there is a way to look
//! at each part in place: [`content::scan_publish`], [`PropertyScan`],
//! [`table::find`], [`table::validate`], and [`header`] to change one property.
//!
//! ```
//! use leveret_protocol::{Limits, Method, frame, method::ChannelOpen};
//!
//! let mut wire = Vec::new();
//! frame::encode_method(&mut wire, 1, &ChannelOpen { out_of_band: "" });
//!
//! let limits = Limits::default();
//! let (frame, size) = frame::decode(&wire, limits.frame_max)?.expect("a whole frame");
//! assert_eq!((frame.channel, size), (1, wire.len()));
//! let method = Method::decode(frame.payload, &limits)?;
//! assert_eq!(method, Method::ChannelOpen(ChannelOpen { out_of_band: "" }));
//! # Ok::<(), leveret_protocol::DecodeError>(())
//! ```

pub mod content;
mod error;
pub mod frame;
pub mod header;
mod limits;
pub mod method;
mod reply_code;
pub mod table;
mod wire;

pub use error::DecodeError;
pub use frame::{Frame, FrameKind, OwnedFrame};
pub use header::{ContentHeader, Properties, PropertyScan};
pub use limits::Limits;
pub use method::Method;
pub use reply_code::{ErrorScope, ReplyCode};
pub use smol_str::SmolStr;
pub use table::{FieldTable, FieldValue};
pub use wire::Writer;
