//! A list in order of sequence numbers, in chunks, so that appending or
//! removing copies one chunk and the list of chunks instead of everything.

use std::sync::Arc;

/// What a [`List`] holds: something that was numbered when it was made.
pub trait Sequenced {
    fn sequence(&self) -> u64;
}

/// The list. Most hold one element: a direct binding's key, a pattern's end.
#[derive(Clone, Debug, Default)]
pub enum List<T> {
    #[default]
    Empty,
    One(T),
    Chunks(Arc<Vec<Arc<Vec<T>>>>),
}

impl<T> List<T> {
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    pub fn len(&self) -> usize {
        self.slices().map(<[T]>::len).sum()
    }

    /// The elements, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.slices().flatten()
    }

    /// The element that so many are older than.
    pub fn get(&self, mut place: usize) -> Option<&T> {
        for slice in self.slices() {
            match slice.get(place) {
                Some(element) => return Some(element),
                None => place -= slice.len(),
            }
        }
        None
    }

    fn slices(&self) -> impl Iterator<Item = &[T]> {
        let (one, chunks): (Option<&[T]>, &[Arc<Vec<T>>]) = match self {
            Self::Empty => (None, &[]),
            Self::One(element) => (Some(std::slice::from_ref(element)), &[]),
            Self::Chunks(chunks) => (None, chunks),
        };
        one.into_iter()
            .chain(chunks.iter().map(|chunk| chunk.as_slice()))
    }
}

impl<T: Sequenced> List<T> {
    pub fn contains(&self, sequence: u64) -> bool {
        match self {
            Self::Empty => false,
            Self::One(element) => element.sequence() == sequence,
            Self::Chunks(chunks) => place(chunks, sequence).is_some(),
        }
    }
}

impl<T: Clone + Sequenced> List<T> {
    /// Appends an element whose number is above all others.
    pub fn push(&mut self, element: T) {
        match self {
            Self::Empty => *self = Self::One(element),
            Self::One(first) => {
                debug_assert!(first.sequence() < element.sequence(), "out of sequence");
                let chunk = Arc::new(vec![first.clone(), element]);
                *self = Self::Chunks(Arc::new(vec![chunk]));
            }
            Self::Chunks(chunks) => {
                let chunks = Arc::make_mut(chunks);
                match chunks.last_mut() {
                    Some(chunk) if chunk.len() < CHUNK_MAX => Arc::make_mut(chunk).push(element),
                    _ => chunks.push(Arc::new(vec![element])),
                }
            }
        }
    }

    /// Takes out the element of that number, if it is there.
    pub fn remove(&mut self, sequence: u64) -> Option<T> {
        match self {
            Self::Empty => None,
            Self::One(element) if element.sequence() != sequence => None,
            Self::One(_) => match std::mem::take(self) {
                Self::One(element) => Some(element),
                Self::Empty | Self::Chunks(_) => None,
            },
            Self::Chunks(chunks) => {
                let (at, within) = place(chunks, sequence)?;
                let chunks = Arc::make_mut(chunks);
                let chunk = Arc::make_mut(&mut chunks[at]);
                let removed = chunk.remove(within);
                if chunk.is_empty() {
                    chunks.remove(at);
                }
                if chunks.is_empty() {
                    *self = Self::Empty;
                }
                Some(removed)
            }
        }
    }
}

/// In which chunk, and where there.
fn place<T: Sequenced>(chunks: &[Arc<Vec<T>>], sequence: u64) -> Option<(usize, usize)> {
    let ends_before =
        |chunk: &Arc<Vec<T>>| chunk.last().is_none_or(|last| last.sequence() < sequence);
    let at = chunks.partition_point(ends_before);
    let within = chunks.get(at)?.binary_search_by_key(&sequence, T::sequence);
    Some((at, within.ok()?))
}

/// Elements of a chunk: 10,000 bindings are 157 chunks of at most 64.
const CHUNK_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl Sequenced for u64 {
        fn sequence(&self) -> u64 {
            *self
        }
    }

    proptest! {
        #[test]
        fn holds_what_a_vector_holds(
            steps in proptest::collection::vec((0u8..3, 0u64..300), 0..400),
        ) {
            let mut list = List::default();
            let mut model = Vec::new();
            let mut clones = Vec::new();
            for (next, (action, number)) in steps.into_iter().enumerate() {
                if action == 0 {
                    let removed = list.remove(number);
                    let at = model.iter().position(|other| *other == number);
                    prop_assert_eq!(removed, at.map(|at| model.remove(at)));
                } else {
                    list.push(next as u64);
                    model.push(next as u64);
                }
                clones.push((list.clone(), model.clone()));
            }
            for (list, model) in clones {
                prop_assert_eq!(list.iter().copied().collect::<Vec<_>>(), model.clone());
                for place in 0..=model.len() {
                    prop_assert_eq!(list.get(place), model.get(place));
                }
                prop_assert_eq!((list.len(), list.is_empty()), (model.len(), model.is_empty()));
            }
        }
    }
}
