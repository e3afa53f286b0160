//! Names within namespaces, each one shared text, and numbers for those that are in use.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// A channel or a queue group in its namespace. One text holds both, so that a name costs one
/// allocation however often it is kept: first how long the namespace is, as a character, then the
/// namespace, then the name. No two pairs have the same text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Name(Arc<str>);

impl Name {
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        Self(key(&mut String::new(), namespace, name).into())
    }

    /// Of a text that [`key`] wrote.
    pub(crate) fn of_key(key: &str) -> Self {
        Self(key.into())
    }

    pub(crate) fn namespace(&self) -> &str {
        self.split().0
    }

    pub(crate) fn name(&self) -> &str {
        self.split().1
    }

    fn split(&self) -> (&str, &str) {
        let mut rest = self.0.chars();
        let length = rest.next().map_or(0, |length| length as usize);
        rest.as_str().split_at(length)
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.split().fmt(f)
    }
}

/// Writes the text of a name, to look for it without an allocation.
pub(crate) fn key<'a>(buffer: &'a mut String, namespace: &str, name: &str) -> &'a str {
    let length = u32::try_from(namespace.len()).ok().and_then(char::from_u32);
    buffer.clear();
    buffer.push(length.expect("a namespace has at most 255 bytes"));
    buffer.push_str(namespace);
    buffer.push_str(name);
    buffer
}

/// Numbers for names that are in use, with something kept for each.
#[derive(Debug, Default)]
pub(crate) struct Registry<T> {
    numbers: HashMap<Name, u32>,
    slots: Vec<Option<Registered<T>>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Registered<T> {
    name: Name,
    uses: usize,
    kept: T,
}

impl<T: Default> Registry<T> {
    /// The number of a name that is used once more.
    pub(crate) fn acquire(&mut self, name: &Name) -> u32 {
        if let Some(number) = self.numbers.get(name).copied() {
            self.retain(number);
            return number;
        }
        let registered = Registered { name: name.clone(), uses: 1, kept: T::default() };
        let number = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("fewer rows than 2^32 can name any")
        });
        self.slots[number as usize] = Some(registered);
        self.numbers.insert(name.clone(), number);
        number
    }

    /// One more use of a name that is in use.
    pub(crate) fn retain(&mut self, number: u32) {
        self.slot_mut(number).uses += 1;
    }

    /// Takes back uses of a name. What is kept for it goes with the last one.
    pub(crate) fn release(&mut self, number: u32, uses: usize) {
        let registered = self.slot_mut(number);
        registered.uses -= uses;
        if registered.uses > 0 {
            return;
        }
        if let Some(registered) = self.slots[number as usize].take() {
            self.numbers.remove(&registered.name);
        }
        self.free.push(number);
        if self.numbers.is_empty() {
            *self = Self { numbers: HashMap::new(), slots: Vec::new(), free: Vec::new() };
        }
    }

    pub(crate) fn number(&self, key: &str) -> Option<u32> {
        self.numbers.get(key).copied()
    }

    pub(crate) fn name(&self, number: u32) -> &Name {
        let registered = self.slots[number as usize].as_ref();
        &registered.expect("a number in use has its name").name
    }

    pub(crate) fn kept_mut(&mut self, number: u32) -> &mut T {
        &mut self.slot_mut(number).kept
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn uses(&self) -> usize {
        self.slots.iter().flatten().map(|registered| registered.uses).sum()
    }

    fn slot_mut(&mut self, number: u32) -> &mut Registered<T> {
        self.slots[number as usize].as_mut().expect("a number in use has its name")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_other_pair() {
        let long = "n".repeat(255);
        for (namespace, name) in [("", "a"), ("a", "bc"), ("ab", "c"), (&long[..], "\u{e9}\0")] {
            let one = Name::new(namespace, name);
            assert_eq!((one.namespace(), one.name()), (namespace, name));
        }
        assert_ne!(Name::new("a", "bc"), Name::new("ab", "c"));
    }

    #[test]
    fn what_is_kept_goes_with_the_last_use() {
        let mut registry = Registry::<u64>::default();
        let (a, b) = (Name::new("", "a"), Name::new("n", "a"));
        let first = registry.acquire(&a);
        assert_eq!(registry.acquire(&a), first);
        let second = registry.acquire(&b);
        *registry.kept_mut(first) = 7;
        registry.release(first, 1);
        assert_eq!((*registry.kept_mut(first), registry.name(second)), (7, &b));
        registry.release(first, 1);
        assert_eq!(registry.number(key(&mut String::new(), "", "a")), None);
        assert_eq!((registry.acquire(&a), *registry.kept_mut(first)), (first, 0));
        registry.release(first, 1);
        registry.release(second, 1);
        assert!(registry.is_empty());
    }
}
