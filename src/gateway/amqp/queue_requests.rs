//! Requests about queues and consumers.

use leveret_protocol::Method;
use leveret_protocol::method::{
    BasicCancel, BasicCancelOk, BasicConsume, BasicConsumeOk, BasicGet, BasicGetEmpty, BasicQos,
    BasicQosOk, BasicRecoverOk, QueueDeclare, QueueDeclareOk, QueueDelete, QueueDeleteOk,
    QueuePurgeOk,
};

use crate::broker::{self, QueueRequest, QueueStatus, REPLY_TO};
use crate::model::{BrokerError, ConsumerKey, ConsumerTag, QueueName};
use crate::policy;
use crate::queue::ConsumerSpec;
use crate::session::Held;

use super::channels::{Attached, ChannelSide, ReplyConsumer};
use super::connection::Connection;

impl Connection {
    pub(super) fn queue_call(
        &mut self,
        channel: u16,
        method: Method<'_>,
    ) -> Result<(), BrokerError> {
        match method {
            Method::QueueDeclare(declare) => self.declare_queue(channel, declare),
            Method::QueueDelete(delete) => self.delete_queue(channel, &delete),
            Method::QueuePurge(purge) => {
                let name = self.queue_name(channel, purge.queue)?;
                let open = self.opened()?;
                let host = open.vhost.queue(&name, &open.requester)?;
                let count = host.purge(self.node.now(), &mut self.wakes);
                self.answer(
                    channel,
                    purge.nowait,
                    &QueuePurgeOk {
                        message_count: on_wire(count),
                    },
                );
                Ok(())
            }
            Method::BasicQos(qos) => self.set_qos(channel, &qos),
            Method::BasicConsume(consume) => self.consume(channel, consume),
            Method::BasicCancel(cancel) => {
                self.cancel(channel, &cancel);
                Ok(())
            }
            Method::BasicGet(get) => self.get(channel, &get),
            Method::BasicRecover(recover) => {
                self.recover(channel, recover.requeue)?;
                self.session.reply(channel, &BasicRecoverOk {});
                Ok(())
            }
            Method::BasicRecoverAsync(recover) => self.recover(channel, recover.requeue),
            method => {
                let text = format!("{} reached the broker by mistake", method.name());
                Err(BrokerError::Internal(text))
            }
        }
    }

    fn declare_queue(
        &mut self,
        channel: u16,
        declare: QueueDeclare<'_>,
    ) -> Result<(), BrokerError> {
        let status = if declare.queue.starts_with(REPLY_TO) {
            self.declare_reply_queue(&declare)?
        } else if declare.passive {
            let name = self.queue_name(channel, declare.queue)?;
            let open = self.opened()?;
            open.vhost.check_queue(&name, &open.requester)?
        } else {
            let open = self.opened()?;
            let request = QueueRequest {
                name: declare.queue,
                durable: declare.durable,
                exclusive: declare.exclusive,
                auto_delete: declare.auto_delete,
                arguments: declare.arguments,
            };
            open.vhost.declare_queue(request, &open.requester)?
        };
        let declare_ok = QueueDeclareOk {
            queue: status.name.as_str(),
            message_count: on_wire(status.ready),
            consumer_count: status.consumers,
        };
        self.answer(channel, declare.nowait, &declare_ok);
        self.session.set_last_queue(channel, status.name);
        Ok(())
    }

    /// The pseudo-queue can be declared; the key of an answer only while
    /// somebody waits for it, which is how a server checks that.
    fn declare_reply_queue(&self, declare: &QueueDeclare<'_>) -> Result<QueueStatus, BrokerError> {
        let name = QueueName::from(declare.queue);
        if declare.queue != REPLY_TO && self.node.reply_targets().find(declare.queue).is_none() {
            return Err(BrokerError::no_queue(&name, self.opened()?.vhost.name()));
        }
        Ok(QueueStatus {
            name,
            ready: 0,
            consumers: 1,
        })
    }

    fn delete_queue(&mut self, channel: u16, delete: &QueueDelete<'_>) -> Result<(), BrokerError> {
        let name = self.queue_name(channel, delete.queue)?;
        let open = self.open.as_ref().ok_or(BrokerError::NoPreviousQueue)?;
        let count = open.vhost.delete_queue(
            &name,
            delete.if_unused,
            delete.if_empty,
            &open.requester,
            &mut self.wakes,
        )?;
        self.answer(
            channel,
            delete.nowait,
            &QueueDeleteOk {
                message_count: on_wire(count),
            },
        );
        Ok(())
    }

    fn set_qos(&mut self, channel: u16, qos: &BasicQos) -> Result<(), BrokerError> {
        if qos.prefetch_size != 0 {
            let text = format!("prefetch_size!=0 ({})", qos.prefetch_size);
            return Err(BrokerError::NotImplemented(text));
        }
        let unsettled_max = self.unsettled_max;
        let side = self.channel_side(channel);
        if qos.global {
            let asked = u32::from(qos.prefetch_count);
            side.credit.set_limit(match (asked, unsettled_max) {
                (0, limit) | (limit, 0) => limit,
                (asked, limit) => asked.min(limit),
            });
            self.resume_channel(channel);
        } else {
            side.prefetch = (qos.prefetch_count > 0).then_some(qos.prefetch_count.into());
        }
        self.session.reply(channel, &BasicQosOk {});
        Ok(())
    }

    fn channel_side(&mut self, channel: u16) -> &mut ChannelSide {
        let unsettled_max = self.unsettled_max;
        self.channels.entry(channel).or_insert_with(|| {
            let side = ChannelSide::default();
            side.credit.set_limit(unsettled_max);
            side
        })
    }

    fn consume(&mut self, channel: u16, consume: BasicConsume<'_>) -> Result<(), BrokerError> {
        if consume.queue == REPLY_TO {
            return self.consume_replies(channel, &consume);
        }
        let name = self.queue_name(channel, consume.queue)?;
        let tag = self.new_consumer_tag(channel, consume.consumer_tag)?;
        let open = self.opened()?;
        let host = open.vhost.queue(&name, &open.requester)?;
        let priority = policy::consumer_arguments(&name, open.vhost.name(), &consume.arguments)?;

        let side = self.channel_side(channel);
        let (prefetch, credit) = (side.prefetch, std::sync::Arc::clone(&side.credit));
        let queue = self.attachments.attach(&host);
        let serial = self
            .session
            .add_consumer(channel, &tag, queue, consume.no_ack);
        let spec = ConsumerSpec {
            key: ConsumerKey {
                connection: self.outbox.connection(),
                serial,
            },
            no_ack: consume.no_ack,
            exclusive: consume.exclusive,
            priority,
            prefetch: if consume.no_ack { None } else { prefetch },
            channel_credit: (!consume.no_ack).then_some(credit),
            arguments: std::sync::Arc::new(consume.arguments),
        };
        let told = spec.clone();
        let slot = match host.consume(spec, &self.outbox, self.node.now(), &mut self.wakes) {
            Ok(slot) => slot,
            Err(error) => {
                self.session.remove_consumer(serial);
                self.attachments.release(queue, 1);
                return Err(error);
            }
        };
        self.consumers.insert(
            serial,
            Attached {
                queue,
                slot,
                channel,
            },
        );
        if let Some(side) = self.channels.get_mut(&channel) {
            side.consumers.insert(tag.clone(), serial);
        }
        self.tell_consumer(serial, &told);
        self.answer(
            channel,
            consume.nowait,
            &BasicConsumeOk {
                consumer_tag: tag.as_str(),
            },
        );
        Ok(())
    }

    fn consume_replies(
        &mut self,
        channel: u16,
        consume: &BasicConsume<'_>,
    ) -> Result<(), BrokerError> {
        let refuse = |why: &str| Err(BrokerError::Precondition(why.to_owned()));
        if !consume.no_ack {
            return refuse("reply consumer cannot acknowledge");
        }
        let tag = self.new_consumer_tag(channel, consume.consumer_tag)?;
        if self.channel_side(channel).reply_to.is_some() {
            return refuse("reply consumer already set");
        }
        let serial = self.session.add_consumer(channel, &tag, NO_QUEUE, true);
        let key = self.node.reply_targets().add(&self.outbox, serial);
        let reply_to = ReplyConsumer {
            tag: tag.clone(),
            serial,
            key,
        };
        self.channel_side(channel).reply_to = Some(reply_to);
        self.answer(
            channel,
            consume.nowait,
            &BasicConsumeOk {
                consumer_tag: tag.as_str(),
            },
        );
        Ok(())
    }

    fn new_consumer_tag(&mut self, channel: u16, tag: &str) -> Result<ConsumerTag, BrokerError> {
        if tag.is_empty() {
            return Ok(broker::consumer_tag());
        }
        let tag = ConsumerTag::from(tag);
        let in_use = self.channels.get(&channel).is_some_and(|side| {
            side.consumers.contains_key(&tag)
                || side
                    .reply_to
                    .as_ref()
                    .is_some_and(|reply_to| reply_to.tag == tag)
        });
        if in_use {
            return Err(BrokerError::NotAllowed(format!(
                "attempt to reuse consumer tag '{tag}'"
            )));
        }
        Ok(tag)
    }

    /// An unknown tag is fine: its queue may have gone a moment ago.
    fn cancel(&mut self, channel: u16, cancel: &BasicCancel<'_>) {
        if let Some(side) = self.channels.get_mut(&channel) {
            match side.reply_to.take() {
                Some(reply_to) if reply_to.tag.as_str() == cancel.consumer_tag => {
                    self.node.reply_targets().remove(&reply_to.key);
                    self.session.remove_consumer(reply_to.serial);
                }
                other => {
                    side.reply_to = other;
                    if let Some(serial) = side.consumers.get(cancel.consumer_tag).copied() {
                        self.end_consumer(serial);
                    }
                }
            }
        }
        self.answer(
            channel,
            cancel.nowait,
            &BasicCancelOk {
                consumer_tag: cancel.consumer_tag,
            },
        );
    }

    fn get(&mut self, channel: u16, get: &BasicGet<'_>) -> Result<(), BrokerError> {
        let name = self.queue_name(channel, get.queue)?;
        let open = self.opened()?;
        let host = open.vhost.queue(&name, &open.requester)?;
        let Some(got) = host.get(get.no_ack, self.node.now(), &mut self.wakes) else {
            self.session
                .reply(channel, &BasicGetEmpty { cluster_id: "" });
            return Ok(());
        };
        let open = self.opened()?;
        open.vhost.trace_delivery(
            &open.requester,
            channel,
            host.name(),
            got.deliveries > 0,
            &got.message,
        );
        let held = got.unsettled.map(|slot| Held {
            queue: self.attachments.attach(&host),
            slot: slot.0,
        });
        self.session.get_ok(
            channel,
            held,
            &got.message,
            got.deliveries > 0,
            got.ready_left,
        );
        Ok(())
    }

    fn recover(&mut self, channel: u16, requeue: bool) -> Result<(), BrokerError> {
        if !requeue {
            return Err(BrokerError::NotImplemented("requeue=false".to_owned()));
        }
        let held = self.session.take_unsettled(channel);
        self.give_back(&held);
        Ok(())
    }
}

/// Counts on the wire have 32 bits; a longer queue shows as full.
fn on_wire(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// The number of no attachment, for consumers that read no queue.
const NO_QUEUE: u32 = u32::MAX;
