//! Topic: binding keys are patterns of words between dots, where `*` stands
//! for exactly one word and `#` for any number, none included (AMQP 0-9-1
//! §3.1.3.3). The empty key has no words; `a..b` has three, one of them empty.
//!
//! The patterns of an exchange form a tree of words. A key is matched by going
//! down the tree; each node is visited at most once per position in the key,
//! so the cost is what the matching part of the tree times the key's words
//! allows, however many `#` a pattern has. Trying all ways of sharing out the
//! words among them would be exponential.
//!
//! Why once: the node of a word or a `*` is entered only from its parent, one
//! position further. Only the node of a `#` goes through all positions that are
//! left, upwards; so whatever is below it is reached at rising positions, too,
//! and the first entry to a further `#` there takes in all later ones.

use std::collections::HashSet;
use std::fmt::Write;
use std::ptr;
use std::sync::Arc;

use leveret_protocol::SmolStr;

use super::binding::Bound;
use super::exchange_type::{ExchangeType, Matcher};
use super::persistent::{HashTrie, List, hash_of};
use super::walk::Scratch;
use super::{Needs, Publish};
use crate::model::ExchangeKind;

pub(super) const TYPE: ExchangeType = ExchangeType {
    kind: ExchangeKind::Topic,
    doc: "Takes messages whose routing key matches a pattern of words, `*` (one word) and \
          `#` (any number of words).",
    picks_one: false,
    needs: |_| Needs::NOTHING,
    matcher: |_, _| Box::new(Topic::default()),
};

#[derive(Clone, Debug, Default)]
struct Topic {
    root: Node,
}

/// What patterns that begin alike go on with.
#[derive(Clone, Debug, Default)]
struct Node {
    words: HashTrie<Edge>,
    star: Option<Arc<Node>>,
    hash: Option<Arc<Node>>,
    /// The bindings whose pattern ends here.
    ends: List<Arc<Bound>>,
}

#[derive(Clone, Debug)]
struct Edge {
    word: SmolStr,
    node: Arc<Node>,
}

/// The words of the key being matched, and how far it got.
#[derive(Debug, Default)]
pub(super) struct TopicScratch {
    words: Vec<Word>,
    /// The nodes of a `#` below another that have been entered.
    entered: HashSet<usize, foldhash::fast::RandomState>,
}

/// A word of the key by its place there.
#[derive(Clone, Copy, Debug)]
struct Word {
    start: usize,
    end: usize,
    hash: u64,
}

/// One key on its way down the tree.
struct Descent<'a> {
    key: &'a str,
    scratch: &'a mut TopicScratch,
    found: &'a mut dyn FnMut(&Arc<Bound>),
}

impl Matcher for Topic {
    fn insert(&mut self, bound: &Arc<Bound>) {
        let mut node = &mut self.root;
        for word in words(&bound.binding.routing_key) {
            node = node.child_mut(word);
        }
        node.ends.push(Arc::clone(bound));
    }

    fn remove(&mut self, bound: &Bound) {
        self.root
            .remove(words(&bound.binding.routing_key), bound.sequence);
    }

    fn matches(
        &self,
        _bindings: &List<Arc<Bound>>,
        publish: &Publish<'_>,
        scratch: &mut Scratch,
        found: &mut dyn FnMut(&Arc<Bound>),
    ) {
        for key in publish.keys {
            scratch.topic.begin(key);
            let mut descent = Descent {
                key,
                scratch: &mut scratch.topic,
                found,
            };
            descent.visit(&self.root, 0, false);
        }
    }

    fn reason(&self, bound: &Bound, publish: &Publish<'_>) -> String {
        let pattern = &bound.binding.routing_key;
        publish
            .keys
            .iter()
            .find_map(|key| explain(pattern, key))
            .unwrap_or_else(|| format!("pattern `{pattern}` matches"))
    }
}

impl Node {
    fn is_empty(&self) -> bool {
        self.words.is_empty() && self.star.is_none() && self.hash.is_none() && self.ends.is_empty()
    }

    fn child_mut(&mut self, word: &str) -> &mut Node {
        let child = match word {
            "*" => self.star.get_or_insert_default(),
            "#" => self.hash.get_or_insert_default(),
            _ => {
                let hash = hash_of(word);
                if self.words.find(hash, |edge| edge.word == word).is_none() {
                    let (word, node) = (SmolStr::new(word), Arc::default());
                    self.words.insert(hash, Edge { word, node });
                }
                let edge = self.words.find_mut(hash, |edge| edge.word == word);
                &mut edge.expect("it has just been inserted if missing").node
            }
        };
        Arc::make_mut(child)
    }

    /// Removes a binding below, and the branches that nothing is left on.
    fn remove<'a>(&mut self, mut words: impl Iterator<Item = &'a str>, sequence: u64) {
        let Some(word) = words.next() else {
            self.ends.remove(sequence);
            return;
        };
        let child = self.child_mut(word);
        child.remove(words, sequence);
        if child.is_empty() {
            match word {
                "*" => self.star = None,
                "#" => self.hash = None,
                _ => {
                    self.words.remove(hash_of(word), |edge| edge.word == word);
                }
            }
        }
    }
}

impl TopicScratch {
    fn begin(&mut self, key: &str) {
        self.words.clear();
        self.entered.clear();
        let mut start = 0;
        for word in words(key) {
            let end = start + word.len();
            let hash = hash_of(word);
            self.words.push(Word { start, end, hash });
            start = end + 1;
        }
    }
}

impl Descent<'_> {
    /// `node` matches the key's words before `position`. `below_hash` says
    /// that it may do so for other positions as well.
    fn visit(&mut self, node: &Node, position: usize, below_hash: bool) {
        if let Some(child) = &node.hash {
            self.visit_hash(child, position, below_hash);
        }
        let Some(word) = self.scratch.words.get(position) else {
            node.ends.iter().for_each(&mut *self.found);
            return;
        };
        let text = &self.key[word.start..word.end];
        if let Some(edge) = node.words.find(word.hash, |edge| edge.word == text) {
            self.visit(&edge.node, position + 1, below_hash);
        }
        if let Some(child) = &node.star {
            self.visit(child, position + 1, below_hash);
        }
    }

    /// A `#` takes no word, or one more, up to all that are left.
    fn visit_hash(&mut self, node: &Node, from: usize, below_hash: bool) {
        let address = ptr::from_ref(node).addr();
        if below_hash && !self.scratch.entered.insert(address) {
            return;
        }
        for position in from..=self.scratch.words.len() {
            self.visit(node, position, true);
        }
    }
}

/// The words of a key or a pattern.
fn words(key: &str) -> impl Iterator<Item = &str> {
    let words = (!key.is_empty()).then(|| key.split('.'));
    words.into_iter().flatten()
}

/// Which words the wildcards stood for, if the pattern matches: each `#` takes
/// as few as it can. Says why; whether is the tree's to say.
fn explain(pattern: &str, key: &str) -> Option<String> {
    let pattern_words: Vec<_> = words(pattern).collect();
    let key_words: Vec<_> = words(key).collect();

    // matches[i][j]: the pattern from its word i on takes the key from word j on.
    let mut matches = vec![vec![false; key_words.len() + 1]; pattern_words.len() + 1];
    matches[pattern_words.len()][key_words.len()] = true;
    for (i, word) in pattern_words.iter().enumerate().rev() {
        for j in (0..=key_words.len()).rev() {
            let rest = key_words.get(j).is_some_and(|key_word| match *word {
                "#" => matches[i][j + 1],
                "*" => matches[i + 1][j + 1],
                word => word == *key_word && matches[i + 1][j + 1],
            });
            matches[i][j] = rest || (*word == "#" && matches[i + 1][j]);
        }
    }
    if !matches[0][0] {
        return None;
    }

    let mut sentence = format!("pattern `{pattern}` matches `{key}`");
    let mut separator = ": ";
    let mut j = 0;
    for (i, word) in pattern_words.iter().enumerate() {
        let start = j;
        if *word == "#" {
            while !matches[i + 1][j] {
                j += 1;
            }
        } else {
            j += 1;
        }
        if *word == "#" || *word == "*" {
            let taken = match &key_words[start..j] {
                [] => "no words".to_owned(),
                [""] => "an empty word".to_owned(),
                taken => taken.join("."),
            };
            // Writing to a string cannot fail.
            let _ = write!(sentence, "{separator}{word} = {taken}");
            separator = ", ";
        }
    }
    Some(sentence)
}
