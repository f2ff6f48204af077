//! Every method of AMQP 0-9-1 with RabbitMQ's extensions, from one table.
//!
//! A row of `methods!` is `class, method, "name" => Name { field: domain, … }`, the
//! domains being those of the specification's §4.2.5; it yields the struct, its
//! encoder, its decoder and its variant of [`Method`]. To add a method, add a
//! row.

use crate::wire::{Reader, Writer};
use crate::{DecodeError, FieldTable, Limits};

/// A method that can be written into a method frame.
pub trait EncodeMethod {
    /// Appends class id, method id and fields.
    fn encode(&self, out: &mut Vec<u8>);

    /// About how many octets [`Self::encode`] appends; enough for methods
    /// without a field table.
    #[inline]
    fn bytes_hint(&self) -> usize {
        64
    }
}

/// The type of a method's field (AMQP 0-9-1 §4.2.5).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Domain {
    /// One octet.
    Octet,
    /// Two octets.
    Short,
    /// Four octets.
    Long,
    /// Eight octets.
    Longlong,
    /// One bit, packed with the bits beside it.
    Bit,
    /// Up to 255 octets of UTF-8.
    Shortstr,
    /// Up to 4 GiB of octets.
    Longstr,
    /// A field table.
    Table,
}

/// A row of the method table, for tools and tests that go through all of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MethodSpec {
    /// Class id.
    pub class_id: u16,
    /// Method id within the class.
    pub method_id: u16,
    /// The specification's name, such as `queue.declare-ok`.
    pub name: &'static str,
    /// Names and types of the fields in the order of the wire.
    pub fields: &'static [(&'static str, Domain)],
}

macro_rules! domain {
    ($lt:lifetime octet) => { u8 };
    ($lt:lifetime short) => { u16 };
    ($lt:lifetime long) => { u32 };
    ($lt:lifetime longlong) => { u64 };
    ($lt:lifetime bit) => { bool };
    ($lt:lifetime shortstr) => { &$lt str };
    ($lt:lifetime longstr) => { &$lt [u8] };
    ($lt:lifetime table) => { FieldTable };
}

macro_rules! domain_value {
    (octet) => {
        Domain::Octet
    };
    (short) => {
        Domain::Short
    };
    (long) => {
        Domain::Long
    };
    (longlong) => {
        Domain::Longlong
    };
    (bit) => {
        Domain::Bit
    };
    (shortstr) => {
        Domain::Shortstr
    };
    (longstr) => {
        Domain::Longstr
    };
    (table) => {
        Domain::Table
    };
}

macro_rules! put {
    ($writer:ident table $value:expr) => {
        $writer.table(&$value)
    };
    ($writer:ident $domain:ident $value:expr) => {
        $writer.$domain($value)
    };
}

macro_rules! bytes_hint {
    (octet $value:expr) => {
        1
    };
    (short $value:expr) => {
        2
    };
    (long $value:expr) => {
        4
    };
    (longlong $value:expr) => {
        8
    };
    (bit $value:expr) => {
        1
    };
    (shortstr $value:expr) => {
        1 + $value.len()
    };
    (longstr $value:expr) => {
        4 + $value.len()
    };
    (table $value:expr) => {
        4 + 32 * $value.len()
    };
}

macro_rules! methods {
    ($($(#[$doc:meta])* $class:literal, $id:literal, $spec:literal => $name:ident $(<$lt:lifetime>)?
        { $($field:ident: $domain:ident),* $(,)? })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, Default, PartialEq)]
            #[allow(missing_docs, reason = "fields carry the specification's names")]
            pub struct $name $(<$lt>)? { $(pub $field: domain!('a $domain),)* }

            impl $(<$lt>)? $name $(<$lt>)? {
                /// Class id.
                pub const CLASS_ID: u16 = $class;
                /// Method id within the class.
                pub const METHOD_ID: u16 = $id;
            }

            impl $(<$lt>)? EncodeMethod for $name $(<$lt>)? {
                #[inline]
                fn encode(&self, out: &mut Vec<u8>) {
                    let mut writer = Writer::new(out);
                    writer.short(Self::CLASS_ID);
                    writer.short(Self::METHOD_ID);
                    $(put!(writer $domain self.$field);)*
                }

                #[inline]
                fn bytes_hint(&self) -> usize {
                    4 $(+ bytes_hint!($domain self.$field))*
                }
            }

            impl<'a> From<$name $(<$lt>)?> for Method<'a> {
                fn from(method: $name $(<$lt>)?) -> Self {
                    Self::$name(method)
                }
            }
        )*

        /// Any method, its strings borrowed from the frame.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs, reason = "each variant is documented at its struct")]
        pub enum Method<'a> { $($name($name $(<$lt>)?),)* }

        impl<'a> Method<'a> {
            /// Every method, by class and method id.
            pub const TABLE: &'static [MethodSpec] = &[$(MethodSpec {
                class_id: $class,
                method_id: $id,
                name: $spec,
                fields: &[$((stringify!($field), domain_value!($domain)),)*],
            },)*];

            /// Reads a method frame's payload.
            ///
            /// # Errors
            /// 503 for ids that no method has, 502 for fields that are cut
            /// off, left over or malformed.
            pub fn decode(payload: &'a [u8], limits: &Limits) -> Result<Self, DecodeError> {
                let mut reader = Reader::new(payload, limits);
                let (class_id, method_id) = (reader.short()?, reader.short()?);
                let method = match (class_id, method_id) {
                    $(($class, $id) => Self::$name($name { $($field: reader.$domain()?,)* }),)*
                    _ => return Err(DecodeError::MethodUnknown { class_id, method_id }),
                };
                reader.finish()?;
                Ok(method)
            }

            /// Class id and method id, as error replies carry them.
            #[must_use]
            pub fn ids(&self) -> (u16, u16) {
                match self { $(Self::$name(_) => ($class, $id),)* }
            }

            /// The specification's name, such as `queue.declare-ok`.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self { $(Self::$name(_) => $spec,)* }
            }

            /// Whether content follows: publish, return, deliver, get-ok.
            #[must_use]
            pub fn has_content(&self) -> bool {
                matches!(self.ids(), (60, 40 | 50 | 60 | 71))
            }
        }

        impl EncodeMethod for Method<'_> {
            #[inline]
            fn encode(&self, out: &mut Vec<u8>) {
                match self { $(Self::$name(method) => method.encode(out),)* }
            }

            #[inline]
            fn bytes_hint(&self) -> usize {
                match self { $(Self::$name(method) => method.bytes_hint(),)* }
            }
        }
    };
}

methods! {
    /// Server to client: the conversation starts; what the server offers.
    10, 10, "connection.start" => ConnectionStart<'a> {
        version_major: octet, version_minor: octet, server_properties: table,
        mechanisms: longstr, locales: longstr,
    }
    /// Client to server: the chosen mechanism and its response.
    10, 11, "connection.start-ok" => ConnectionStartOk<'a> {
        client_properties: table, mechanism: shortstr, response: longstr, locale: shortstr,
    }
    /// Server to client: one more round of authentication.
    10, 20, "connection.secure" => ConnectionSecure<'a> { challenge: longstr }
    /// Client to server: the answer to a challenge.
    10, 21, "connection.secure-ok" => ConnectionSecureOk<'a> { response: longstr }
    /// Server to client: proposed limits; heartbeat in seconds.
    10, 30, "connection.tune" => ConnectionTune { channel_max: short, frame_max: long, heartbeat: short }
    /// Client to server: agreed limits.
    10, 31, "connection.tune-ok" => ConnectionTuneOk { channel_max: short, frame_max: long, heartbeat: short }
    /// Client to server: opens a virtual host.
    10, 40, "connection.open" => ConnectionOpen<'a> { virtual_host: shortstr, capabilities: shortstr, insist: bit }
    /// Server to client: the virtual host is open.
    10, 41, "connection.open-ok" => ConnectionOpenOk<'a> { known_hosts: shortstr }
    /// Either way: the connection ends, and why.
    10, 50, "connection.close" => ConnectionClose<'a> { reply_code: short, reply_text: shortstr, class_id: short, method_id: short }
    /// Either way: the end is acknowledged.
    10, 51, "connection.close-ok" => ConnectionCloseOk {}
    /// Server to client: publishers must wait, and why (RabbitMQ).
    10, 60, "connection.blocked" => ConnectionBlocked<'a> { reason: shortstr }
    /// Server to client: publishers may go on (RabbitMQ).
    10, 61, "connection.unblocked" => ConnectionUnblocked {}
    /// Client to server: a fresh credential (RabbitMQ).
    10, 70, "connection.update-secret" => ConnectionUpdateSecret<'a> { new_secret: longstr, reason: shortstr }
    /// Server to client: the credential was taken (RabbitMQ).
    10, 71, "connection.update-secret-ok" => ConnectionUpdateSecretOk {}

    /// Client to server: opens a channel.
    20, 10, "channel.open" => ChannelOpen<'a> { out_of_band: shortstr }
    /// Server to client: the channel is open.
    20, 11, "channel.open-ok" => ChannelOpenOk<'a> { channel_id: longstr }
    /// Either way: deliveries pause or go on.
    20, 20, "channel.flow" => ChannelFlow { active: bit }
    /// Either way: flow was set.
    20, 21, "channel.flow-ok" => ChannelFlowOk { active: bit }
    /// Either way: the channel ends, and why.
    20, 40, "channel.close" => ChannelClose<'a> { reply_code: short, reply_text: shortstr, class_id: short, method_id: short }
    /// Either way: the end is acknowledged.
    20, 41, "channel.close-ok" => ChannelCloseOk {}

    /// Client to server: asks for a ticket, as AMQP 0-8 clients do.
    30, 10, "access.request" => AccessRequest<'a> {
        realm: shortstr, exclusive: bit, passive: bit, active: bit, write: bit, read: bit,
    }
    /// Server to client: a ticket that means nothing.
    30, 11, "access.request-ok" => AccessRequestOk { ticket: short }

    /// Client to server: creates an exchange or checks one.
    40, 10, "exchange.declare" => ExchangeDeclare<'a> {
        ticket: short, exchange: shortstr, kind: shortstr, passive: bit, durable: bit,
        auto_delete: bit, internal: bit, nowait: bit, arguments: table,
    }
    /// Server to client: the exchange is there.
    40, 11, "exchange.declare-ok" => ExchangeDeclareOk {}
    /// Client to server: deletes an exchange.
    40, 20, "exchange.delete" => ExchangeDelete<'a> { ticket: short, exchange: shortstr, if_unused: bit, nowait: bit }
    /// Server to client: the exchange is gone.
    40, 21, "exchange.delete-ok" => ExchangeDeleteOk {}
    /// Client to server: binds an exchange to an exchange (RabbitMQ).
    40, 30, "exchange.bind" => ExchangeBind<'a> {
        ticket: short, destination: shortstr, source: shortstr, routing_key: shortstr,
        nowait: bit, arguments: table,
    }
    /// Server to client: the binding is there.
    40, 31, "exchange.bind-ok" => ExchangeBindOk {}
    /// Client to server: removes a binding between exchanges (RabbitMQ).
    40, 40, "exchange.unbind" => ExchangeUnbind<'a> {
        ticket: short, destination: shortstr, source: shortstr, routing_key: shortstr,
        nowait: bit, arguments: table,
    }
    /// Server to client: the binding is gone.
    40, 51, "exchange.unbind-ok" => ExchangeUnbindOk {}

    /// Client to server: creates a queue or checks one.
    50, 10, "queue.declare" => QueueDeclare<'a> {
        ticket: short, queue: shortstr, passive: bit, durable: bit, exclusive: bit,
        auto_delete: bit, nowait: bit, arguments: table,
    }
    /// Server to client: the queue is there, with its ready messages and consumers.
    50, 11, "queue.declare-ok" => QueueDeclareOk<'a> { queue: shortstr, message_count: long, consumer_count: long }
    /// Client to server: binds a queue to an exchange.
    50, 20, "queue.bind" => QueueBind<'a> {
        ticket: short, queue: shortstr, exchange: shortstr, routing_key: shortstr,
        nowait: bit, arguments: table,
    }
    /// Server to client: the binding is there.
    50, 21, "queue.bind-ok" => QueueBindOk {}
    /// Client to server: drops all ready messages.
    50, 30, "queue.purge" => QueuePurge<'a> { ticket: short, queue: shortstr, nowait: bit }
    /// Server to client: how many were dropped.
    50, 31, "queue.purge-ok" => QueuePurgeOk { message_count: long }
    /// Client to server: deletes a queue.
    50, 40, "queue.delete" => QueueDelete<'a> { ticket: short, queue: shortstr, if_unused: bit, if_empty: bit, nowait: bit }
    /// Server to client: how many messages went with it.
    50, 41, "queue.delete-ok" => QueueDeleteOk { message_count: long }
    /// Client to server: removes a binding.
    50, 50, "queue.unbind" => QueueUnbind<'a> {
        ticket: short, queue: shortstr, exchange: shortstr, routing_key: shortstr, arguments: table,
    }
    /// Server to client: the binding is gone.
    50, 51, "queue.unbind-ok" => QueueUnbindOk {}

    /// Client to server: limits deliveries that are not settled.
    60, 10, "basic.qos" => BasicQos { prefetch_size: long, prefetch_count: short, global: bit }
    /// Server to client: the limit holds.
    60, 11, "basic.qos-ok" => BasicQosOk {}
    /// Client to server: starts a consumer.
    60, 20, "basic.consume" => BasicConsume<'a> {
        ticket: short, queue: shortstr, consumer_tag: shortstr, no_local: bit, no_ack: bit,
        exclusive: bit, nowait: bit, arguments: table,
    }
    /// Server to client: the consumer's tag.
    60, 21, "basic.consume-ok" => BasicConsumeOk<'a> { consumer_tag: shortstr }
    /// Either way: a consumer ends.
    60, 30, "basic.cancel" => BasicCancel<'a> { consumer_tag: shortstr, nowait: bit }
    /// Either way: the consumer has ended.
    60, 31, "basic.cancel-ok" => BasicCancelOk<'a> { consumer_tag: shortstr }
    /// Client to server: a message; content follows.
    60, 40, "basic.publish" => BasicPublish<'a> {
        ticket: short, exchange: shortstr, routing_key: shortstr, mandatory: bit, immediate: bit,
    }
    /// Server to client: a message that could not be routed; content follows.
    60, 50, "basic.return" => BasicReturn<'a> { reply_code: short, reply_text: shortstr, exchange: shortstr, routing_key: shortstr }
    /// Server to client: a message for a consumer; content follows.
    60, 60, "basic.deliver" => BasicDeliver<'a> {
        consumer_tag: shortstr, delivery_tag: longlong, redelivered: bit, exchange: shortstr,
        routing_key: shortstr,
    }
    /// Client to server: asks for one message.
    60, 70, "basic.get" => BasicGet<'a> { ticket: short, queue: shortstr, no_ack: bit }
    /// Server to client: that message; content follows.
    60, 71, "basic.get-ok" => BasicGetOk<'a> {
        delivery_tag: longlong, redelivered: bit, exchange: shortstr, routing_key: shortstr,
        message_count: long,
    }
    /// Server to client: there is none.
    60, 72, "basic.get-empty" => BasicGetEmpty<'a> { cluster_id: shortstr }
    /// Client to server: deliveries are done. Server to client: publishes are confirmed.
    60, 80, "basic.ack" => BasicAck { delivery_tag: longlong, multiple: bit }
    /// Client to server: a delivery is refused.
    60, 90, "basic.reject" => BasicReject { delivery_tag: longlong, requeue: bit }
    /// Client to server: as recover, without an answer; deprecated.
    60, 100, "basic.recover-async" => BasicRecoverAsync { requeue: bit }
    /// Client to server: redelivers what is not settled.
    60, 110, "basic.recover" => BasicRecover { requeue: bit }
    /// Server to client: recovery is under way.
    60, 111, "basic.recover-ok" => BasicRecoverOk {}
    /// Client to server: deliveries are refused. Server to client: publishes failed (RabbitMQ).
    60, 120, "basic.nack" => BasicNack { delivery_tag: longlong, multiple: bit, requeue: bit }

    /// Client to server: publishes on this channel are to be confirmed (RabbitMQ).
    85, 10, "confirm.select" => ConfirmSelect { nowait: bit }
    /// Server to client: they will be.
    85, 11, "confirm.select-ok" => ConfirmSelectOk {}

    /// Client to server: the channel becomes transactional.
    90, 10, "tx.select" => TxSelect {}
    /// Server to client: it is.
    90, 11, "tx.select-ok" => TxSelectOk {}
    /// Client to server: commits publishes and acks.
    90, 20, "tx.commit" => TxCommit {}
    /// Server to client: they are committed.
    90, 21, "tx.commit-ok" => TxCommitOk {}
    /// Client to server: drops them.
    90, 30, "tx.rollback" => TxRollback {}
    /// Server to client: they are dropped.
    90, 31, "tx.rollback-ok" => TxRollbackOk {}
}
