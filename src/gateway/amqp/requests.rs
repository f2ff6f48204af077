//! A session's requests, carried to the broker: exchanges and bindings, and the
//! way to the rest. Each answer goes back through the session.

use std::sync::Arc;

use leveret_protocol::Method;
use leveret_protocol::method::{
    ExchangeBindOk, ExchangeDeclareOk, ExchangeDeleteOk, ExchangeUnbindOk, QueueBindOk,
    QueueUnbindOk,
};

use crate::broker::{BindRequest, ExchangeRequest, Publisher, Requester};
use crate::model::{BrokerError, Destination, ExchangeName, QueueName, VhostName};
use crate::session::Request;

use super::barrier::DefinitionCall;
use super::connection::{Awaited, Connection, Open};

impl Connection {
    /// Everything but publishes, which are collected.
    pub(super) fn request(&mut self, request: Request<'_>) -> Option<Awaited> {
        match request {
            Request::Publish(publish) => self.publish(&publish),
            Request::Stage(publish) => self.stage(publish),
            Request::Commit { channel, publishes } => self.commit(channel, publishes),
            Request::Login(login) => return Some(Awaited::Login(login)),
            Request::OpenVhost(name) => self.open_vhost(&name),
            Request::Call { channel, method } => {
                let ids = method.ids();
                let definition = DefinitionCall::new(&method, self);
                match (self.call(channel, method), definition) {
                    (Ok(()), Some(call)) => self.hold_for_definitions(&call),
                    (Ok(()), None) => {}
                    (Err(error), _) => self.session.refuse(channel, ids, &error),
                }
            }
            Request::CloseChannel(channel) => {
                self.release_channel(channel);
                self.tell_channel_closed(channel);
                self.session.channel_released(channel);
                for (channel, reason) in self.session.channel_failures() {
                    let (peer, user) = (self.peer, self.user.as_str());
                    tracing::warn!(%peer, user, channel, reason, "channel closed");
                }
            }
            Request::CloseConnection => {
                self.release_all();
                self.session.connection_released();
            }
        }
        None
    }

    fn open_vhost(&mut self, name: &VhostName) {
        let vhost = match self
            .node
            .open_vhost(self.outbox.connection(), name, &self.user)
        {
            Ok(vhost) => vhost,
            Err(error) => {
                self.session.vhost_refused(&error);
                return;
            }
        };
        let requester = Requester {
            connection: self.outbox.connection(),
            user: self.user.clone(),
            connection_name: std::sync::Arc::clone(&self.name),
        };
        let publisher = Publisher::new(
            self.node.clock(),
            Arc::clone(&vhost),
            Arc::clone(self.node.reply_targets()),
            requester.clone(),
        );
        self.open = Some(Open {
            vhost,
            requester,
            publisher,
        });
        self.was_open = true;
        self.session.vhost_opened();
        self.tell_opened();
        let (peer, user, vhost) = (self.peer, self.user.as_str(), name.as_str());
        let client = self.session.client();
        tracing::info!(%peer, user, vhost, name = client.name, client = client.product, "connection opened");
    }

    fn call(&mut self, channel: u16, method: Method<'_>) -> Result<(), BrokerError> {
        let Some(Open {
            vhost, requester, ..
        }) = &self.open
        else {
            return Err(BrokerError::Internal("no virtual host is open".to_owned()));
        };
        match method {
            Method::ExchangeDeclare(declare) => {
                if declare.passive {
                    vhost.check_exchange(&ExchangeName::from(declare.exchange))?;
                } else {
                    let request = ExchangeRequest {
                        name: declare.exchange,
                        kind: declare.kind,
                        durable: declare.durable,
                        auto_delete: declare.auto_delete,
                        internal: declare.internal,
                        arguments: declare.arguments,
                    };
                    vhost.declare_exchange(request, requester)?;
                }
                self.answer(channel, declare.nowait, &ExchangeDeclareOk {});
            }
            Method::ExchangeDelete(delete) => {
                let name = ExchangeName::from(delete.exchange);
                vhost.delete_exchange(&name, delete.if_unused, requester)?;
                self.answer(channel, delete.nowait, &ExchangeDeleteOk {});
            }
            Method::ExchangeBind(bind) => {
                let request = BindRequest {
                    source: bind.source,
                    destination: Destination::Exchange(ExchangeName::from(bind.destination)),
                    routing_key: bind.routing_key,
                    arguments: bind.arguments,
                };
                vhost.bind(request, requester, self.node.now(), &mut self.wakes)?;
                self.answer(channel, bind.nowait, &ExchangeBindOk {});
            }
            Method::ExchangeUnbind(unbind) => {
                let request = BindRequest {
                    source: unbind.source,
                    destination: Destination::Exchange(ExchangeName::from(unbind.destination)),
                    routing_key: unbind.routing_key,
                    arguments: unbind.arguments,
                };
                vhost.unbind(request, requester)?;
                self.answer(channel, unbind.nowait, &ExchangeUnbindOk {});
            }
            Method::QueueBind(bind) => {
                let queue = self.queue_name(channel, bind.queue)?;
                // Queue and key both empty: the queue's name is the key.
                let key = if bind.queue.is_empty() && bind.routing_key.is_empty() {
                    queue.as_str()
                } else {
                    bind.routing_key
                };
                let request = BindRequest {
                    source: bind.exchange,
                    destination: Destination::Queue(queue.clone()),
                    routing_key: key,
                    arguments: bind.arguments,
                };
                let (now, open) = (self.node.now(), self.opened()?);
                let (vhost, requester) = (Arc::clone(&open.vhost), open.requester.clone());
                vhost.bind(request, &requester, now, &mut self.wakes)?;
                self.answer(channel, bind.nowait, &QueueBindOk {});
            }
            Method::QueueUnbind(unbind) => {
                let queue = self.queue_name(channel, unbind.queue)?;
                let key = if unbind.queue.is_empty() && unbind.routing_key.is_empty() {
                    queue.as_str()
                } else {
                    unbind.routing_key
                };
                let request = BindRequest {
                    source: unbind.exchange,
                    destination: Destination::Queue(queue.clone()),
                    routing_key: key,
                    arguments: unbind.arguments,
                };
                self.opened()?
                    .vhost
                    .unbind(request, &self.opened()?.requester)?;
                self.answer(channel, false, &QueueUnbindOk {});
            }
            method => self.queue_call(channel, method)?,
        }
        Ok(())
    }

    /// Answers unless the client asked not to.
    pub(super) fn answer(
        &mut self,
        channel: u16,
        nowait: bool,
        method: &impl leveret_protocol::method::EncodeMethod,
    ) {
        if !nowait {
            self.session.reply(channel, method);
        }
    }

    pub(super) fn opened(&self) -> Result<&Open, BrokerError> {
        let missing = || BrokerError::Internal("no virtual host is open".to_owned());
        self.open.as_ref().ok_or_else(missing)
    }

    /// The queue that a client means: an empty name is the last one declared.
    pub(super) fn queue_name(
        &mut self,
        channel: u16,
        name: &str,
    ) -> Result<QueueName, BrokerError> {
        if !name.is_empty() {
            return Ok(QueueName::from(name));
        }
        self.session
            .last_queue(channel)
            .ok_or(BrokerError::NoPreviousQueue)
    }
}
