//! What goes to the client without an answer: deliveries, returns, cancels; and
//! the consumers that deliveries belong to.

use bytes::Bytes;
use leveret_protocol::content::{self, body_frames};
use leveret_protocol::frame::FRAME_END;
use leveret_protocol::method::{BasicCancel, BasicGetOk, BasicReturn, EncodeMethod};
use leveret_protocol::{FrameKind, ReplyCode, frame};

use crate::model::{Body, ConsumerTag, Message, QueueName};

use super::content::Publish;
use super::{Consumer, Held, Output, Session};

/// A message for a consumer.
#[derive(Clone, Copy, Debug)]
pub struct Handed<'a> {
    /// What it is settled by, for a consumer that acks.
    pub slot: Option<u32>,
    /// What.
    pub message: &'a Message,
    /// Whether a client may have seen it.
    pub redelivered: bool,
}

/// Where deliveries stand with their client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Delivered {
    /// They are on their way and will be settled; the queue's number.
    Held(u32),
    /// They are on their way and nothing more will be heard of them.
    Done,
    /// Their consumer is gone: the client never saw them.
    Undeliverable,
}

impl Session {
    /// Adds a consumer to an open channel; its serial, which is never reused.
    /// An empty tag is for the caller to fill before.
    pub fn add_consumer(
        &mut self,
        channel: u16,
        tag: &ConsumerTag,
        queue: u32,
        no_ack: bool,
    ) -> u32 {
        let serial = self.next_consumer_serial;
        self.next_consumer_serial += 1;
        if let Some(channel_key) = self.channel_key(channel) {
            let consumer = Consumer {
                channel,
                channel_key,
                tag: tag.clone(),
                queue,
                no_ack,
            };
            self.consumers.insert(serial, consumer);
        }
        serial
    }

    /// Forgets a consumer; what it was sent stays unsettled on the channel.
    pub fn remove_consumer(&mut self, serial: u32) {
        self.consumers.remove(&serial);
    }

    /// The broker ended a consumer, because its queue is gone. Clients that
    /// understand it are told.
    pub fn consumer_cancelled(&mut self, serial: u32) {
        if let Some(consumer) = self.consumers.remove(&serial)
            && self.client.consumer_cancel_notify
        {
            let cancel = BasicCancel {
                consumer_tag: consumer.tag.as_str(),
                nowait: true,
            };
            self.output.method(consumer.channel, &cancel);
        }
    }

    /// Sends messages to a consumer.
    pub fn deliver<'a>(
        &mut self,
        serial: u32,
        messages: impl IntoIterator<Item = Handed<'a>>,
    ) -> Delivered {
        let Some(consumer) = self.consumers.get(&serial) else {
            return Delivered::Undeliverable;
        };
        let Some(channel) = self
            .channels
            .get_mut(consumer.channel_key)
            .filter(|channel| channel.is_open())
        else {
            return Delivered::Undeliverable;
        };
        for one in messages {
            let held = match one.slot {
                Some(slot) if !consumer.no_ack => Some(Held {
                    queue: consumer.queue,
                    slot,
                }),
                _ => None,
            };
            let tag = channel.deliveries.next_tag(held);
            write_deliver(
                &mut self.output,
                consumer.channel,
                consumer.tag.as_str(),
                tag.0,
                one.redelivered,
                one.message,
                self.frame_max,
            );
        }
        if consumer.no_ack {
            Delivered::Done
        } else {
            Delivered::Held(consumer.queue)
        }
    }

    /// Answers a `basic.get` with a message.
    pub fn get_ok(
        &mut self,
        channel: u16,
        held: Option<Held>,
        message: &Message,
        redelivered: bool,
        ready_left: u64,
    ) {
        let frame_max = self.frame_max;
        let Some(open) = self.open_channel(channel) else {
            return;
        };
        let get_ok = BasicGetOk {
            delivery_tag: open.deliveries.next_tag(held).0,
            redelivered,
            exchange: message.exchange(),
            routing_key: message.routing_key(),
            message_count: u32::try_from(ready_left).unwrap_or(u32::MAX),
        };
        write_content(
            &mut self.output,
            channel,
            &get_ok,
            message.header(),
            message.body(),
            frame_max,
        );
    }

    /// Gives an unroutable mandatory message back.
    pub fn return_unroutable(&mut self, publish: &Publish<'_>) {
        let method = BasicReturn {
            reply_code: ReplyCode::NoRoute.code(),
            reply_text: ReplyCode::NoRoute.name(),
            exchange: publish.exchange(),
            routing_key: publish.routing_key(),
        };
        let body = publish.body.as_body();
        write_content(
            &mut self.output,
            publish.channel,
            &method,
            &publish.header,
            body,
            self.frame_max,
        );
    }

    /// The queue that an empty name stands for on this channel.
    pub fn last_queue(&mut self, channel: u16) -> Option<QueueName> {
        self.open_channel(channel)?.last_queue.clone()
    }

    /// Remembers the queue last declared on a channel.
    pub fn set_last_queue(&mut self, channel: u16, queue: QueueName) {
        if let Some(channel) = self.open_channel(channel) {
            channel.last_queue = Some(queue);
        }
    }
}

fn write_deliver(
    output: &mut Output,
    channel: u16,
    consumer_tag: &str,
    delivery_tag: u64,
    redelivered: bool,
    message: &Message,
    frame_max: u32,
) {
    match message.body() {
        Body::Slice(body) => content::encode_deliver(
            output.buffer(),
            channel,
            consumer_tag,
            delivery_tag,
            redelivered,
            message.envelope(),
            message.header(),
            body,
            frame_max,
        ),
        Body::Chunks(chunks) => {
            content::encode_deliver_head(
                output.buffer(),
                channel,
                consumer_tag,
                delivery_tag,
                redelivered,
                message.envelope(),
                message.header(),
            );
            write_shared_body(output, channel, chunks, frame_max);
        }
    }
}

fn write_content(
    output: &mut Output,
    channel: u16,
    method: &impl EncodeMethod,
    header: &[u8],
    body: Body<'_>,
    frame_max: u32,
) {
    output.method(channel, method);
    frame::encode(output.buffer(), FrameKind::Header, channel, header);
    match body {
        Body::Slice(body) => {
            for piece in body_frames(body.len(), frame_max) {
                output.extend(&piece.header(channel));
                output.extend(body.get(piece.range()).unwrap_or_default());
                output.extend(&[FRAME_END]);
            }
        }
        Body::Chunks(chunks) => write_shared_body(output, channel, chunks, frame_max),
    }
}

/// Frames a body for this client's frame size, whatever the publisher's was.
fn write_shared_body(output: &mut Output, channel: u16, chunks: &[Bytes], frame_max: u32) {
    let body_bytes = chunks.iter().map(Bytes::len).sum();
    let mut chunks = chunks.iter();
    let mut chunk = Bytes::new();
    for piece in body_frames(body_bytes, frame_max) {
        output.extend(&piece.header(channel));
        let mut missing = piece.bytes;
        while missing > 0 {
            if chunk.is_empty() {
                match chunks.next() {
                    Some(next) => chunk = next.clone(),
                    None => break,
                }
            }
            let part = chunk.split_to(missing.min(chunk.len()));
            missing -= part.len();
            output.share(part);
        }
        output.extend(&[FRAME_END]);
    }
}
