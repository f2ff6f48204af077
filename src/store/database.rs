//! The definitions' database on the store's own files, so that faults can be
//! put into all of them at one place.

use std::io;
use std::sync::Arc;

use redb::StorageBackend;

use super::files::{self, Files, StoreFile};
use super::log::log_number;
use super::metadata::{Metadata, MetadataError};
use super::segment::segment_number;

/// A file as redb wants it. The directory's lock keeps others out.
#[derive(Debug)]
struct DatabaseFile(Arc<dyn StoreFile>);

/// The file of the definitions, created if it is missing. A database that was
/// only half made is none: it gets its name when it is whole, so that whatever
/// ends the first start, the second one finds a database or none.
///
/// # Errors
/// If it cannot be opened or created, or is missing or empty although there are
/// messages: without their queues' definitions they would be removed.
pub fn definitions_file(files: &dyn Files) -> Result<impl StorageBackend + use<>, MetadataError> {
    let found = match files.open(DEFINITIONS_NAME) {
        Ok(file) if file.len()? == 0 => Err(io::ErrorKind::NotFound.into()),
        other => other,
    };
    match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(name) = messages_in(files)? {
                let text = format!(
                    "{DEFINITIONS_NAME} is missing or empty although there is {name}; put it \
                     back, or save the messages with leveret inspect --repair"
                );
                return Err(io::Error::new(io::ErrorKind::NotFound, text).into());
            }
            let file = files.create(UNFINISHED_NAME)?;
            let (metadata, _) = Metadata::open(DatabaseFile(Arc::clone(&file)))?;
            metadata.close();
            file.sync()?;
            files.rename(UNFINISHED_NAME, DEFINITIONS_NAME)?;
            files.sync_names()?;
            Ok(DatabaseFile(file))
        }
        other => {
            let file = DatabaseFile(other?);
            file.fill_holes()?;
            Ok(file)
        }
    }
}

impl DatabaseFile {
    /// Gives room to a file that an older version made, where there is some.
    fn fill_holes(&self) -> io::Result<()> {
        match self.0.allocate(self.0.len()?) {
            Err(error) if files::is_full(&error) => Ok(()),
            other => other,
        }
    }
}

/// A file that may hold messages, if there is one.
fn messages_in(files: &dyn Files) -> io::Result<Option<String>> {
    let mut names = files.names()?.into_iter();
    Ok(names.find(|name| {
        log_number(name).is_some() || segment_number(name).is_some_and(|segment| !segment.scratch)
    }))
}

impl StorageBackend for DatabaseFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if self.0.read_at(out, offset)? < out.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    /// A longer file has all its blocks, with zeros in them: deleting, which may
    /// be what makes room on a full disk, takes pages that the database has
    /// already, and what is written into them needs nothing more than its sync.
    fn set_len(&self, len: u64) -> io::Result<()> {
        let before = self.0.len()?;
        if len <= before {
            return self.0.set_len(len);
        }
        let file = &*self.0;
        if let Err(error) = files::lay_out(file, before, len) {
            // Part of it may be there.
            file.set_len(before)?;
            return Err(error);
        }
        file.sync().map_err(files::never_full)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(data, offset)
    }
}

const UNFINISHED_NAME: &str = "metadata.new";
/// The name of the definitions' file.
pub const DEFINITIONS_NAME: &str = "metadata.redb";
