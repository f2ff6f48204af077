//! Declaring and deleting exchanges and bindings.

use std::sync::Arc;

use leveret_protocol::SmolStr;

use crate::model::{BrokerError, Destination, Entity, ExchangeName, FieldTable, Now};
use crate::policy;
use crate::routing::Binding;

use super::notices::Event;
use super::vhost::clean_name;
use super::{Requester, Vhost, Wakes};

/// What a client wants an exchange to be.
#[derive(Clone, Debug)]
pub struct ExchangeRequest<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its type's name.
    pub kind: &'a str,
    /// It survives a restart.
    pub durable: bool,
    /// It goes with its last binding.
    pub auto_delete: bool,
    /// Only exchanges publish to it.
    pub internal: bool,
    /// The arguments.
    pub arguments: FieldTable,
}

/// A binding to make or remove.
#[derive(Clone, Debug)]
pub struct BindRequest<'a> {
    /// Where messages come from.
    pub source: &'a str,
    /// Where they go.
    pub destination: Destination,
    /// The binding key.
    pub routing_key: &'a str,
    /// The arguments, which are part of a binding's identity.
    pub arguments: FieldTable,
}

impl Vhost {
    /// Creates an exchange, or checks that the one that is there is the same.
    ///
    /// # Errors
    /// 403 for the default exchange or a reserved name, 406 for an unknown
    /// type, bad or different settings.
    pub fn declare_exchange(
        &self,
        request: ExchangeRequest<'_>,
        requester: &Requester,
    ) -> Result<(), BrokerError> {
        let name = ExchangeName::from(&*clean_name(request.name));
        check_not_default(&name)?;
        let mut settings = policy::exchange_settings(
            &name,
            &self.name,
            request.kind,
            request.durable,
            request.auto_delete,
            request.internal,
            request.arguments,
        )?;
        let mut catalog = self.catalog.lock();
        if let Some(current) = catalog.routing.exchange(name.as_str()) {
            return policy::exchange_equivalent(&name, &self.name, current, &settings);
        }
        if name.is_reserved() {
            return Err(BrokerError::Forbidden(format!(
                "exchange name '{name}' contains reserved prefix 'amq.*'"
            )));
        }
        let reserved = self.number_names(&mut settings);
        if let Some(entries) = self.entries(&catalog.routing, &[]) {
            let put = entries.exchange_declared(&name, &settings);
            self.record(&mut catalog, reserved.into_iter().chain(put).collect());
        }
        self.remember_names(&name, &settings, Vec::new());
        let settings = self.ruled_exchange(&name, settings);
        catalog
            .routing
            .declare_exchange(name.clone(), settings.clone());
        self.changed(&catalog);
        self.tell(|_| self.exchange_created(&name, &settings, &requester.user));
        Ok(())
    }

    /// Checks that an exchange is there, for a passive declare.
    ///
    /// # Errors
    /// 403 for the default exchange, 404 if it is not there.
    pub fn check_exchange(&self, name: &ExchangeName) -> Result<(), BrokerError> {
        check_not_default(name)?;
        match self.catalog.lock().routing.exchange(name.as_str()) {
            Some(_) => Ok(()),
            None => Err(BrokerError::no_exchange(name, &self.name)),
        }
    }

    /// Deletes an exchange with its bindings; a missing one is fine.
    ///
    /// # Errors
    /// 403 for the broker's own exchanges, 406 if it is in use and that was a
    /// condition.
    pub fn delete_exchange(
        &self,
        name: &ExchangeName,
        if_unused: bool,
        requester: &Requester,
    ) -> Result<(), BrokerError> {
        check_not_default(name)?;
        let entity = Entity::Exchange(name.clone(), self.name.clone());
        if name.is_reserved() {
            return Err(BrokerError::Forbidden(format!(
                "deletion of system {entity} not allowed"
            )));
        }
        let mut catalog = self.catalog.lock();
        if if_unused && catalog.routing.exchange_in_use(name.as_str()) {
            return Err(BrokerError::Precondition(format!("{entity} in use")));
        }
        let entries = self.entries(&catalog.routing, &[]);
        let before = self.before_events(&catalog.routing);
        let removed = catalog.routing.delete_exchange(name.as_str());
        if removed.existed {
            if let Some(before) = before {
                let mut gone = vec![name.clone()];
                gone.extend_from_slice(&removed.auto_deleted);
                self.tell_gone(&before, &gone, &[], &requester.user);
            }
            if let Some(entries) = entries {
                let changes = entries.exchange_deleted(name, &removed.auto_deleted);
                self.record(&mut catalog, changes);
            }
            self.forget_names(removed.auto_deleted.iter().chain([name]));
            self.changed(&catalog);
            self.exchanges_gone(&catalog.routing);
        }
        Ok(())
    }

    /// Makes a binding; one that is there already is fine. If the source keeps
    /// a history, the destination gets it.
    ///
    /// # Errors
    /// 403 for the default exchange, 404 if either end is missing, 405 for
    /// another connection's queue, 406 for bad arguments.
    pub fn bind(
        &self,
        request: BindRequest<'_>,
        requester: &Requester,
        now: Now,
        wakes: &mut Wakes,
    ) -> Result<(), BrokerError> {
        let binding = self.binding(request)?;
        // Under the catalog's lock, so that the queue cannot go in between.
        let mut catalog = self.catalog.lock();
        if let Destination::Queue(queue) = &binding.destination {
            self.queue(queue, requester)?;
        }
        let entries = self.entries(&catalog.routing, &[]);
        let histories = self.histories.lock();
        match catalog.routing.bind(binding.clone()) {
            Ok(true) => {
                if let Some(entries) = entries {
                    self.record(&mut catalog, Vec::from_iter(entries.bound(&binding)));
                }
                self.changed(&catalog);
                self.tell(|_| Event::binding_created(&self.name, &binding, &requester.user));
                self.replay(&histories, &catalog.routing, &binding, now, wakes);
                Ok(())
            }
            Ok(false) => Ok(()),
            Err(refused) => Err(self.bind_refused(refused, &binding.source, &binding.destination)),
        }
    }

    /// Removes a binding; a missing one is fine.
    ///
    /// # Errors
    /// 403 for the default exchange, 405 for another connection's queue.
    pub fn unbind(
        &self,
        request: BindRequest<'_>,
        requester: &Requester,
    ) -> Result<(), BrokerError> {
        let binding = self.binding(request)?;
        let mut catalog = self.catalog.lock();
        if let Destination::Queue(queue) = &binding.destination
            && let Some(host) = self.find_queue(queue.as_str())
        {
            host.check_owner(requester.connection)?;
        }
        let entries = self.entries(&catalog.routing, &[]);
        let before = self.before_events(&catalog.routing);
        let removed = catalog.routing.unbind(&binding);
        if removed.existed {
            if let Some(before) = before {
                let gone = &removed.auto_deleted;
                self.tell_gone(&before, gone, &[&binding], &requester.user);
            }
            if let Some(entries) = entries {
                let changes = entries.unbound(&binding, &removed.auto_deleted);
                self.record(&mut catalog, changes);
            }
            self.forget_names(&removed.auto_deleted);
            self.changed(&catalog);
            if !removed.auto_deleted.is_empty() {
                self.exchanges_gone(&catalog.routing);
            }
        }
        Ok(())
    }

    fn binding(&self, request: BindRequest<'_>) -> Result<Binding, BrokerError> {
        let source = ExchangeName::from(request.source);
        check_not_default(&source)?;
        if let Destination::Exchange(destination) = &request.destination {
            check_not_default(destination)?;
        }
        Ok(Binding {
            source,
            destination: request.destination,
            routing_key: SmolStr::new(request.routing_key),
            arguments: Arc::new(request.arguments),
        })
    }
}

fn check_not_default(exchange: &ExchangeName) -> Result<(), BrokerError> {
    if exchange.is_default() {
        let text = "operation not permitted on the default exchange";
        return Err(BrokerError::Forbidden(text.to_owned()));
    }
    Ok(())
}
