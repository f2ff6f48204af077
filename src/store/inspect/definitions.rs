//! The definitions of a directory that is not to be changed: read from a copy
//! in memory, because opening a database may write to it.

use std::io;

use foldhash::HashMap;
use redb::backends::InMemoryBackend;
use redb::{DatabaseError, StorageBackend};
use serde::Serialize;

use crate::model::QueueId;
use crate::store::database::DEFINITIONS_NAME;
use crate::store::metadata::{Definitions, Metadata, MetadataError};

use super::read_only::ReadOnly;

/// What the definitions hold.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct DefinitionsSummary {
    /// Virtual hosts with something durable in them.
    pub vhosts: usize,
    /// Durable exchanges, without those that every virtual host has.
    pub exchanges: usize,
    /// Durable queues.
    pub queues: usize,
    /// Bindings between durable things.
    pub bindings: usize,
    /// The first id that no durable queue ever had.
    pub next_queue_id: u64,
    /// The broker did not close them: its next start puts them in order.
    pub needs_repair: bool,
}

/// Definitions, and whether the next start has to put them in order.
#[derive(Debug)]
pub(super) struct ReadDefinitions {
    pub(super) definitions: Definitions,
    pub(super) needs_repair: bool,
}

/// Virtual host and name of each durable queue.
pub(super) type Names = HashMap<QueueId, (String, String)>;

impl ReadDefinitions {
    /// # Errors
    /// If the file is missing, empty, damaged or of a newer version.
    pub(super) fn read(files: &ReadOnly) -> Result<Self, MetadataError> {
        let octets = files.read(DEFINITIONS_NAME)?;
        if octets.is_empty() {
            // The database would take it for a new one of its own: then all
            // messages would seem to be nobody's.
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is empty").into());
        }
        let (metadata, definitions) = Metadata::open(copy(&octets)?)?;
        metadata.close();
        // Only now, when it is known to be sound.
        let read_only = redb::Builder::new().open_read_only_with_backend(copy(&octets)?);
        Ok(Self {
            definitions,
            needs_repair: matches!(read_only, Err(DatabaseError::RepairAborted)),
        })
    }

    pub(super) fn summary(&self) -> DefinitionsSummary {
        let vhosts = &self.definitions.vhosts;
        DefinitionsSummary {
            vhosts: vhosts.len(),
            exchanges: vhosts.iter().map(|vhost| vhost.exchanges.len()).sum(),
            queues: vhosts.iter().map(|vhost| vhost.queues.len()).sum(),
            bindings: vhosts.iter().map(|vhost| vhost.bindings.len()).sum(),
            next_queue_id: self.definitions.next_queue_id.0,
            needs_repair: self.needs_repair,
        }
    }

    pub(super) fn names(&self) -> Names {
        let mut names = Names::default();
        for vhost in &self.definitions.vhosts {
            for (name, id, _) in &vhost.queues {
                names.insert(*id, (vhost.name.to_string(), name.to_string()));
            }
        }
        names
    }
}

fn copy(octets: &[u8]) -> io::Result<InMemoryBackend> {
    let copy = InMemoryBackend::new();
    copy.set_len(octets.len() as u64)?;
    copy.write(0, octets)?;
    Ok(copy)
}
