//! Keys and values of the tables, octet for octet as `docs/storage.md` has
//! them. What is read may be anything: every length is checked against what is
//! there, and nothing may be left over.

use std::sync::Arc;

use leveret_protocol::{Limits, SmolStr, Writer, table};

use crate::model::{
    Destination, ExchangeKind, ExchangeName, ExchangeSettings, FieldTable, QueueId, QueueSettings,
    VhostName,
};
use crate::routing::Binding;

/// What is wrong with a row.
pub(super) type Malformed = String;

/// The key of an exchange or queue.
pub(super) fn named_key(vhost: &VhostName, name: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(2 + vhost.as_str().len() + name.len());
    put_name(&mut key, vhost.as_str());
    put_name(&mut key, name);
    key
}

/// Virtual host and name of an exchange or queue.
pub(super) fn read_named_key(key: &[u8]) -> Result<(VhostName, SmolStr), Malformed> {
    let mut fields = Fields(key);
    let vhost = fields.name()?;
    let name = fields.name()?;
    fields.end()?;
    Ok((vhost.as_str().into(), name))
}

/// The key of a virtual host.
pub(super) fn vhost_key(vhost: &VhostName) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + vhost.as_str().len());
    put_name(&mut key, vhost.as_str());
    key
}

/// A virtual host's name.
pub(super) fn read_vhost_key(key: &[u8]) -> Result<VhostName, Malformed> {
    let mut fields = Fields(key);
    let vhost = fields.name()?;
    fields.end()?;
    Ok(vhost.as_str().into())
}

/// The value of a virtual host: nothing but its version.
pub(super) const VHOST_VALUE: &[u8] = &[VERSION];

/// Checks the value of a virtual host.
pub(super) fn read_vhost(value: &[u8]) -> Result<(), Malformed> {
    let mut fields = Fields(value);
    fields.version()?;
    fields.end()
}

/// The value of an exchange.
pub(super) fn exchange_value(settings: &ExchangeSettings) -> Vec<u8> {
    let mut value = vec![VERSION];
    let auto_delete = if settings.auto_delete { AUTO_DELETE } else { 0 };
    let internal = if settings.internal { INTERNAL } else { 0 };
    let names = if settings.names_id.is_some() {
        NAMES
    } else {
        0
    };
    value.push(auto_delete | internal | names);
    if let Some(id) = settings.names_id {
        value.extend_from_slice(&id.0.to_be_bytes());
    }
    put_name(&mut value, settings.kind.name());
    table::encode(&mut value, &settings.arguments);
    value
}

/// An exchange as declared; its alternate is among the arguments.
pub(super) fn read_exchange(value: &[u8]) -> Result<ExchangeSettings, Malformed> {
    let mut fields = Fields(value);
    fields.version()?;
    let flags = fields.flags(AUTO_DELETE | INTERNAL | NAMES)?;
    let names_id = match flags & NAMES {
        0 => None,
        _ => Some(QueueId(fields.number()?)),
    };
    let kind = fields.name()?;
    let arguments = fields.table()?;
    fields.end()?;
    let kind =
        ExchangeKind::from_name(&kind).ok_or_else(|| format!("unknown exchange type '{kind}'"))?;
    Ok(ExchangeSettings {
        auto_delete: flags & AUTO_DELETE != 0,
        internal: flags & INTERNAL != 0,
        names_id,
        arguments: Arc::new(arguments),
        ..ExchangeSettings::new(kind)
    })
}

/// The value of a queue.
pub(super) fn queue_value(id: QueueId, settings: &QueueSettings) -> Vec<u8> {
    let mut value = vec![VERSION];
    value.push(if settings.auto_delete { AUTO_DELETE } else { 0 });
    value.extend_from_slice(&id.0.to_be_bytes());
    table::encode(&mut value, &settings.arguments);
    value
}

/// A queue's id, and how it was declared.
pub(super) fn read_queue(value: &[u8]) -> Result<(QueueId, QueueSettings), Malformed> {
    let mut fields = Fields(value);
    fields.version()?;
    let flags = fields.flags(AUTO_DELETE)?;
    let id = QueueId(fields.number()?);
    let arguments = fields.table()?;
    fields.end()?;
    let settings = QueueSettings {
        durable: true,
        auto_delete: flags & AUTO_DELETE != 0,
        arguments: Arc::new(arguments),
        ..QueueSettings::default()
    };
    Ok((id, settings))
}

/// The key of a binding: all of it, its arguments sorted, because their order
/// has no meaning.
pub(super) fn binding_key(vhost: &VhostName, binding: &Binding) -> Vec<u8> {
    let mut key = vhost_key(vhost);
    put_name(&mut key, binding.source.as_str());
    let (kind, destination) = match &binding.destination {
        Destination::Queue(name) => (TO_QUEUE, name.as_str()),
        Destination::Exchange(name) => (TO_EXCHANGE, name.as_str()),
    };
    key.push(kind);
    put_name(&mut key, destination);
    put_name(&mut key, &binding.routing_key);
    let mut sorted: Vec<_> = binding.arguments.iter().collect();
    sorted.sort_by_key(|(name, _)| *name);
    let sorted = sorted.into_iter().map(|(k, v)| (k.clone(), v.clone()));
    table::encode(&mut key, &sorted.collect());
    key
}

/// The value of a binding; `sequence` grows with each that is made.
pub(super) fn binding_value(sequence: u64, binding: &Binding) -> Vec<u8> {
    let mut value = vec![VERSION];
    value.extend_from_slice(&sequence.to_be_bytes());
    table::encode(&mut value, &binding.arguments);
    value
}

/// A binding with its virtual host and sequence.
pub(super) fn read_binding(
    key: &[u8],
    value: &[u8],
) -> Result<(VhostName, u64, Binding), Malformed> {
    let mut fields = Fields(value);
    fields.version()?;
    let sequence = fields.number()?;
    let arguments = fields.table()?;
    fields.end()?;

    let mut fields = Fields(key);
    let vhost = VhostName::from(fields.name()?.as_str());
    let source = ExchangeName::from(fields.name()?.as_str());
    let kind = fields.octet()?;
    let destination = fields.name()?;
    let destination = match kind {
        TO_QUEUE => Destination::Queue(destination.as_str().into()),
        TO_EXCHANGE => Destination::Exchange(destination.as_str().into()),
        other => return Err(format!("unknown kind of destination {other}")),
    };
    let binding = Binding {
        source,
        destination,
        routing_key: fields.name()?,
        arguments: Arc::new(arguments),
    };
    if binding_key(&vhost, &binding) != key {
        return Err("key and value have different arguments".to_owned());
    }
    Ok((vhost, sequence, binding))
}

/// Names are short strings wherever they come from.
fn put_name(out: &mut Vec<u8>, name: &str) {
    debug_assert!(name.len() <= 255, "a name longer than any gateway lets in");
    Writer::new(out).shortstr(name);
}

/// Takes one field after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or("it is cut off")?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or("it is cut off")?;
        self.0 = rest;
        Ok(*taken)
    }

    fn octet(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    fn number(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    fn version(&mut self) -> Result<(), Malformed> {
        match self.octet()? {
            VERSION => Ok(()),
            other => Err(format!(
                "its version is {other}, and only {VERSION} is known"
            )),
        }
    }

    fn flags(&mut self, known: u8) -> Result<u8, Malformed> {
        let flags = self.octet()?;
        if flags & !known != 0 {
            return Err(format!("unknown flags {:#04x}", flags & !known));
        }
        Ok(flags)
    }

    fn name(&mut self) -> Result<SmolStr, Malformed> {
        let length = self.octet()?;
        let octets = self.take(length.into())?;
        let name = std::str::from_utf8(octets).map_err(|_| "a name is not UTF-8")?;
        Ok(SmolStr::new(name))
    }

    fn table(&mut self) -> Result<FieldTable, Malformed> {
        let length = u32::from_be_bytes(self.array()?);
        let octets = self.take(length as usize)?;
        table::decode(octets, &LIMITS).map_err(|error| error.to_string())
    }

    fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(format!("{} octets are left over", self.0.len()))
        }
    }
}

/// The version of all values; each starts with it.
const VERSION: u8 = 1;

/// Flags of exchanges and queues. That they are durable goes without saying.
const AUTO_DELETE: u8 = 1;
const INTERNAL: u8 = 2;
/// Of an exchange that remembers names: a number follows.
const NAMES: u8 = 4;

/// Kinds of destinations.
const TO_QUEUE: u8 = b'q';
const TO_EXCHANGE: u8 = b'x';

/// What was once accepted is read, whatever limits hold for clients today.
const LIMITS: Limits = Limits {
    frame_max: u32::MAX,
    table_depth_max: u8::MAX,
    table_entries_max: u32::MAX,
};
