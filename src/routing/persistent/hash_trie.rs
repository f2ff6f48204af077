//! A set of values found by their hash: a tree that takes four bits of the
//! hash at each level, with small buckets as its leaves.
//!
//! The caller gives the hash and the comparison, so that a value can be found
//! by any borrowed form of its key. No two equal values are ever in it: that
//! is for the caller, who looks before inserting.

use std::sync::Arc;

/// The set. `T` is cloned with its bucket: make that cheap.
#[derive(Clone, Debug)]
pub struct HashTrie<T> {
    root: Option<Arc<Node<T>>>,
}

#[derive(Clone, Debug)]
enum Node<T> {
    Bucket(Vec<(u64, T)>),
    /// One child for each bit set in `present`, lowest first.
    Branch {
        present: u16,
        children: Vec<Arc<Node<T>>>,
    },
}

impl<T> Default for HashTrie<T> {
    fn default() -> Self {
        Self { root: None }
    }
}

impl<T> HashTrie<T> {
    pub fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    pub fn find(&self, hash: u64, is: impl Fn(&T) -> bool) -> Option<&T> {
        let mut node = self.root.as_deref()?;
        let mut level = 0;
        loop {
            match node {
                Node::Branch { present, children } => {
                    let bit = bit(hash, level);
                    if present & bit == 0 {
                        return None;
                    }
                    node = &children[index(*present, bit)];
                    level += 1;
                }
                Node::Bucket(entries) => {
                    return entries
                        .iter()
                        .find_map(|(other, value)| (*other == hash && is(value)).then_some(value));
                }
            }
        }
    }

    /// All values, in no order that may be shown.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let mut branches: Vec<&[Arc<Node<T>>]> = Vec::new();
        let mut bucket: &[(u64, T)] = &[];
        let mut next = self.root.as_deref();
        std::iter::from_fn(move || {
            loop {
                match next.take() {
                    Some(Node::Bucket(entries)) => bucket = entries,
                    Some(Node::Branch { children, .. }) => branches.push(children),
                    None => {}
                }
                if let Some(((_, value), rest)) = bucket.split_first() {
                    bucket = rest;
                    return Some(value);
                }
                let (child, rest) = branches.pop()?.split_first()?;
                if !rest.is_empty() {
                    branches.push(rest);
                }
                next = Some(child);
            }
        })
    }
}

impl<T: Clone> HashTrie<T> {
    /// The value to change; its path is no longer shared afterwards.
    pub fn find_mut(&mut self, hash: u64, is: impl Fn(&T) -> bool) -> Option<&mut T> {
        let mut node = Arc::make_mut(self.root.as_mut()?);
        let mut level = 0;
        loop {
            match node {
                Node::Branch { present, children } => {
                    let bit = bit(hash, level);
                    if *present & bit == 0 {
                        return None;
                    }
                    node = Arc::make_mut(&mut children[index(*present, bit)]);
                    level += 1;
                }
                Node::Bucket(entries) => {
                    return entries
                        .iter_mut()
                        .find_map(|(other, value)| (*other == hash && is(value)).then_some(value));
                }
            }
        }
    }

    /// Adds a value that is not there yet.
    pub fn insert(&mut self, hash: u64, value: T) {
        match &mut self.root {
            Some(root) => root_insert(root, hash, value),
            None => self.root = Some(Arc::new(Node::Bucket(vec![(hash, value)]))),
        }
    }

    pub fn remove(&mut self, hash: u64, is: impl Fn(&T) -> bool) -> Option<T> {
        // Looking first keeps what is shared when there is nothing to remove.
        self.find(hash, &is)?;
        let root = self.root.as_mut()?;
        let removed = remove_below(root, 0, hash, &is);
        if root.is_empty() {
            self.root = None;
        }
        removed
    }
}

impl<T> Node<T> {
    fn is_empty(&self) -> bool {
        match self {
            Self::Bucket(entries) => entries.is_empty(),
            Self::Branch { children, .. } => children.is_empty(),
        }
    }
}

fn root_insert<T: Clone>(root: &mut Arc<Node<T>>, hash: u64, value: T) {
    let mut node = Arc::make_mut(root);
    let mut level = 0;
    while let Node::Branch { present, children } = node {
        let bit = bit(hash, level);
        let at = index(*present, bit);
        if *present & bit == 0 {
            *present |= bit;
            children.insert(at, Arc::new(Node::Bucket(Vec::new())));
        }
        node = Arc::make_mut(&mut children[at]);
        level += 1;
    }
    if let Node::Bucket(entries) = node {
        entries.push((hash, value));
        if entries.len() > BUCKET_MAX && level < LEVELS {
            *node = split(std::mem::take(entries), level);
        }
    }
}

fn split<T: Clone>(entries: Vec<(u64, T)>, level: u32) -> Node<T> {
    let mut buckets: [Vec<(u64, T)>; 16] = Default::default();
    for (hash, value) in entries {
        buckets[bit(hash, level).trailing_zeros() as usize].push((hash, value));
    }
    let mut present = 0;
    let mut children = Vec::new();
    for (slot, bucket) in buckets.into_iter().enumerate() {
        if !bucket.is_empty() {
            present |= 1 << slot;
            children.push(Arc::new(Node::Bucket(bucket)));
        }
    }
    Node::Branch { present, children }
}

fn remove_below<T: Clone>(
    node: &mut Arc<Node<T>>,
    level: u32,
    hash: u64,
    is: &impl Fn(&T) -> bool,
) -> Option<T> {
    match Arc::make_mut(node) {
        Node::Bucket(entries) => {
            let at = entries
                .iter()
                .position(|(other, value)| *other == hash && is(value))?;
            Some(entries.swap_remove(at).1)
        }
        Node::Branch { present, children } => {
            let bit = bit(hash, level);
            if *present & bit == 0 {
                return None;
            }
            let at = index(*present, bit);
            let removed = remove_below(&mut children[at], level + 1, hash, is);
            if children[at].is_empty() {
                children.remove(at);
                *present &= !bit;
            }
            removed
        }
    }
}

/// The bit that stands for this hash in a branch's `present`.
fn bit(hash: u64, level: u32) -> u16 {
    1 << ((hash >> (level * 4)) & 15)
}

/// Where the child for `bit` is, or would be.
fn index(present: u16, bit: u16) -> usize {
    (present & (bit - 1)).count_ones() as usize
}

/// Values that a bucket holds before it becomes a branch.
const BUCKET_MAX: usize = 12;
/// Levels after which a hash has no bits left; deeper buckets just grow.
const LEVELS: u32 = u64::BITS / 4;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Few distinct hashes, so that whole hashes collide and branches
        /// come and go; every earlier clone must stay what it was.
        #[test]
        fn holds_what_a_set_holds(
            steps in proptest::collection::vec((any::<bool>(), 0u64..200, 0u32..3), 0..300),
            shift in 0u32..60,
        ) {
            let mut trie = HashTrie::default();
            let mut model = BTreeSet::new();
            let mut clones = Vec::new();
            for (insert, number, salt) in steps {
                let (hash, value) = (number << shift, (number, salt));
                let there = model.contains(&value);
                prop_assert_eq!(trie.find(hash, |other| *other == value).is_some(), there);
                if insert && !there {
                    trie.insert(hash, value);
                    model.insert(value);
                } else if !insert {
                    let removed = trie.remove(hash, |other| *other == value);
                    prop_assert_eq!(removed.is_some(), model.remove(&value));
                }
                clones.push((trie.clone(), model.clone()));
            }
            for (trie, model) in clones {
                prop_assert_eq!(trie.iter().copied().collect::<BTreeSet<_>>(), model.clone());
                prop_assert_eq!(trie.iter().count(), model.len());
                prop_assert_eq!(trie.is_empty(), model.is_empty());
            }
        }
    }
}
