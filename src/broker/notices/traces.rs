//! Copies of messages as RabbitMQ's firehose has them (`rabbit_trace.erl` of
//! 3.10): the body as it was, all else in headers.

use leveret_protocol::Properties;

use crate::model::{FieldTable, FieldValue, Message, QueueName, VhostName};

use super::super::Requester;
use super::properties::{decode, timestamp_value};

/// A message on its way through a virtual host.
#[derive(Debug)]
pub(super) struct Trace {
    pub(super) vhost: VhostName,
    /// Who published it, or gets it.
    pub(super) by: Requester,
    pub(super) channel: u16,
    pub(super) traced: Traced,
    pub(super) message: Message,
}

/// Which way.
#[derive(Debug)]
pub(super) enum Traced {
    /// In, to these queues. Those of the default exchange are not named: the
    /// routing keys say it.
    Published { queues: Vec<QueueName> },
    /// Out of this queue.
    Delivered { queue: QueueName, redelivered: bool },
}

impl Trace {
    /// What the copy is routed by: `publish.<exchange>` or `deliver.<queue>`.
    pub(super) fn routing_key(&self) -> String {
        match &self.traced {
            Traced::Published { .. } => format!("publish.{}", self.message.exchange()),
            Traced::Delivered { queue, .. } => format!("deliver.{queue}"),
        }
    }

    /// The copy's headers.
    pub(super) fn headers(&self, node: &str) -> FieldTable {
        let properties = decode(self.message.header());
        let keys = self.routing_keys(&properties);
        let exchange = self.message.exchange();
        let mut headers = FieldTable::from_iter([
            ("exchange_name", exchange.into()),
            ("routing_keys", texts(&keys)),
            ("properties", FieldTable::into(shown(properties))),
            ("node", node.into()),
        ]);
        if let Traced::Delivered { redelivered, .. } = self.traced {
            headers.insert("redelivered", FieldValue::I32(redelivered.into()));
        }
        headers.insert("vhost", self.vhost.as_str());
        headers.insert("connection", &*self.by.connection_name);
        headers.insert("channel", FieldValue::I32(self.channel.into()));
        headers.insert("user", self.by.user.as_str());
        match &self.traced {
            Traced::Published { .. } if exchange.is_empty() => {
                let mut queues = keys;
                queues.sort_unstable();
                queues.dedup();
                headers.insert("routed_queues", texts(&queues));
            }
            Traced::Published { queues } => {
                let queues: Vec<String> = queues.iter().map(ToString::to_string).collect();
                headers.insert("routed_queues", texts(&queues));
            }
            Traced::Delivered { .. } => {}
        }
        headers
    }

    /// The message's routing key and those of its headers CC and BCC.
    fn routing_keys(&self, properties: &Properties) -> Vec<String> {
        let mut keys = vec![self.message.routing_key().to_owned()];
        let headers = properties.headers.iter();
        for name in ["CC", "BCC"] {
            for found in headers.clone().filter_map(|headers| headers.get(name)) {
                if let FieldValue::Array(more) = found {
                    let more = more.iter().filter_map(FieldValue::as_str);
                    keys.extend(more.map(str::to_owned));
                }
            }
        }
        keys
    }
}

/// Properties as the header `properties` shows them. Its table has them in the
/// order that RabbitMQ gives it: the last one first.
fn shown(mut properties: Properties) -> FieldTable {
    if let Some(headers) = &mut properties.headers {
        // Consumers do not see it, and nobody else does.
        headers.remove("BCC");
    }
    let text = |text: Option<String>| text.map(|text| FieldValue::from(text.as_str()));
    let octet = |octet: Option<u8>| octet.map(|octet| FieldValue::I32(octet.into()));
    let Properties {
        content_type,
        content_encoding,
        headers,
        delivery_mode,
        priority,
        correlation_id,
        reply_to,
        expiration,
        message_id,
        timestamp,
        kind,
        user_id,
        app_id,
        cluster_id,
    } = properties;
    let all = [
        ("cluster_id", text(cluster_id)),
        ("app_id", text(app_id)),
        ("user_id", text(user_id)),
        ("type", text(kind)),
        ("timestamp", timestamp.map(timestamp_value)),
        ("message_id", text(message_id)),
        ("expiration", text(expiration)),
        ("reply_to", text(reply_to)),
        ("correlation_id", text(correlation_id)),
        ("priority", octet(priority)),
        ("delivery_mode", octet(delivery_mode)),
        ("headers", headers.map(FieldValue::Table)),
        ("content_encoding", text(content_encoding)),
        ("content_type", text(content_type)),
    ];
    let set = |(name, value): (&'static str, Option<FieldValue>)| Some((name, value?));
    all.into_iter().filter_map(set).collect()
}

fn texts(texts: &[String]) -> FieldValue {
    FieldValue::Array(texts.iter().map(|text| text.as_str().into()).collect())
}

#[cfg(test)]
mod tests;
