//! Events as RabbitMQ's plugin `rabbitmq_event_exchange` of 3.10 has them: a
//! routing key and headers, in its order.
//!
//! Where the plugin names a process, there is a text in its place that is as
//! good for telling connections and channels apart. `client_properties` are
//! left out, and the error of a failed login is a text rather than the list of
//! numbers that the plugin makes of it.

use std::net::{IpAddr, SocketAddr};

use crate::model::{
    ConnectionId, ConsumerTag, Destination, ExchangeName, ExchangeSettings, FieldTable, FieldValue,
    QueueName, UserName, VhostName,
};
use crate::policy::Policy;
use crate::queue::ConsumerSpec;
use crate::routing::Binding;

use super::super::{Notices, QueueHost, Requester, Vhost};
use super::terms::arguments;

/// Something that has happened.
#[derive(Debug)]
pub(in super::super) struct Event {
    key: &'static str,
    headers: FieldTable,
}

/// A client's connection.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionFacts<'a> {
    /// Its number.
    pub id: ConnectionId,
    /// As traces and events name it.
    pub name: &'a str,
    /// What the client calls it, or empty.
    pub user_provided_name: &'a str,
    /// The client's end.
    pub peer: SocketAddr,
    /// The broker's end.
    pub local: SocketAddr,
    /// How it logs in; empty as long as it has not begun to.
    pub mechanism: &'a str,
    /// When it came, in milliseconds since 1970.
    pub connected_at: u64,
    /// The agreed size of a frame.
    pub frame_max: u32,
    /// The agreed number of channels.
    pub channel_max: u16,
    /// The agreed heartbeat interval in seconds.
    pub heartbeat_seconds: u16,
}

/// A consumer.
#[derive(Clone, Copy, Debug)]
pub struct ConsumerFacts<'a> {
    /// Whose it is.
    pub by: &'a Requester,
    /// On which channel.
    pub channel: u16,
    /// Its tag.
    pub tag: &'a ConsumerTag,
    /// Of which queue.
    pub queue: &'a QueueName,
    /// In which virtual host.
    pub vhost: &'a VhostName,
}

type Header = (&'static str, FieldValue);

impl Event {
    fn new(key: &'static str, headers: impl IntoIterator<Item = Header>) -> Self {
        let headers = headers.into_iter().collect();
        Self { key, headers }
    }

    /// The routing key and the headers.
    pub(super) fn into_parts(self) -> (&'static str, FieldTable) {
        (self.key, self.headers)
    }

    /// Octets of memory that it takes, about.
    pub(super) fn bytes(&self) -> usize {
        const OVERHEAD: usize = 64;
        let octets = |value: &FieldValue| match value {
            FieldValue::LongStr(octets) => octets.len(),
            FieldValue::Array(texts) => {
                let texts = texts.iter().filter_map(FieldValue::as_str);
                texts.map(|text| text.len() + OVERHEAD).sum()
            }
            _ => 0,
        };
        let headers = self.headers.iter();
        headers.map(|(_, value)| octets(value) + OVERHEAD).sum()
    }

    pub(in super::super) fn vhost_created(name: &VhostName) -> Self {
        let headers = [
            ("tags", FieldValue::Array(Vec::new())),
            ("description", "".into()),
            by(&super::broker_user()),
            ("name", name.as_str().into()),
        ];
        Self::new("vhost.created", headers)
    }

    pub(super) fn exchange_created(
        vhost: &VhostName,
        name: &ExchangeName,
        settings: &ExchangeSettings,
        policy: Option<&str>,
        user: &UserName,
    ) -> Self {
        let headers = [
            by(user),
            ("policy", policy.unwrap_or_default().into()),
            ("arguments", arguments(&settings.arguments)),
            ("internal", settings.internal.into()),
            ("auto_delete", settings.auto_delete.into()),
            ("durable", settings.durable.into()),
            ("type", settings.kind.name().into()),
            ("name", name.as_str().into()),
            ("vhost", vhost.as_str().into()),
        ];
        Self::new("exchange.created", headers)
    }

    pub(in super::super) fn exchange_deleted(
        vhost: &VhostName,
        name: &ExchangeName,
        user: &UserName,
    ) -> Self {
        Self::new("exchange.deleted", deleted(vhost, name.as_str(), user))
    }

    pub(in super::super) fn queue_created(host: &QueueHost, node: &str, user: &UserName) -> Self {
        let settings = host.settings();
        let owner = settings.exclusive.map(|owner| process(node, owner, 0));
        let headers = [
            by(user),
            ("exclusive", settings.exclusive.is_some().into()),
            ("owner_pid", owner.unwrap_or_default().as_str().into()),
            ("arguments", arguments(&settings.arguments)),
            ("auto_delete", settings.auto_delete.into()),
            ("durable", settings.durable.into()),
            ("name", host.name().as_str().into()),
            ("vhost", host.vhost().as_str().into()),
        ];
        Self::new("queue.created", headers)
    }

    pub(in super::super) fn queue_deleted(host: &QueueHost, user: &UserName) -> Self {
        let headers = deleted(host.vhost(), host.name().as_str(), user);
        Self::new("queue.deleted", headers)
    }

    pub(in super::super) fn binding_created(
        vhost: &VhostName,
        binding: &Binding,
        user: &UserName,
    ) -> Self {
        Self::new("binding.created", bound(vhost, binding, user))
    }

    pub(in super::super) fn binding_deleted(
        vhost: &VhostName,
        binding: &Binding,
        user: &UserName,
    ) -> Self {
        Self::new("binding.deleted", bound(vhost, binding, user))
    }

    pub(super) fn policy_set(policy: &Policy) -> Self {
        let definition = policy.definition.iter().map(|(argument, value)| {
            let key = argument.strip_prefix("x-").unwrap_or(argument);
            let shown = match value.as_integer() {
                Some(number) => FieldValue::I64(number),
                None => value.clone(),
            };
            (key, shown)
        });
        let headers = [
            ("priority", i64::from(policy.priority).into()),
            ("definition", FieldTable::from_iter(definition).into()),
            ("apply-to", policy.apply_to.name().into()),
            ("pattern", policy.pattern.as_str().into()),
        ];
        let [user, vhost, name] = about_policy(policy);
        let headers = headers.into_iter().chain([user, vhost, name]);
        Self::new("policy.set", headers)
    }

    /// The operator's are told apart by the key.
    pub(super) fn policy_cleared(policy: &Policy, key: &'static str) -> Self {
        Self::new(key, about_policy(policy))
    }

    pub(in super::super) fn alarm_set(source: &str, node: &str) -> Self {
        Self::new("alarm.set", alarm(source, node))
    }

    pub(in super::super) fn alarm_cleared(source: &str, node: &str) -> Self {
        Self::new("alarm.cleared", alarm(source, node))
    }
}

impl Notices {
    /// Somebody has logged in.
    pub fn login_succeeded(&self, connection: &ConnectionFacts<'_>, user: &UserName) {
        self.tell(|_| Event::new("user.authentication.success", login(connection, user)));
    }

    /// Somebody could not log in, and why.
    pub fn login_failed(&self, connection: &ConnectionFacts<'_>, user: &UserName, error: &str) {
        self.tell(|_| {
            let error: Header = ("error", error.into());
            let headers = [error].into_iter().chain(login(connection, user));
            Event::new("user.authentication.failure", headers)
        });
    }

    /// A connection works on a virtual host from now on.
    pub fn connection_created(
        &self,
        connection: &ConnectionFacts<'_>,
        user: &UserName,
        vhost: &VhostName,
    ) {
        self.tell(|node| {
            let connected_at = i64::try_from(connection.connected_at).unwrap_or(i64::MAX);
            let pid = process(node, connection.id, 0);
            let headers: [Header; 25] = [
                by(user),
                ("node", node.into()),
                ("connected_at", connected_at.into()),
                ("channel_max", i64::from(connection.channel_max).into()),
                ("frame_max", i64::from(connection.frame_max).into()),
                ("timeout", i64::from(connection.heartbeat_seconds).into()),
                ("vhost", vhost.as_str().into()),
                ("user", user.as_str().into()),
                ("protocol", PROTOCOL.into()),
                ("ssl_hash", "".into()),
                ("ssl_cipher", "".into()),
                ("ssl_key_exchange", "".into()),
                ("ssl_protocol", "".into()),
                ("auth_mechanism", connection.mechanism.into()),
                ("peer_cert_validity", "".into()),
                ("peer_cert_issuer", "".into()),
                ("peer_cert_subject", "".into()),
                ("ssl", false.into()),
                ("peer_host", tuple(connection.peer.ip())),
                ("host", tuple(connection.local.ip())),
                ("peer_port", i64::from(connection.peer.port()).into()),
                ("port", i64::from(connection.local.port()).into()),
                ("name", connection.name.into()),
                ("pid", pid.as_str().into()),
                ("type", "network".into()),
            ];
            let headers = headers.into_iter().chain(own_name(connection));
            Event::new("connection.created", headers)
        });
    }

    /// A connection has ended, however far it had come.
    pub fn connection_closed(&self, connection: &ConnectionFacts<'_>) {
        self.tell(|node| {
            let headers: [Header; 3] = [
                ("node", node.into()),
                ("pid", process(node, connection.id, 0).as_str().into()),
                ("name", connection.name.into()),
            ];
            let headers = headers.into_iter().chain(own_name(connection));
            Event::new("connection.closed", headers)
        });
    }

    /// A channel was opened.
    pub fn channel_created(&self, vhost: &Vhost, by_whom: &Requester, channel: u16) {
        self.tell(|node| {
            let Requester {
                connection, user, ..
            } = by_whom;
            let name = format!("{} ({channel})", by_whom.connection_name);
            let headers = [
                by(user),
                ("vhost", vhost.name().as_str().into()),
                ("user", user.as_str().into()),
                ("number", i64::from(channel).into()),
                ("connection", process(node, *connection, 0).as_str().into()),
                ("name", name.as_str().into()),
                ("pid", process(node, *connection, channel).as_str().into()),
            ];
            Event::new("channel.created", headers)
        });
    }

    /// A channel was closed, or ended with its connection.
    pub fn channel_closed(&self, by_whom: &Requester, channel: u16) {
        self.tell(|node| {
            let pid = process(node, by_whom.connection, channel);
            Event::new(
                "channel.closed",
                [by(&by_whom.user), ("pid", pid.as_str().into())],
            )
        });
    }

    /// A consumer was added.
    pub fn consumer_created(&self, consumer: &ConsumerFacts<'_>, spec: &ConsumerSpec) {
        self.tell(|node| {
            let [user, queue, vhost, channel, tag] = consumer.headers(node);
            let headers = [
                user,
                ("arguments", arguments(&spec.arguments)),
                (
                    "prefetch_count",
                    i64::from(spec.prefetch.unwrap_or(0)).into(),
                ),
                queue,
                vhost,
                channel,
                ("ack_required", (!spec.no_ack).into()),
                ("exclusive", spec.exclusive.into()),
                tag,
            ];
            Event::new("consumer.created", headers)
        });
    }

    /// A consumer has ended.
    pub fn consumer_deleted(&self, consumer: &ConsumerFacts<'_>) {
        self.tell(|node| Event::new("consumer.deleted", consumer.headers(node)));
    }
}

impl ConsumerFacts<'_> {
    fn headers(&self, node: &str) -> [Header; 5] {
        let channel = process(node, self.by.connection, self.channel);
        [
            by(&self.by.user),
            ("queue", self.queue.as_str().into()),
            ("vhost", self.vhost.as_str().into()),
            ("channel", channel.as_str().into()),
            ("consumer_tag", self.tag.as_str().into()),
        ]
    }
}

/// What all changes say in the end.
fn by(user: &UserName) -> Header {
    ("user_who_performed_action", user.as_str().into())
}

fn about_policy(policy: &Policy) -> [Header; 3] {
    [
        by(&super::broker_user()),
        ("vhost", policy.vhost.as_str().into()),
        ("name", policy.name.as_str().into()),
    ]
}

fn deleted(vhost: &VhostName, name: &str, user: &UserName) -> [Header; 3] {
    [
        by(user),
        ("name", name.into()),
        ("vhost", vhost.as_str().into()),
    ]
}

fn bound(vhost: &VhostName, binding: &Binding, user: &UserName) -> [Header; 8] {
    let (kind, name) = match &binding.destination {
        Destination::Queue(name) => ("queue", name.as_str()),
        Destination::Exchange(name) => ("exchange", name.as_str()),
    };
    [
        by(user),
        ("vhost", vhost.as_str().into()),
        ("arguments", arguments(&binding.arguments)),
        ("routing_key", binding.routing_key.as_str().into()),
        ("destination_kind", kind.into()),
        ("destination_name", name.into()),
        ("source_kind", "exchange".into()),
        ("source_name", binding.source.as_str().into()),
    ]
}

fn login(connection: &ConnectionFacts<'_>, user: &UserName) -> [Header; 9] {
    [
        ("ssl", false.into()),
        ("auth_mechanism", connection.mechanism.into()),
        ("protocol", PROTOCOL.into()),
        ("peer_port", i64::from(connection.peer.port()).into()),
        ("peer_host", tuple(connection.peer.ip())),
        ("connection_name", connection.name.into()),
        ("host", tuple(connection.local.ip())),
        ("name", user.as_str().into()),
        ("connection_type", "network".into()),
    ]
}

fn alarm(source: &str, node: &str) -> [Header; 2] {
    [("node", node.into()), ("source", source.into())]
}

fn own_name(connection: &ConnectionFacts<'_>) -> Option<Header> {
    let name = connection.user_provided_name;
    (!name.is_empty()).then(|| ("user_provided_name", name.into()))
}

/// The text that stands for a connection (channel 0) or a channel of it.
fn process(node: &str, connection: ConnectionId, channel: u16) -> String {
    format!("<{node}.{}.{channel}>", connection.0)
}

/// An address as Erlang has it: `{127,0,0,1}`.
fn tuple(address: IpAddr) -> FieldValue {
    let parts: Vec<String> = match address.to_canonical() {
        IpAddr::V4(address) => address.octets().map(|octet| octet.to_string()).to_vec(),
        IpAddr::V6(address) => address.segments().map(|part| part.to_string()).to_vec(),
    };
    format!("{{{}}}", parts.join(",")).as_str().into()
}

const PROTOCOL: &str = "{0,9,1}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_erlang_has_them() {
        for (address, shown) in [
            ("127.0.0.1", "{127,0,0,1}"),
            ("::ffff:10.0.0.7", "{10,0,0,7}"),
            ("::1", "{0,0,0,0,0,0,0,1}"),
            ("fe80::ff", "{65152,0,0,0,0,0,0,255}"),
        ] {
            let address = address.parse().expect("an address");
            assert_eq!(tuple(address), FieldValue::from(shown));
        }
    }

    #[test]
    fn each_event_is_counted_with_its_texts() {
        let vhost = VhostName::from("/");
        let user = UserName::from("guest");
        let short = Event::exchange_deleted(&vhost, &"x".into(), &user);
        let long = Event::exchange_deleted(&vhost, &"x".repeat(101).into(), &user);
        assert_eq!(long.bytes(), short.bytes() + 100);
    }
}
