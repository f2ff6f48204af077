//! The everyday acts of a client, each with the answer it must get.

use leveret_protocol::method::{EncodeMethod, *};
use leveret_protocol::{FieldTable, FieldValue, Method, Properties};

use super::broker::unique;
use super::client::{Client, Content, Incoming, PATIENCE};
use super::matched;

/// The channel on which helpers work, out of the way of a test's own.
const SIDE_CHANNEL: u16 = 999;

/// A message as a consumer or `basic.get` receives it.
#[derive(Debug)]
pub struct Delivery {
    /// Empty for `basic.get`.
    pub consumer_tag: &'static str,
    pub tag: u64,
    pub redelivered: bool,
    pub exchange: &'static str,
    pub routing_key: &'static str,
    /// Ready messages left behind; only `basic.get` says so.
    pub message_count: Option<u32>,
    pub content: Content,
}

impl Delivery {
    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.content.body).expect("tests send text")
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&FieldValue> {
        self.content.properties.headers.as_ref()?.get(name)
    }
}

impl Client {
    /// An open connection with channel 1 in confirm mode.
    #[track_caller]
    pub fn confirming() -> Self {
        let mut client = Self::with_channel();
        client.ok(1, &ConfirmSelect::default());
        client
    }

    /// Sends a method and fails unless its `-ok` comes.
    #[track_caller]
    pub fn ok(&mut self, channel: u16, method: &impl EncodeMethod) -> Method<'static> {
        let reply = self.call(channel, method);
        assert!(reply.name().ends_with("-ok"), "got {reply:?}");
        reply
    }

    /// Declares a queue; its name, ready messages and consumers.
    #[track_caller]
    pub fn declare(&mut self, channel: u16, queue: &QueueDeclare<'_>) -> (&'static str, u32, u32) {
        matched!(self.call(channel, queue), Method::QueueDeclareOk(ok) =>
            (ok.queue, ok.message_count, ok.consumer_count))
    }

    /// A fresh queue of this connection, gone with it.
    #[track_caller]
    pub fn temp_queue(&mut self, channel: u16) -> &'static str {
        let queue = unique("queue");
        self.declare(
            channel,
            &QueueDeclare {
                queue,
                exclusive: true,
                ..QueueDeclare::default()
            },
        );
        queue
    }

    /// A fresh queue that any connection may use, gone with its last consumer.
    #[track_caller]
    pub fn shared_queue(&mut self, channel: u16) -> &'static str {
        let queue = unique("shared");
        self.declare(
            channel,
            &QueueDeclare {
                queue,
                auto_delete: true,
                ..QueueDeclare::default()
            },
        );
        queue
    }

    /// A fresh exchange, gone with its last binding.
    #[track_caller]
    pub fn temp_exchange(&mut self, channel: u16, kind: &str) -> &'static str {
        let exchange = unique(kind);
        self.ok(
            channel,
            &ExchangeDeclare {
                exchange,
                kind,
                auto_delete: true,
                ..ExchangeDeclare::default()
            },
        );
        exchange
    }

    /// Binds a queue to an exchange.
    #[track_caller]
    pub fn bind(&mut self, channel: u16, queue: &str, exchange: &str, routing_key: &str) {
        self.bind_with(channel, queue, exchange, routing_key, FieldTable::new());
    }

    /// Binds a queue to an exchange with arguments.
    #[track_caller]
    pub fn bind_with(
        &mut self,
        channel: u16,
        queue: &str,
        exchange: &str,
        routing_key: &str,
        arguments: FieldTable,
    ) {
        self.ok(
            channel,
            &QueueBind {
                queue,
                exchange,
                routing_key,
                arguments,
                ..QueueBind::default()
            },
        );
    }

    /// A fresh queue of this connection bound with that key.
    #[track_caller]
    pub fn bound_queue(&mut self, channel: u16, exchange: &str, routing_key: &str) -> &'static str {
        let queue = self.temp_queue(channel);
        self.bind(channel, queue, exchange, routing_key);
        queue
    }

    /// Binds an exchange to an exchange.
    #[track_caller]
    pub fn bind_exchange(&mut self, channel: u16, destination: &str, source: &str, key: &str) {
        self.ok(
            channel,
            &ExchangeBind {
                destination,
                source,
                routing_key: key,
                ..ExchangeBind::default()
            },
        );
    }

    /// Deletes an exchange.
    #[track_caller]
    pub fn delete_exchange(&mut self, channel: u16, exchange: &str) {
        self.ok(
            channel,
            &ExchangeDelete {
                exchange,
                ..ExchangeDelete::default()
            },
        );
    }

    /// Deletes a queue; how many messages went with it.
    #[track_caller]
    pub fn delete_queue(&mut self, channel: u16, queue: &str) -> u32 {
        let delete = QueueDelete {
            queue,
            ..QueueDelete::default()
        };
        matched!(self.call(channel, &delete), Method::QueueDeleteOk(ok) => ok.message_count)
    }

    /// Publishes a text without properties.
    pub fn publish(&mut self, channel: u16, exchange: &str, routing_key: &str, body: &str) {
        self.publish_properties(channel, exchange, routing_key, &Properties::default(), body);
    }

    /// Publishes a text with properties.
    pub fn publish_properties(
        &mut self,
        channel: u16,
        exchange: &str,
        routing_key: &str,
        properties: &Properties,
        body: &str,
    ) {
        let publish = BasicPublish {
            exchange,
            routing_key,
            ..BasicPublish::default()
        };
        self.publish_with(channel, &publish, properties, body.as_bytes());
    }

    /// Publishes texts straight to a queue and waits until it has them.
    #[track_caller]
    pub fn fill(&mut self, queue: &str, bodies: &[&str]) {
        let messages: Vec<_> = bodies.iter().map(|body| ("", queue, *body)).collect();
        self.publish_confirmed(&messages);
    }

    /// Publishes (exchange, key, body) one after another and waits until every
    /// queue that they reach has them.
    #[track_caller]
    pub fn publish_confirmed(&mut self, messages: &[(&str, &str, &str)]) {
        self.open_channel(SIDE_CHANNEL);
        self.ok(SIDE_CHANNEL, &ConfirmSelect::default());
        for (exchange, routing_key, body) in messages {
            self.publish(SIDE_CHANNEL, exchange, routing_key, body);
        }
        self.expect_acks(SIDE_CHANNEL, messages.len() as u64);
        self.close_channel(SIDE_CHANNEL);
    }

    /// Takes confirms on that channel until the tags 1 to `last` are acked.
    #[track_caller]
    pub fn expect_acks(&mut self, channel: u16, last: u64) {
        let mut acked = vec![false; last as usize + 1];
        acked[0] = true;
        while acked.contains(&false) {
            let ack = matched!(self.next_method(channel), Method::BasicAck(ack) => ack);
            let tag = ack.delivery_tag as usize;
            let first = if ack.multiple { 0 } else { tag };
            acked[first..=tag].fill(true);
        }
    }

    /// Waits for the confirm of the one message outstanding on that channel.
    #[track_caller]
    pub fn expect_ack(&mut self, channel: u16) {
        matched!(self.next_method(channel), Method::BasicAck(_) => ());
    }

    /// Starts a consumer; its tag.
    #[track_caller]
    pub fn consume(&mut self, channel: u16, queue: &str, no_ack: bool) -> &'static str {
        self.consume_with(
            channel,
            &BasicConsume {
                queue,
                no_ack,
                ..BasicConsume::default()
            },
        )
    }

    /// Starts a consumer with any fields; its tag. Deliveries of the channel's
    /// other consumers stay for later.
    #[track_caller]
    pub fn consume_with(&mut self, channel: u16, consume: &BasicConsume<'_>) -> &'static str {
        self.send(channel, consume);
        let answer = self.next_where(channel, |method| {
            matches!(method, Method::BasicConsumeOk(_) | Method::ChannelClose(_))
        });
        matched!(answer.method, Method::BasicConsumeOk(ok) => ok.consumer_tag)
    }

    /// Ends a consumer. Deliveries that cross the request are dropped.
    #[track_caller]
    pub fn cancel(&mut self, channel: u16, consumer_tag: &str) {
        let cancel = BasicCancel {
            consumer_tag,
            nowait: false,
        };
        self.send(channel, &cancel);
        loop {
            match self.next_method(channel) {
                Method::BasicDeliver(_) => {}
                Method::BasicCancelOk(ok) => return assert_eq!(ok.consumer_tag, consumer_tag),
                other => panic!("expected basic.cancel-ok, got {other:?}"),
            }
        }
    }

    /// Sets the prefetch count.
    #[track_caller]
    pub fn qos(&mut self, channel: u16, prefetch_count: u16, global: bool) {
        let qos = BasicQos {
            prefetch_size: 0,
            prefetch_count,
            global,
        };
        matched!(self.call(channel, &qos), Method::BasicQosOk(_) => ());
    }

    /// The next delivery on that channel.
    #[track_caller]
    pub fn delivery(&mut self, channel: u16) -> Delivery {
        let Incoming {
            method, content, ..
        } = self.next(channel);
        matched!((method, content), (Method::BasicDeliver(deliver), Some(content)) => Delivery {
            consumer_tag: deliver.consumer_tag,
            tag: deliver.delivery_tag,
            redelivered: deliver.redelivered,
            exchange: deliver.exchange,
            routing_key: deliver.routing_key,
            message_count: None,
            content,
        })
    }

    /// The texts of the next `count` deliveries on that channel.
    #[track_caller]
    pub fn texts(&mut self, channel: u16, count: usize) -> Vec<String> {
        (0..count)
            .map(|_| self.delivery(channel).text().to_owned())
            .collect()
    }

    /// Takes a message off a queue that has one; to be acked unless `no_ack`.
    #[track_caller]
    pub fn get(&mut self, channel: u16, queue: &str, no_ack: bool) -> Option<Delivery> {
        let get = BasicGet {
            ticket: 0,
            queue,
            no_ack,
        };
        self.send(channel, &get);
        let Incoming {
            method, content, ..
        } = self.next(channel);
        match (method, content) {
            (Method::BasicGetEmpty(_), None) => None,
            (Method::BasicGetOk(ok), Some(content)) => Some(Delivery {
                consumer_tag: "",
                tag: ok.delivery_tag,
                redelivered: ok.redelivered,
                exchange: ok.exchange,
                routing_key: ok.routing_key,
                message_count: Some(ok.message_count),
                content,
            }),
            other => panic!("expected get-ok or get-empty, got {other:?}"),
        }
    }

    /// Takes every ready message off a queue: their texts in order.
    #[track_caller]
    pub fn drain(&mut self, channel: u16, queue: &str) -> Vec<String> {
        std::iter::from_fn(|| self.get(channel, queue, true))
            .map(|delivery| delivery.text().to_owned())
            .collect()
    }

    /// Settles a delivery, or all up to it.
    pub fn ack(&mut self, channel: u16, delivery_tag: u64, multiple: bool) {
        self.send(
            channel,
            &BasicAck {
                delivery_tag,
                multiple,
            },
        );
    }

    /// Refuses a delivery, or all up to it.
    pub fn nack(&mut self, channel: u16, delivery_tag: u64, multiple: bool, requeue: bool) {
        self.send(
            channel,
            &BasicNack {
                delivery_tag,
                multiple,
                requeue,
            },
        );
    }

    /// A round trip on that channel: what the server sends because of anything
    /// sent before it has come when this returns, and is kept for later.
    #[track_caller]
    pub fn sync(&mut self, channel: u16) {
        self.send(
            channel,
            &ExchangeDeclare {
                exchange: "amq.direct",
                kind: "direct",
                passive: true,
                ..ExchangeDeclare::default()
            },
        );
        self.next_where(channel, |method| {
            matches!(method, Method::ExchangeDeclareOk(_))
        });
    }

    /// A round trip through a queue, out of the way on a side channel: its
    /// ready messages and consumers, zeros if it is another connection's, or
    /// `None` if there is no such queue.
    #[track_caller]
    pub fn look_up(&mut self, queue: &str) -> Option<(u32, u32)> {
        self.open_channel(SIDE_CHANNEL);
        let passive = QueueDeclare {
            queue,
            passive: true,
            ..QueueDeclare::default()
        };
        match self.call(SIDE_CHANNEL, &passive) {
            Method::QueueDeclareOk(ok) => {
                self.close_channel(SIDE_CHANNEL);
                Some((ok.message_count, ok.consumer_count))
            }
            Method::ChannelClose(close) if [404, 405].contains(&close.reply_code) => {
                self.send(SIDE_CHANNEL, &ChannelCloseOk {});
                (close.reply_code == 405).then_some((0, 0))
            }
            other => panic!("expected queue.declare-ok, 404 or 405, got {other:?}"),
        }
    }

    /// Repeats [`Self::look_up`] until it shows that many ready messages:
    /// settlements have no answer of their own.
    #[track_caller]
    pub fn await_ready(&mut self, queue: &str, ready: u32) {
        self.await_queue(
            queue,
            |found| matches!(found, Some((count, _)) if count == ready),
        );
    }

    /// Repeats [`Self::look_up`] until the queue is gone.
    #[track_caller]
    pub fn await_gone(&mut self, queue: &str) {
        self.await_queue(queue, |found| found.is_none());
    }

    /// Repeats [`Self::look_up`] until it shows what is wanted.
    #[track_caller]
    pub fn await_queue(&mut self, queue: &str, wanted: impl Fn(Option<(u32, u32)>) -> bool) {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let found = self.look_up(queue);
            if wanted(found) {
                return;
            }
            assert!(
                std::time::Instant::now() < deadline,
                "{queue} stays at {found:?}"
            );
            std::thread::yield_now();
        }
    }
}
