//! Collections whose clones share what did not change since.
//!
//! A snapshot is published after every bind, so copying all bindings each time
//! would make 10,000 binds cost 50,000,000 copies. Here a change copies the
//! few small nodes on its path, and only those that a clone still shares.

mod hash_trie;
mod list;

use std::hash::{BuildHasher, Hash};
use std::sync::LazyLock;

pub use hash_trie::HashTrie;
pub use list::{List, Sequenced};

/// The hash under which a value is kept in a [`HashTrie`].
pub fn hash_of<T: Hash + ?Sized>(value: &T) -> u64 {
    KEYS.hash_one(value)
}

/// Keyed at random, because peers choose the names and keys: without that they
/// could choose ones that collide. Nothing shows in which order hashes sort.
static KEYS: LazyLock<foldhash::quality::RandomState> = LazyLock::new(Default::default);
