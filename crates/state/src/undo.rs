//! Maps that can be put back: what the machine keeps in memory, while a transaction may yet be
//! refused.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;

/// A [`BTreeMap`] that, while its journal is open, notes what each key had before it was changed.
///
/// It reads as the map; it is changed only by the methods here, so that nothing goes unnoted. A
/// value is noted as a whole, once, whatever is changed of it: it should be no larger than what is
/// written because of the change. While the journal is closed, which it is but for transactions, a
/// change costs one look at that.
pub(crate) struct UndoMap<K, V> {
    map: BTreeMap<K, V>,
    /// What the keys had that were changed since it was opened; none: they were absent.
    journal: Option<BTreeMap<K, Option<V>>>,
}

impl<K: Ord + Clone, V: Clone> UndoMap<K, V> {
    /// Opens the journal.
    pub(crate) fn begin(&mut self) {
        debug_assert!(self.journal.is_none(), "the journal is open already");
        self.journal = Some(BTreeMap::new());
    }

    /// Closes the journal; the changes since it was opened stay, or are taken back.
    pub(crate) fn end(&mut self, keep: bool) {
        let journal = self.journal.take().unwrap_or_default();
        if keep {
            return;
        }
        for (key, before) in journal {
            match before {
                Some(value) => self.map.insert(key, value),
                None => self.map.remove(&key),
            };
        }
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        self.note(&key);
        self.map.insert(key, value);
    }

    pub(crate) fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.note_present(key);
        self.map.remove(key)
    }

    pub(crate) fn get_mut<Q>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.note_present(key);
        self.map.get_mut(key)
    }

    /// The value of a key, which is there from now on.
    pub(crate) fn get_or_default(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        self.note(&key);
        self.map.entry(key).or_default()
    }

    /// Before a change that may add the key.
    fn note(&mut self, key: &K) {
        if let Some(journal) = &mut self.journal
            && !journal.contains_key(key)
        {
            journal.insert(key.clone(), self.map.get(key).cloned());
        }
    }

    /// Before a change that is none when the key is absent.
    fn note_present<Q>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        if let Some(journal) = &mut self.journal
            && !journal.contains_key(key)
            && let Some((key, value)) = self.map.get_key_value(key)
        {
            journal.insert(key.clone(), Some(value.clone()));
        }
    }
}

impl<K, V> Default for UndoMap<K, V> {
    fn default() -> Self {
        Self { map: BTreeMap::new(), journal: None }
    }
}

impl<K, V> Deref for UndoMap<K, V> {
    type Target = BTreeMap<K, V>;

    fn deref(&self) -> &Self::Target {
        &self.map
    }
}

/// What is noted is no part of what the map holds.
impl<K: PartialEq, V: PartialEq> PartialEq for UndoMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.map == other.map
    }
}

impl<K: Eq, V: Eq> Eq for UndoMap<K, V> {}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for UndoMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.map.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::property;
    use proptest::collection::vec;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(String, u8),
        Remove(String),
        Change(String),
        ChangeOrMake(String),
        Begin,
        Keep,
        Undo,
    }

    fn step() -> impl Strategy<Value = Step> {
        let key = || (0..4u8).prop_map(|key| key.to_string());
        prop_oneof![
            3 => (key(), any::<u8>()).prop_map(|(key, value)| Step::Insert(key, value)),
            3 => key().prop_map(Step::Remove),
            3 => key().prop_map(Step::Change),
            3 => key().prop_map(Step::ChangeOrMake),
            4 => Just(Step::Begin),
            1 => Just(Step::Keep),
            2 => Just(Step::Undo),
        ]
    }

    /// Against a map of which a copy is kept.
    #[test]
    fn it_is_put_back_as_it_was() {
        property("it_is_put_back_as_it_was", 2_000, &vec(step(), 0..40), |steps| {
            let mut undoable: UndoMap<String, u8> = UndoMap::default();
            let mut plain: BTreeMap<String, u8> = BTreeMap::new();
            let mut before = None;
            for step in steps {
                match step {
                    Step::Insert(key, value) => {
                        undoable.insert(key.clone(), value);
                        plain.insert(key, value);
                    }
                    Step::Remove(key) => {
                        prop_assert_eq!(undoable.remove(&key[..]), plain.remove(&key));
                    }
                    Step::Change(key) => {
                        let (one, other) = (undoable.get_mut(&key[..]), plain.get_mut(&key));
                        prop_assert_eq!(&one, &other);
                        one.into_iter().chain(other).for_each(|value| *value ^= 0x5a);
                    }
                    Step::ChangeOrMake(key) => {
                        *undoable.get_or_default(key.clone()) ^= 1;
                        *plain.entry(key).or_default() ^= 1;
                    }
                    Step::Begin if before.is_some() => {}
                    Step::Begin => {
                        undoable.begin();
                        before = Some(plain.clone());
                    }
                    Step::Keep => {
                        undoable.end(true);
                        before = None;
                    }
                    Step::Undo => {
                        undoable.end(false);
                        plain = before.take().unwrap_or(plain);
                    }
                }
                prop_assert_eq!(&*undoable, &plain);
            }
            Ok(())
        });
    }
}
