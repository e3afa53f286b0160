//! The newest revision this client knows of, so that a read that any node may answer from what it
//! has never answers something older.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

/// Namespaces that are told apart. What is asked in more of them is read through the leader.
const NAMESPACES_MAX: usize = 4_096;

/// The newest revision in each group that any answer told of. Revisions compare within a group, so
/// what was seen in one namespace counts for all others of its group.
#[derive(Debug, Default)]
pub(crate) struct Seen(RwLock<Tables>);

#[derive(Debug, Default)]
struct Tables {
    /// Which group a namespace lives in; learnt from the first answer in it.
    groups: BTreeMap<Box<str>, u32>,
    revisions: BTreeMap<u32, AtomicU64>,
}

impl Seen {
    /// An answer in this namespace told of this revision.
    pub(crate) fn raise(&self, namespace: &str, group: u32, revision: u64) {
        {
            let tables = self.0.read().unwrap_or_else(PoisonError::into_inner);
            if tables.groups.get(namespace) == Some(&group)
                && let Some(seen) = tables.revisions.get(&group)
            {
                seen.fetch_max(revision, Ordering::Release);
                return;
            }
        }
        let mut tables = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if !tables.groups.contains_key(namespace) && tables.groups.len() >= NAMESPACES_MAX {
            // Whoever asks for it is told that it is not known.
            return;
        }
        tables.groups.insert(namespace.into(), group);
        let seen = tables.revisions.entry(group).or_default();
        *seen.get_mut() = revision.max(*seen.get_mut());
    }

    /// As [`Seen::raise`], where the group was not said: in that of the namespace, once it is known.
    pub(crate) fn raise_in(&self, namespace: &str, revision: u64) {
        let tables = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let group = tables.groups.get(namespace);
        if let Some(seen) = group.and_then(|group| tables.revisions.get(group)) {
            seen.fetch_max(revision, Ordering::Release);
        }
    }

    /// The newest revision seen in the group of this namespace; 0 when nothing was. None when there
    /// are so many namespaces that it is not known.
    pub(crate) fn newest(&self, namespace: &str) -> Option<u64> {
        let tables = self.0.read().unwrap_or_else(PoisonError::into_inner);
        match tables.groups.get(namespace) {
            Some(group) => {
                let seen = tables.revisions.get(group);
                Some(seen.map_or(0, |seen| seen.load(Ordering::Acquire)))
            }
            None => (tables.groups.len() < NAMESPACES_MAX).then_some(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_counts_for_all_namespaces_of_its_group() {
        let seen = Seen::default();
        assert_eq!(seen.newest("a"), Some(0));
        seen.raise("a", 0, 7);
        seen.raise("b", 0, 5);
        seen.raise("c", 1, 90);
        assert_eq!((seen.newest("a"), seen.newest("b")), (Some(7), Some(7)));
        assert_eq!((seen.newest("c"), seen.newest("d")), (Some(90), Some(0)));
        seen.raise("b", 0, 9);
        seen.raise("b", 0, 8);
        seen.raise_in("a", 10);
        seen.raise_in("d", 11);
        assert_eq!((seen.newest("a"), seen.newest("d")), (Some(10), Some(0)));
    }

    #[test]
    fn past_the_bound_nothing_is_guessed() {
        let seen = Seen::default();
        for number in 0..NAMESPACES_MAX {
            seen.raise(&number.to_string(), 0, 1);
        }
        seen.raise("one more", 0, 9);
        assert_eq!(seen.newest("one more"), None);
        assert_eq!(seen.newest("0"), Some(1));
    }
}
