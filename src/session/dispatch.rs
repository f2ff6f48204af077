//! Takes frames off the read buffer and decides what each one means here.

use bytes::Bytes;
use leveret_protocol::content::PublishScan;
use leveret_protocol::method::{
    AccessRequestOk, ChannelFlowOk, ChannelOpenOk, ConfirmSelectOk, ConnectionCloseOk,
    ConnectionUpdateSecretOk, TxRollbackOk, TxSelectOk,
};
use leveret_protocol::{Frame, FrameKind, Method, ReplyCode, content, frame};

use crate::model::{DeliveryTag, PublishSeqNo};

use super::channel::{Channel, Mode};
use super::close::{Cause, PUBLISH_IDS};
use super::confirms::Confirms;
use super::content::{Content, Publish, Start, whole_content};
use super::misuse::{method_ids, not_transactional};
use super::request::{Settlement, Settling};
use super::transaction::Transaction;
use super::{BodyIn, Phase, Request, Session};

impl Session {
    /// Reads on in `input` from `offset`, up to the next request; `None` if
    /// more octets or an answer are needed first. What lies before `offset`
    /// then is done with.
    pub fn next<'a>(&mut self, input: &'a Bytes, offset: &mut usize) -> Option<Request<'a>> {
        loop {
            match self.phase {
                Phase::Releasing(_) => return Some(Request::CloseConnection),
                Phase::LoggingIn | Phase::OpeningVhost | Phase::Closed => return None,
                Phase::Header => {
                    let before = *offset;
                    self.protocol_header(input, offset);
                    if *offset == before {
                        return None;
                    }
                    continue;
                }
                Phase::Start | Phase::Tune | Phase::Open | Phase::Running | Phase::Closing => {}
            }
            if let Some(channel) = self.releasing.pop() {
                return Some(Request::CloseChannel(channel));
            }
            let rest = input.get(*offset..).unwrap_or_default();
            let (frame, size) = match frame::decode(rest, self.limits.frame_max) {
                Ok(Some(decoded)) => decoded,
                Ok(None) => return None,
                Err(error) => {
                    self.fail_frame(&error);
                    continue;
                }
            };
            *offset += size;
            let request = match self.phase {
                Phase::Running if frame.channel != 0 => self.channel_frame(frame, input, offset),
                _ => self.connection_frame(frame),
            };
            if request.is_some() {
                return request;
            }
        }
    }

    /// Takes the next frames if they are a whole publish of the usual kind; what
    /// it returns then, [`Session::next`] would have. `None` leaves all others to
    /// that.
    // Nearly all that a broker reads comes this way. It is inlined so that the
    // message is never put together in memory, only to be taken apart again.
    #[inline(always)]
    pub fn next_publish<'a>(
        &mut self,
        input: &'a Bytes,
        offset: &mut usize,
    ) -> Option<Publish<'a>> {
        if self.phase != Phase::Running || !self.releasing.is_empty() {
            return None;
        }
        let rest = input.get(*offset..)?;
        let (frame, method_size) = frame::decode(rest, self.limits.frame_max).ok()??;
        if frame.kind != FrameKind::Method || frame.channel == 0 {
            return None;
        }
        let method = content::scan_publish(frame.payload)?;
        let key = self.channel_key(frame.channel)?;
        let channel = self.channels.get_mut(key)?;
        if method.immediate || !channel.is_open() || !matches!(channel.content, Content::Idle) {
            return None;
        }
        let (header, facts, body, size) = whole_content(
            rest.get(method_size..)?,
            frame.channel,
            self.limits.frame_max,
            self.settings.message_bytes_max,
        )?;
        let confirm = match &mut channel.mode {
            Mode::Plain => PublishSeqNo(0),
            Mode::Confirm(confirms) => {
                if confirms.hand_over() {
                    self.unconfirmed.push(key);
                }
                confirms.last()
            }
            Mode::Transaction(_) => return None,
        };
        *offset += method_size + size;
        Some(Publish {
            channel: frame.channel,
            mandatory: method.mandatory,
            immediate: false,
            persistent: facts.persistent,
            notable: facts.notable,
            confirm,
            envelope: method.envelope.into(),
            header: header.into(),
            body: BodyIn::Slice(body.into()),
        })
    }

    /// Keeps a message of a transactional channel for its commit.
    pub fn stage(&mut self, publish: Publish<'_>) {
        if let Some(Channel {
            mode: Mode::Transaction(transaction),
            ..
        }) = self.open_channel(publish.channel)
        {
            transaction.stage(publish);
        }
    }

    /// A frame on channel 0, or on any before the connection runs.
    fn connection_frame(&mut self, frame: Frame<'_>) -> Option<Request<'static>> {
        let unexpected = |text: &str| Cause::new(ReplyCode::UnexpectedFrame, text, (0, 0));
        match frame.kind {
            _ if self.phase == Phase::Closing => {
                self.frame_while_closing(frame);
                None
            }
            FrameKind::Heartbeat if frame.channel == 0 => None,
            FrameKind::Heartbeat => {
                self.fail(unexpected("heartbeat frame on a channel other than 0"));
                None
            }
            FrameKind::Method if frame.channel == 0 => {
                let method = match Method::decode(frame.payload, &self.limits) {
                    Ok(method) => method,
                    Err(error) => {
                        self.fail_decoding(&error, frame.payload);
                        return None;
                    }
                };
                if self.phase == Phase::Running {
                    self.connection_method(method)
                } else {
                    self.handshake_method(method)
                }
            }
            _ => {
                self.fail(unexpected("expected method frame on channel 0"));
                None
            }
        }
    }

    fn frame_while_closing(&mut self, frame: Frame<'_>) {
        if frame.kind != FrameKind::Method || frame.channel != 0 {
            return;
        }
        match Method::decode(frame.payload, &self.limits) {
            Ok(Method::ConnectionCloseOk(_)) => self.phase = Phase::Closed,
            Ok(Method::ConnectionClose(_)) => self.send(0, &ConnectionCloseOk {}),
            _ => {}
        }
    }

    fn connection_method(&mut self, method: Method<'_>) -> Option<Request<'static>> {
        match method {
            Method::ConnectionClose(close) => self.client_closes(&close),
            Method::ConnectionUpdateSecret(_) => {
                // A password does not expire, so there is nothing to renew; as
                // with RabbitMQ's internal users, the answer is yes.
                self.send(0, &ConnectionUpdateSecretOk {});
            }
            method => {
                let text = "unexpected method in connection state running";
                self.fail(Cause::new(ReplyCode::ChannelError, text, method.ids()));
            }
        }
        None
    }

    fn channel_frame<'a>(
        &mut self,
        frame: Frame<'a>,
        input: &'a Bytes,
        offset: &mut usize,
    ) -> Option<Request<'a>> {
        let number = frame.channel;
        let key = match self.channel_key(number) {
            Some(key) => key,
            None => {
                self.open(frame);
                return None;
            }
        };
        let channel = self.channels.get_mut(key)?;
        if !channel.is_open() {
            self.frame_on_closing_channel(frame);
            return None;
        }
        match (
            frame.kind,
            std::mem::replace(&mut channel.content, Content::Idle),
        ) {
            (FrameKind::Method, Content::Idle) => {
                if let Some(publish) = content::scan_publish(frame.payload) {
                    return self.publish(key, &publish, number, input, offset);
                }
                let method = match Method::decode(frame.payload, &self.limits) {
                    Ok(method) => method,
                    Err(error) => {
                        self.fail_decoding(&error, frame.payload);
                        return None;
                    }
                };
                self.channel_method(number, key, method)
            }
            (FrameKind::Header, Content::Header(start)) => {
                match start.header(number, frame.payload, self.settings.message_bytes_max) {
                    Ok((content, publish)) => {
                        channel.content = content;
                        self.published(key, publish?)
                    }
                    Err(error) => {
                        self.fail_content(number, &error);
                        None
                    }
                }
            }
            (FrameKind::Body, Content::Body(start, mut gathering)) => {
                match gathering.body(frame.payload, input) {
                    Ok(true) => self.published(key, gathering.finish(number, start)),
                    Ok(false) => {
                        channel.content = Content::Body(start, gathering);
                        None
                    }
                    Err(error) => {
                        self.fail_content(number, &error);
                        None
                    }
                }
            }
            (kind, content) => {
                self.fail_order(kind, &content);
                None
            }
        }
    }

    fn publish<'a>(
        &mut self,
        key: usize,
        method: &PublishScan<'a>,
        number: u16,
        input: &'a Bytes,
        offset: &mut usize,
    ) -> Option<Request<'a>> {
        let rest = input.get(*offset..).unwrap_or_default();
        let whole = whole_content(
            rest,
            number,
            self.limits.frame_max,
            self.settings.message_bytes_max,
        );
        let Some((header, facts, body, size)) = whole else {
            self.channels.get_mut(key)?.content = Content::Header(Start::new(method));
            return None;
        };
        *offset += size;
        self.published(
            key,
            Publish {
                channel: number,
                mandatory: method.mandatory,
                immediate: method.immediate,
                persistent: facts.persistent,
                notable: facts.notable,
                confirm: PublishSeqNo(0),
                envelope: method.envelope.into(),
                header: header.into(),
                body: BodyIn::Slice(body.into()),
            },
        )
    }

    /// A message is complete.
    fn published<'a>(&mut self, key: usize, mut publish: Publish<'a>) -> Option<Request<'a>> {
        if publish.immediate {
            self.fail(Cause::new(
                ReplyCode::NotImplemented,
                "immediate=true",
                PUBLISH_IDS,
            ));
            return None;
        }
        match &mut self.channels.get_mut(key)?.mode {
            Mode::Plain => {}
            Mode::Confirm(confirms) => {
                if confirms.hand_over() {
                    self.unconfirmed.push(key);
                }
                publish.confirm = confirms.last();
            }
            Mode::Transaction(_) => return Some(Request::Stage(publish)),
        }
        Some(Request::Publish(publish))
    }

    /// The first frame on a number that is not in use.
    fn open(&mut self, frame: Frame<'_>) {
        let is_open = frame.kind == FrameKind::Method
            && matches!(
                Method::decode(frame.payload, &self.limits),
                Ok(Method::ChannelOpen(_))
            );
        if frame.kind == FrameKind::Heartbeat {
            let text = "heartbeat frame on a channel other than 0";
            self.fail(Cause::new(ReplyCode::UnexpectedFrame, text, (0, 0)));
        } else if !is_open {
            let ids = method_ids(frame);
            self.fail(Cause::new(
                ReplyCode::ChannelError,
                "expected 'channel.open'",
                ids,
            ));
        } else if self.channels.len() >= usize::from(self.channel_max) {
            let maximum = self.channel_max;
            let text = format!(
                "number of channels opened ({maximum}) has reached the negotiated channel_max ({maximum})"
            );
            self.fail(Cause::new(ReplyCode::NotAllowed, text, method_ids(frame)));
        } else {
            let key = self.channels.insert(Channel::new(frame.channel));
            self.channel_keys.insert(frame.channel, key);
            self.opened.push(frame.channel);
            self.send(frame.channel, &ChannelOpenOk { channel_id: b"" });
        }
    }

    fn frame_on_closing_channel(&mut self, frame: Frame<'_>) {
        if frame.kind != FrameKind::Method {
            return;
        }
        match Method::decode(frame.payload, &self.limits) {
            Ok(Method::ChannelCloseOk(_)) => self.channel_close_ok(frame.channel),
            Ok(Method::ChannelClose(_)) => self.client_closes_channel(frame.channel),
            _ => {}
        }
    }

    fn channel_method<'a>(
        &mut self,
        number: u16,
        key: usize,
        method: Method<'a>,
    ) -> Option<Request<'a>> {
        let ids = method.ids();
        match method {
            Method::BasicAck(ack) => {
                self.settle(
                    key,
                    DeliveryTag(ack.delivery_tag),
                    ack.multiple,
                    Settling::Ack,
                    ids,
                );
            }
            Method::BasicNack(nack) => {
                let settling = refused(nack.requeue);
                self.settle(
                    key,
                    DeliveryTag(nack.delivery_tag),
                    nack.multiple,
                    settling,
                    ids,
                );
            }
            Method::BasicReject(reject) => {
                let settling = refused(reject.requeue);
                self.settle(key, DeliveryTag(reject.delivery_tag), false, settling, ids);
            }
            Method::ChannelClose(_) => self.client_closes_channel(number),
            Method::ChannelOpen(_) => {
                self.fail(Cause::new(
                    ReplyCode::ChannelError,
                    "second 'channel.open' seen",
                    ids,
                ));
            }
            Method::ChannelFlow(flow) if flow.active => {
                self.send(number, &ChannelFlowOk { active: true });
            }
            Method::ChannelFlow(_) => {
                self.fail(Cause::new(ReplyCode::NotImplemented, "active=false", ids));
            }
            Method::AccessRequest(_) => self.send(number, &AccessRequestOk { ticket: 1 }),
            Method::ConfirmSelect(select) => self.confirm_select(number, key, select.nowait, ids),
            Method::TxSelect(_) => self.tx_select(number, key, ids),
            Method::TxCommit(_) => {
                if let Some(Channel {
                    mode: Mode::Transaction(transaction),
                    ..
                }) = self.channels.get_mut(key)
                {
                    let publishes = transaction.commit(&mut self.settlements);
                    return Some(Request::Commit {
                        channel: number,
                        publishes,
                    });
                }
                self.fail_on(number, not_transactional(ids));
            }
            Method::TxRollback(_) => match self.channels.get_mut(key) {
                Some(Channel {
                    mode: Mode::Transaction(transaction),
                    deliveries,
                    ..
                }) => {
                    transaction.rollback(deliveries);
                    self.send(number, &TxRollbackOk {});
                }
                _ => self.fail_on(number, not_transactional(ids)),
            },
            method @ (Method::ExchangeDeclare(_)
            | Method::ExchangeDelete(_)
            | Method::ExchangeBind(_)
            | Method::ExchangeUnbind(_)
            | Method::QueueDeclare(_)
            | Method::QueueBind(_)
            | Method::QueueUnbind(_)
            | Method::QueuePurge(_)
            | Method::QueueDelete(_)
            | Method::BasicQos(_)
            | Method::BasicConsume(_)
            | Method::BasicCancel(_)
            | Method::BasicGet(_)
            | Method::BasicRecover(_)
            | Method::BasicRecoverAsync(_)) => {
                return Some(Request::Call {
                    channel: number,
                    method,
                });
            }
            // Answers to what the server may send with nowait.
            Method::BasicCancelOk(_) => {}
            _ => self.fail(Cause::new(
                ReplyCode::CommandInvalid,
                "unimplemented method",
                ids,
            )),
        }
        None
    }

    fn settle(
        &mut self,
        key: usize,
        tag: DeliveryTag,
        multiple: bool,
        settling: Settling,
        ids: (u16, u16),
    ) {
        let Some(channel) = self.channels.get_mut(key) else {
            return;
        };
        let settlements = &mut self.settlements;
        let known = match &mut channel.mode {
            Mode::Transaction(transaction) => {
                transaction.settle(&mut channel.deliveries, tag, multiple, settling)
            }
            Mode::Plain | Mode::Confirm(_) => channel.deliveries.settle(tag, multiple, |held| {
                settlements.push(Settlement {
                    queue: held.queue,
                    slot: held.slot,
                    settling,
                });
            }),
        };
        if !known {
            let number = channel.number;
            let text = format!("unknown delivery tag {}", tag.0);
            self.fail_on(number, Cause::new(ReplyCode::PreconditionFailed, text, ids));
        }
    }

    fn confirm_select(&mut self, number: u16, key: usize, nowait: bool, ids: (u16, u16)) {
        let Some(channel) = self.channels.get_mut(key) else {
            return;
        };
        match channel.mode {
            Mode::Transaction(_) => {
                let text = "cannot switch from tx to confirm mode";
                self.fail_on(number, Cause::new(ReplyCode::PreconditionFailed, text, ids));
                return;
            }
            Mode::Plain => channel.mode = Mode::Confirm(Confirms::default()),
            Mode::Confirm(_) => {}
        }
        if !nowait {
            self.send(number, &ConfirmSelectOk {});
        }
    }

    fn tx_select(&mut self, number: u16, key: usize, ids: (u16, u16)) {
        let Some(channel) = self.channels.get_mut(key) else {
            return;
        };
        match channel.mode {
            Mode::Confirm(_) => {
                let text = "cannot switch from confirm to tx mode";
                self.fail_on(number, Cause::new(ReplyCode::PreconditionFailed, text, ids));
                return;
            }
            Mode::Plain => channel.mode = Mode::Transaction(Transaction::default()),
            Mode::Transaction(_) => {}
        }
        self.send(number, &TxSelectOk {});
    }
}

fn refused(requeue: bool) -> Settling {
    if requeue {
        Settling::Requeue
    } else {
        Settling::Discard
    }
}
