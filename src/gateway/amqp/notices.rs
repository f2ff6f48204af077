//! What a connection tells of itself: its own events, and what it delivers.

use crate::broker::{ConnectionFacts, ConsumerFacts, LoginRefused};
use crate::model::{Message, UserName};
use crate::queue::ConsumerSpec;

use super::connection::{Connection, Open};

impl Connection {
    /// Tells whether a login was right.
    pub(super) fn tell_login(&self, user: &UserName, result: Result<(), LoginRefused>) {
        let (notices, facts) = (self.node.notices(), self.facts());
        match result {
            Ok(()) => notices.login_succeeded(&facts, user),
            Err(reason) => {
                let error = match reason {
                    LoginRefused::Invalid => format!("user '{user}' - invalid credentials"),
                    LoginRefused::NotLoopback => {
                        format!("user '{user}' can only connect via localhost")
                    }
                };
                notices.login_failed(&facts, user, &error);
            }
        }
    }

    /// Tells that the virtual host is open.
    pub(super) fn tell_opened(&self) {
        if let Some(open) = &self.open {
            let (user, vhost) = (&open.requester.user, open.vhost.name());
            let notices = self.node.notices();
            notices.connection_created(&self.facts(), user, vhost);
        }
    }

    /// Tells that the connection has ended.
    pub(super) fn tell_closed(&self) {
        self.node.notices().connection_closed(&self.facts());
    }

    /// Tells of the channels that clients have opened, before anything that was
    /// done on them.
    pub(super) fn tell_channels(&mut self) {
        for channel in self.session.take_opened() {
            if let Some(Open {
                vhost, requester, ..
            }) = &self.open
            {
                let notices = self.node.notices();
                notices.channel_created(vhost, requester, channel);
                self.told_channels.push(channel);
            }
        }
    }

    /// Tells that a channel was closed, once.
    pub(super) fn tell_channel_closed(&mut self, channel: u16) {
        let Some(told) = self.told_channels.iter().position(|told| *told == channel) else {
            return;
        };
        self.told_channels.swap_remove(told);
        if let Some(open) = &self.open {
            self.node.notices().channel_closed(&open.requester, channel);
        }
    }

    /// Tells of a new consumer.
    pub(super) fn tell_consumer(&self, serial: u32, spec: &ConsumerSpec) {
        self.with_consumer(serial, |facts| {
            self.node.notices().consumer_created(facts, spec);
        });
    }

    /// Tells that a consumer has ended, which is still known.
    pub(super) fn tell_consumer_gone(&self, serial: u32) {
        self.with_consumer(serial, |facts| self.node.notices().consumer_deleted(facts));
    }

    /// Has a message of a consumer traced.
    #[cold]
    pub(super) fn trace_delivery(&self, serial: u32, redelivered: bool, message: &Message) {
        if let Some(open) = &self.open
            && let Some(attached) = self.consumers.get(&serial)
            && let Some(host) = self.attachments.host(attached.queue)
        {
            let (by, channel, queue) = (&open.requester, attached.channel, host.name());
            open.vhost
                .trace_delivery(by, channel, queue, redelivered, message);
        }
    }

    fn with_consumer(&self, serial: u32, tell: impl FnOnce(&ConsumerFacts<'_>)) {
        if let Some(open) = &self.open
            && let Some(attached) = self.consumers.get(&serial)
            && let Some(host) = self.attachments.host(attached.queue)
            && let Some(side) = self.channels.get(&attached.channel)
            && let Some((tag, _)) = side.consumers.iter().find(|(_, known)| **known == serial)
        {
            tell(&ConsumerFacts {
                by: &open.requester,
                channel: attached.channel,
                tag,
                queue: host.name(),
                vhost: open.vhost.name(),
            });
        }
    }

    fn facts(&self) -> ConnectionFacts<'_> {
        ConnectionFacts {
            id: self.outbox.connection(),
            name: &self.name,
            user_provided_name: &self.session.client().name,
            peer: self.peer,
            local: self.local,
            mechanism: self.mechanism,
            connected_at: self.connected_at.millis(),
            frame_max: self.session.frame_max(),
            channel_max: self.session.channel_max(),
            heartbeat_seconds: self.session.heartbeat_seconds(),
        }
    }
}
