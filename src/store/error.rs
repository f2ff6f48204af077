//! Why a store does not open.

use std::io;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Something of it cannot be read or written.
    #[error("cannot read or write {name} in the data directory: {cause}")]
    Io {
        /// What.
        name: String,
        /// Why.
        cause: io::Error,
    },
    /// A newer version wrote it.
    #[error(
        "{name} has format version {found}, and this version of Leveret reads up to {known}: \
         start the newer version again"
    )]
    Newer {
        /// Which file.
        name: String,
        /// Its version.
        found: u16,
        /// The newest that is known here.
        known: u16,
    },
}

impl StoreError {
    /// Names what could not be read or written.
    pub(super) fn io(name: &str) -> impl Fn(io::Error) -> Self {
        let name = name.to_owned();
        move |cause| Self::Io {
            name: name.clone(),
            cause,
        }
    }

    pub(super) fn newer(name: &str, found: u16, known: u16) -> Self {
        Self::Newer {
            name: name.to_owned(),
            found,
            known,
        }
    }
}
