//! Who wants what: a table from selectors to whatever is kept for them, asked by channel.
//!
//! Channels are found by their hash. Patterns stand in two tries: under the literal bytes that a
//! name has to begin with, or under those it has to end with when they are more. So a match costs
//! the length of the name and the patterns that are open at both ends or in the middle, and no scan:
//! of those at most [`crate::limits::ALIKE_MAX`] share a place.

mod trie;

use crate::Selector;
use crate::selector::{Shape, escaped};
use std::collections::HashMap;
use std::sync::Arc;
use trie::Trie;

/// How many subscribers a node has to a selector, in a queue group or outside of any: what its
/// router tells the leader's hub. It says all there is, so that saying it again changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InterestChange {
    /// In which namespace.
    pub namespace: Arc<str>,
    /// To what.
    pub selector: Selector,
    /// In which queue group, or outside of any.
    pub group: Option<Arc<str>>,
    /// How many there are now; with 0 the node has no such interest any more.
    pub subscribers: u64,
}

/// A table of many namespaces. Nothing is left of a row that was removed.
#[derive(Debug)]
pub struct Interest<V> {
    namespaces: HashMap<Box<str>, Table<V>>,
    rows: usize,
}

#[derive(Debug)]
struct Table<V> {
    channels: HashMap<Box<str>, V>,
    forward: Trie<V>,
    backward: Trie<V>,
}

impl<V> Default for Interest<V> {
    fn default() -> Self {
        Self { namespaces: HashMap::new(), rows: 0 }
    }
}

impl<V> Default for Table<V> {
    fn default() -> Self {
        Self { channels: HashMap::new(), forward: Trie::default(), backward: Trie::default() }
    }
}

impl<V> Table<V> {
    fn remove_channel(&mut self, name: &str) -> Option<V> {
        let removed = self.channels.remove(name);
        if self.channels.len() < self.channels.capacity() / 8 {
            // A quarter full afterwards, so that neither this nor growing comes again soon.
            self.channels.shrink_to(self.channels.len() * 4);
        }
        removed
    }

    fn is_empty(&self) -> bool {
        self.channels.is_empty() && self.forward.is_empty() && self.backward.is_empty()
    }
}

impl<V> Interest<V> {
    /// Selectors in it, of all namespaces.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// What is kept for a selector; a default is put there when nothing is.
    pub fn entry(&mut self, namespace: &str, selector: &Selector) -> &mut V
    where
        V: Default,
    {
        if self.get(namespace, selector).is_none() {
            self.insert(namespace, selector, V::default());
        }
        self.get_mut(namespace, selector).expect("it was just put there")
    }

    /// Keeps something for a selector, and gives back what was kept before.
    pub fn insert(&mut self, namespace: &str, selector: &Selector, value: V) -> Option<V> {
        if !self.namespaces.contains_key(namespace) {
            self.namespaces.insert(namespace.into(), Table::default());
        }
        let table = self.namespaces.get_mut(namespace).expect("it was just put there");
        let before = match Spot::of(selector) {
            Spot::Channel(name) => match table.channels.get_mut(name) {
                Some(kept) => Some(std::mem::replace(kept, value)),
                None => table.channels.insert(name.into(), value),
            },
            Spot::Forward(literal, selector) => table.forward.insert(literal, selector, value),
            Spot::Backward(literal, selector) => table.backward.insert(&literal, selector, value),
        };
        self.rows += usize::from(before.is_none());
        before
    }

    /// What is kept for a selector.
    #[must_use]
    pub fn get(&self, namespace: &str, selector: &Selector) -> Option<&V> {
        let table = self.namespaces.get(namespace)?;
        match Spot::of(selector) {
            Spot::Channel(name) => table.channels.get(name),
            Spot::Forward(literal, selector) => table.forward.get(literal, selector),
            Spot::Backward(literal, selector) => table.backward.get(&literal, selector),
        }
    }

    /// What is kept for a selector, to change it.
    pub fn get_mut(&mut self, namespace: &str, selector: &Selector) -> Option<&mut V> {
        let table = self.namespaces.get_mut(namespace)?;
        match Spot::of(selector) {
            Spot::Channel(name) => table.channels.get_mut(name),
            Spot::Forward(literal, selector) => table.forward.get_mut(literal, selector),
            Spot::Backward(literal, selector) => table.backward.get_mut(&literal, selector),
        }
    }

    /// Takes a selector out.
    pub fn remove(&mut self, namespace: &str, selector: &Selector) -> Option<V> {
        let table = self.namespaces.get_mut(namespace)?;
        let removed = match Spot::of(selector) {
            Spot::Channel(name) => table.remove_channel(name),
            Spot::Forward(literal, selector) => table.forward.remove(literal, selector),
            Spot::Backward(literal, selector) => table.backward.remove(&literal, selector),
        }?;
        self.rows -= 1;
        if table.is_empty() {
            self.namespaces.remove(namespace);
        }
        if self.namespaces.is_empty() {
            self.namespaces = HashMap::new();
        }
        Some(removed)
    }

    /// Calls `visit` with what is kept for each selector that matches a channel.
    pub fn matches<'a>(&'a self, namespace: &str, channel: &str, mut visit: impl FnMut(&'a V)) {
        let Some(table) = self.namespaces.get(namespace) else { return };
        if let Some(value) = table.channels.get(channel) {
            visit(value);
        }
        table.forward.matches(channel.as_bytes(), channel, &mut visit);
        if !table.backward.is_empty() {
            table.backward.matches(&reversed(channel.as_bytes()), channel, &mut visit);
        }
    }

    /// How many patterns share the place of this one, so that a match looks at each of them.
    #[must_use]
    pub fn alike(&self, namespace: &str, selector: &Selector) -> usize {
        let Some(table) = self.namespaces.get(namespace) else { return 0 };
        match Spot::of(selector) {
            Spot::Forward(literal, Some(_)) => table.forward.alike(literal),
            Spot::Backward(literal, Some(_)) => table.backward.alike(&literal),
            _ => 0,
        }
    }

    #[cfg(test)]
    pub(crate) fn each_row(&self, mut visit: impl FnMut(&V)) {
        let mut rows = 0;
        for (namespace, table) in &self.namespaces {
            assert!(!table.is_empty());
            table.forward.check();
            table.backward.check();
            self.each(namespace, |_, _, value| {
                rows += 1;
                visit(value);
            });
        }
        assert_eq!(rows, self.rows);
    }

    /// Calls `visit` with the text of each selector of a namespace, whether it is a pattern, and what
    /// is kept for it; in no order, so that nobody may see the order of the calls.
    pub(crate) fn each<'a>(&'a self, namespace: &str, mut visit: impl FnMut(&str, bool, &'a V)) {
        let Some(table) = self.namespaces.get(namespace) else { return };
        for (channel, value) in &table.channels {
            visit(&escaped(channel), false, value);
        }
        table.forward.each(&mut |literal, selector, value| match selector {
            Some(selector) => visit(selector.text(), true, value),
            None => visit(&format!("{}*", escaped(&String::from_utf8_lossy(literal))), true, value),
        });
        table.backward.each(&mut |literal, selector, value| match selector {
            Some(selector) => visit(selector.text(), true, value),
            None => {
                let ending = reversed(literal);
                visit(&format!("*{}", escaped(&String::from_utf8_lossy(&ending))), true, value);
            }
        });
    }
}

/// Where a selector is kept.
enum Spot<'a> {
    Channel(&'a str),
    /// With the selector, unless the place alone says what it matches.
    Forward(&'a [u8], Option<&'a Selector>),
    /// From its end on.
    Backward(Vec<u8>, Option<&'a Selector>),
}

impl<'a> Spot<'a> {
    fn of(selector: &'a Selector) -> Self {
        match selector.shape() {
            Shape::Exact(None) => Self::Channel(selector.text()),
            Shape::Exact(Some(name)) => Self::Channel(name),
            Shape::Prefix(prefix) => Self::Forward(prefix, None),
            Shape::Suffix(suffix) => Self::Backward(reversed(suffix), None),
            Shape::Forward(pattern) => Self::Forward(pattern.literal_prefix(), Some(selector)),
            Shape::Backward(_, ending) => Self::Backward(reversed(ending), Some(selector)),
        }
    }
}

fn reversed(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().rev().copied().collect()
}
