//! The tables: opening them, reading everything, writing a batch.

use std::collections::{BTreeMap, HashSet};

use redb::{
    Builder, Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable,
    StorageBackend, TableDefinition, TableError, WriteTransaction,
};

use crate::model::{QueueId, VhostName};
use crate::routing::Binding;

use super::MetadataError;
use super::change::{Change, Definitions, VhostDefinitions};
use super::rows::{self, Malformed};

type Rows = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// Numbers about the whole: [`FORMAT`] and [`NEXT_QUEUE_ID`].
const META: TableDefinition<'static, &'static str, u64> = TableDefinition::new("meta");
const VHOSTS: Rows = TableDefinition::new("vhosts");
const EXCHANGES: Rows = TableDefinition::new("exchanges");
const QUEUES: Rows = TableDefinition::new("queues");
const BINDINGS: Rows = TableDefinition::new("bindings");

/// Opens the database, and makes the tables if it is new.
pub(super) fn open(backend: &(impl StorageBackend + Clone)) -> Result<Database, MetadataError> {
    let database = create(backend).map_err(Box::new)?;
    match format(&database)? {
        Some(FORMAT_VERSION) => {}
        Some(found) if found > FORMAT_VERSION => {
            return Err(MetadataError::Newer {
                found,
                known: FORMAT_VERSION,
            });
        }
        // There is no older one yet; migrations will start here.
        Some(found) => return Err(damaged("meta", FORMAT, format!("unknown format {found}"))),
        None => found(&database).map_err(Box::new)?,
    }
    Ok(database)
}

/// All rows, and the sequence of the next binding.
pub(super) fn load(database: &Database) -> Result<(Definitions, u64), MetadataError> {
    let transaction = database.begin_read().map_err(boxed)?;
    let mut vhosts: BTreeMap<VhostName, VhostDefinitions> = BTreeMap::new();
    for_each(&transaction, VHOSTS, "vhosts", |key, value| {
        let name = rows::read_vhost_key(key)?;
        rows::read_vhost(value)?;
        let vhost = VhostDefinitions {
            name: name.clone(),
            ..VhostDefinitions::default()
        };
        vhosts.insert(name, vhost);
        Ok(())
    })?;
    let next_queue_id = next_queue_id(&transaction)?;
    let mut ids = HashSet::new();
    for_each(&transaction, EXCHANGES, "exchanges", |key, value| {
        let (vhost, name) = rows::read_named_key(key)?;
        let settings = rows::read_exchange(value)?;
        if let Some(id) = settings.names_id
            && (id >= next_queue_id || !ids.insert(id))
        {
            return Err(format!("its id {} is not its own", id.0));
        }
        let vhost = known(&mut vhosts, &vhost)?;
        vhost.exchanges.push((name.as_str().into(), settings));
        Ok(())
    })?;
    for_each(&transaction, QUEUES, "queues", |key, value| {
        let (vhost, name) = rows::read_named_key(key)?;
        let (id, settings) = rows::read_queue(value)?;
        if id >= next_queue_id || !ids.insert(id) {
            return Err(format!("its id {} is not its own", id.0));
        }
        let vhost = known(&mut vhosts, &vhost)?;
        vhost.queues.push((name.as_str().into(), id, settings));
        Ok(())
    })?;
    let mut bindings: BTreeMap<u64, (VhostName, Binding)> = BTreeMap::new();
    for_each(&transaction, BINDINGS, "bindings", |key, value| {
        let (vhost, sequence, binding) = rows::read_binding(key, value)?;
        known(&mut vhosts, &vhost)?;
        match bindings.insert(sequence, (vhost, binding)) {
            None => Ok(()),
            Some(_) => Err(format!("its sequence {sequence} is another's as well")),
        }
    })?;
    let last = bindings.last_key_value().map_or(0, |(last, _)| *last);
    for (vhost, binding) in bindings.into_values() {
        if let Some(vhost) = vhosts.get_mut(&vhost) {
            vhost.bindings.push(binding);
        }
    }
    let definitions = Definitions {
        vhosts: vhosts.into_values().collect(),
        next_queue_id,
    };
    Ok((definitions, last.saturating_add(1)))
}

/// Writes changes in one transaction, which is on disk when this returns.
pub(super) fn write(
    database: &Database,
    changes: &[Change],
    next_binding: &mut u64,
) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    apply(&transaction, changes, next_binding)?;
    transaction.commit()?;
    Ok(())
}

/// Opens the database itself.
pub(super) fn create(backend: &(impl StorageBackend + Clone)) -> Result<Database, redb::Error> {
    let database = Builder::new()
        .set_cache_size(CACHE_BYTES)
        // Without it, redb may panic at a file that something else has changed.
        .set_check_integrity_on_open(true)
        .create_with_backend(backend.clone())?;
    Ok(database)
}

fn apply(
    transaction: &WriteTransaction,
    changes: &[Change],
    next_binding: &mut u64,
) -> Result<(), redb::Error> {
    let mut meta = transaction.open_table(META)?;
    let mut vhosts = transaction.open_table(VHOSTS)?;
    let mut exchanges = transaction.open_table(EXCHANGES)?;
    let mut queues = transaction.open_table(QUEUES)?;
    let mut bindings = transaction.open_table(BINDINGS)?;
    let mut next_queue_id = None;
    for change in changes {
        match change {
            Change::PutVhost(name) => {
                vhosts.insert(&*rows::vhost_key(name), rows::VHOST_VALUE)?;
            }
            Change::PutExchange(vhost, name, settings) => {
                let key = rows::named_key(vhost, name.as_str());
                exchanges.insert(&*key, &*rows::exchange_value(settings))?;
            }
            Change::DeleteExchange(vhost, name) => {
                exchanges.remove(&*rows::named_key(vhost, name.as_str()))?;
            }
            Change::PutQueue(vhost, name, id, settings) => {
                let key = rows::named_key(vhost, name.as_str());
                queues.insert(&*key, &*rows::queue_value(*id, settings))?;
                next_queue_id = next_queue_id.max(Some(id.0.saturating_add(1)));
            }
            Change::DeleteQueue(vhost, name) => {
                queues.remove(&*rows::named_key(vhost, name.as_str()))?;
            }
            Change::Bind(vhost, binding) => {
                let value = rows::binding_value(*next_binding, binding);
                bindings.insert(&*rows::binding_key(vhost, binding), &*value)?;
                *next_binding = next_binding.saturating_add(1);
            }
            Change::Unbind(vhost, binding) => {
                bindings.remove(&*rows::binding_key(vhost, binding))?;
            }
            Change::ReserveQueueIds(next) => {
                next_queue_id = next_queue_id.max(Some(next.0));
            }
        }
    }
    if let Some(next) = next_queue_id {
        let known = meta.get(NEXT_QUEUE_ID)?.map(|known| known.value());
        if known.is_none_or(|known| known < next) {
            meta.insert(NEXT_QUEUE_ID, next)?;
        }
    }
    Ok(())
}

/// The format of what is there; `None` in a new database.
fn format(database: &Database) -> Result<Option<u64>, MetadataError> {
    let transaction = database.begin_read().map_err(boxed)?;
    let format = match transaction.open_table(META) {
        Ok(meta) => meta
            .get(FORMAT)
            .map_err(boxed)?
            .map(|format| format.value()),
        Err(TableError::TableDoesNotExist(_)) => None,
        Err(error) => return Err(boxed(error).into()),
    };
    if format.is_none() && transaction.list_tables().map_err(boxed)?.next().is_some() {
        return Err(damaged("meta", FORMAT, "it is missing".to_owned()));
    }
    Ok(format)
}

/// Makes the tables of a new database.
fn found(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert(FORMAT, FORMAT_VERSION)?;
        meta.insert(NEXT_QUEUE_ID, Definitions::default().next_queue_id.0)?;
        for table in [VHOSTS, EXCHANGES, QUEUES, BINDINGS] {
            transaction.open_table(table)?;
        }
    }
    transaction.commit()?;
    Ok(())
}

fn next_queue_id(transaction: &ReadTransaction) -> Result<QueueId, MetadataError> {
    let meta = transaction.open_table(META).map_err(boxed)?;
    let next = meta.get(NEXT_QUEUE_ID).map_err(boxed)?;
    let missing = || damaged("meta", NEXT_QUEUE_ID, "it is missing".to_owned());
    next.map(|next| QueueId(next.value())).ok_or_else(missing)
}

/// Hands every row to `read`, and says which one it does not understand.
fn for_each(
    transaction: &ReadTransaction,
    table: Rows,
    name: &'static str,
    mut read: impl FnMut(&[u8], &[u8]) -> Result<(), Malformed>,
) -> Result<(), MetadataError> {
    let table = transaction.open_table(table).map_err(boxed)?;
    for row in table.iter().map_err(boxed)? {
        let (key, value) = row.map_err(boxed)?;
        let key = key.value();
        read(key, value.value())
            .map_err(|why| damaged(name, &key.escape_ascii().to_string(), why))?;
    }
    Ok(())
}

fn known<'a>(
    vhosts: &'a mut BTreeMap<VhostName, VhostDefinitions>,
    name: &VhostName,
) -> Result<&'a mut VhostDefinitions, Malformed> {
    let missing = || format!("there is no vhost '{name}'");
    vhosts.get_mut(name).ok_or_else(missing)
}

fn damaged(table: &'static str, key: &str, why: String) -> MetadataError {
    MetadataError::Damaged {
        table,
        key: key.to_owned(),
        why,
    }
}

fn boxed(error: impl Into<redb::Error>) -> Box<redb::Error> {
    Box::new(error.into())
}

/// Of the whole: which tables there are and how their keys look. Values have
/// versions of their own.
pub(super) const FORMAT_VERSION: u64 = 1;

/// Keys of the meta table.
const FORMAT: &str = "format";
const NEXT_QUEUE_ID: &str = "next_queue_id";

/// Definitions are read once, at the start; what is written is small.
const CACHE_BYTES: usize = 4 * 1024 * 1024;

#[cfg(test)]
pub(super) mod for_tests {
    //! What tests do to a database behind the back of [`super::super::Metadata`].

    use super::*;

    /// Writes the entry of the meta table.
    pub fn set_format(backend: &(impl StorageBackend + Clone), format: u64) {
        let database = create(backend).expect("it opens");
        let transaction = database.begin_write().expect("nobody else writes");
        let mut meta = transaction.open_table(META).expect("the table is there");
        meta.insert(FORMAT, format).expect("it takes it");
        drop(meta);
        transaction.commit().expect("it is written");
    }

    /// Writes any row.
    pub fn put(backend: &(impl StorageBackend + Clone), table: &str, key: &[u8], value: &[u8]) {
        let database = create(backend).expect("it opens");
        let transaction = database.begin_write().expect("nobody else writes");
        let rows: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new(table);
        let mut rows = transaction.open_table(rows).expect("the table is there");
        rows.insert(key, value).expect("it takes it");
        drop(rows);
        transaction.commit().expect("it is written");
    }
}
