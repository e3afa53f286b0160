//! Patterns under the literal bytes that each of them needs: a tree in which no node has a single
//! child and nothing else, so that it has fewer nodes than twice the patterns in it.

use crate::Selector;

/// Bytes of a label that stand in its node: with the length and the kind they fill three words.
const SHORT_BYTES: usize = 22;

/// A tree of patterns. One without a selector matches whatever goes on from where it stands; of the
/// others the selector says what they match.
#[derive(Debug)]
pub(super) struct Trie<V> {
    root: Node<V>,
}

#[derive(Debug)]
struct Node<V> {
    /// What comes between the parent and this one; empty at the root only.
    label: Label,
    /// By the first byte of their labels, all of which differ.
    children: Vec<Node<V>>,
    open: Option<V>,
    others: Option<Box<Others<V>>>,
}

/// Boxed, because few nodes have any.
#[derive(Debug)]
struct Others<V>(Vec<(Selector, V)>);

#[derive(Debug)]
enum Label {
    Short { length: u8, bytes: [u8; SHORT_BYTES] },
    Long(Box<[u8]>),
}

impl Label {
    fn new(text: &[u8]) -> Self {
        match u8::try_from(text.len()) {
            Ok(length) if text.len() <= SHORT_BYTES => {
                let mut bytes = [0; SHORT_BYTES];
                bytes[..text.len()].copy_from_slice(text);
                Self::Short { length, bytes }
            }
            _ => Self::Long(text.into()),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Short { length, bytes } => &bytes[..usize::from(*length)],
            Self::Long(bytes) => bytes,
        }
    }

    fn first(&self) -> Option<u8> {
        self.bytes().first().copied()
    }
}

impl<V> Default for Trie<V> {
    fn default() -> Self {
        Self { root: Node::new(b"") }
    }
}

impl<V> Trie<V> {
    pub(super) fn is_empty(&self) -> bool {
        self.root.is_bare() && self.root.children.is_empty()
    }

    pub(super) fn insert(
        &mut self,
        literal: &[u8],
        selector: Option<&Selector>,
        value: V,
    ) -> Option<V> {
        let node = self.root.make(literal);
        let Some(selector) = selector else { return node.open.replace(value) };
        let others = &mut node.others.get_or_insert_with(|| Box::new(Others(Vec::new()))).0;
        if let Some((_, kept)) = others.iter_mut().find(|(other, _)| other == selector) {
            return Some(std::mem::replace(kept, value));
        }
        others.push((selector.clone(), value));
        None
    }

    pub(super) fn get(&self, literal: &[u8], selector: Option<&Selector>) -> Option<&V> {
        let node = self.root.find(literal)?;
        let Some(selector) = selector else { return node.open.as_ref() };
        let mut others = node.others.as_ref()?.0.iter();
        others.find(|(other, _)| other == selector).map(|(_, value)| value)
    }

    pub(super) fn get_mut(
        &mut self,
        literal: &[u8],
        selector: Option<&Selector>,
    ) -> Option<&mut V> {
        let node = self.root.find_mut(literal)?;
        let Some(selector) = selector else { return node.open.as_mut() };
        let mut others = node.others.as_mut()?.0.iter_mut();
        others.find(|(other, _)| other == selector).map(|(_, value)| value)
    }

    pub(super) fn remove(&mut self, literal: &[u8], selector: Option<&Selector>) -> Option<V> {
        self.root.remove(literal, selector)
    }

    /// No node is there for nothing.
    #[cfg(test)]
    pub(super) fn check(&self) {
        self.root.children.iter().for_each(Node::check);
    }

    /// How many patterns with a selector stand at a place.
    pub(super) fn alike(&self, literal: &[u8]) -> usize {
        let others = self.root.find(literal).and_then(|node| node.others.as_ref());
        others.map_or(0, |others| others.0.len())
    }

    /// Calls `visit` with what is kept for the patterns that match: `bytes` are the channel's, in
    /// the tree's direction.
    pub(super) fn matches<'a>(
        &'a self,
        bytes: &[u8],
        channel: &str,
        visit: &mut impl FnMut(&'a V),
    ) {
        let (mut node, mut rest) = (&self.root, bytes);
        loop {
            if let Some(value) = &node.open {
                visit(value);
            }
            if let Some(others) = &node.others {
                let matching = others.0.iter().filter(|(selector, _)| selector.matches(channel));
                matching.for_each(|(_, value)| visit(value));
            }
            let Some(child) = node.child(rest) else { return };
            let Some(behind) = rest.strip_prefix(child.label.bytes()) else { return };
            (node, rest) = (child, behind);
        }
    }

    /// Calls `visit` with the literal bytes, the selector if it has one, and what is kept, of each.
    pub(super) fn each<'a>(&'a self, visit: &mut impl FnMut(&[u8], Option<&'a Selector>, &'a V)) {
        self.root.each(&mut Vec::new(), visit);
    }
}

impl<V> Node<V> {
    fn new(label: &[u8]) -> Self {
        Self { label: Label::new(label), children: Vec::new(), open: None, others: None }
    }

    #[cfg(test)]
    fn check(&self) {
        assert!(!self.label.bytes().is_empty());
        assert!(!self.is_bare() || self.children.len() > 1);
        assert!(self.others.as_ref().is_none_or(|others| !others.0.is_empty()));
        assert!(self.children.is_sorted_by_key(|child| child.label.first()));
        self.children.iter().for_each(Self::check);
    }

    fn is_bare(&self) -> bool {
        self.open.is_none() && self.others.is_none()
    }

    /// Where the child is, or belongs, that goes on with these bytes.
    fn place(&self, rest: &[u8]) -> Result<usize, usize> {
        let first = rest.first().copied();
        self.children.binary_search_by_key(&first, |child| child.label.first())
    }

    fn child(&self, rest: &[u8]) -> Option<&Self> {
        self.place(rest).ok().map(|at| &self.children[at])
    }

    fn find(&self, literal: &[u8]) -> Option<&Self> {
        let (mut node, mut rest) = (self, literal);
        while !rest.is_empty() {
            let child = node.child(rest)?;
            rest = rest.strip_prefix(child.label.bytes())?;
            node = child;
        }
        Some(node)
    }

    fn find_mut(&mut self, literal: &[u8]) -> Option<&mut Self> {
        let (mut node, mut rest) = (self, literal);
        while !rest.is_empty() {
            let at = node.place(rest).ok()?;
            node = &mut node.children[at];
            rest = rest.strip_prefix(node.label.bytes())?;
        }
        Some(node)
    }

    /// The node of a literal; it is made if there is none.
    fn make(&mut self, literal: &[u8]) -> &mut Self {
        let (mut node, mut rest) = (self, literal);
        while !rest.is_empty() {
            let at = match node.place(rest) {
                Ok(at) => {
                    let child = &mut node.children[at];
                    let label = child.label.bytes();
                    let same = label.iter().zip(rest).take_while(|(a, b)| a == b).count();
                    if same < label.len() {
                        child.split(same);
                    }
                    rest = &rest[same..];
                    at
                }
                Err(at) => {
                    // One more only: most nodes have few children, and all of them count.
                    node.children.reserve_exact(1);
                    node.children.insert(at, Self::new(rest));
                    rest = &[];
                    at
                }
            };
            node = &mut node.children[at];
        }
        node
    }

    /// Puts a node between this one and its parent, at a byte of the label.
    fn split(&mut self, at: usize) {
        let (above, below) = self.label.bytes().split_at(at);
        let (above, below) = (Self::new(above), Label::new(below));
        let mut lower = std::mem::replace(self, above);
        lower.label = below;
        self.children = vec![lower];
    }

    fn remove(&mut self, literal: &[u8], selector: Option<&Selector>) -> Option<V> {
        if literal.is_empty() {
            return self.take(selector);
        }
        let at = self.place(literal).ok()?;
        let child = &mut self.children[at];
        let rest = literal.strip_prefix(child.label.bytes())?;
        let removed = child.remove(rest, selector)?;
        if child.is_bare() {
            match &mut child.children[..] {
                [] => {
                    self.children.remove(at);
                    if self.children.len() <= self.children.capacity() / 2 {
                        self.children.shrink_to_fit();
                    }
                }
                [_] => {
                    let lower = child.children.remove(0);
                    let label = [child.label.bytes(), lower.label.bytes()].concat();
                    *child = Self { label: Label::new(&label), ..lower };
                }
                _ => {}
            }
        }
        Some(removed)
    }

    fn take(&mut self, selector: Option<&Selector>) -> Option<V> {
        let Some(selector) = selector else { return self.open.take() };
        let others = &mut self.others.as_mut()?.0;
        let at = others.iter().position(|(other, _)| other == selector)?;
        let (_, removed) = others.swap_remove(at);
        if others.is_empty() {
            self.others = None;
        }
        Some(removed)
    }

    fn each<'a>(
        &'a self,
        literal: &mut Vec<u8>,
        visit: &mut impl FnMut(&[u8], Option<&'a Selector>, &'a V),
    ) {
        let parent_bytes = literal.len();
        literal.extend_from_slice(self.label.bytes());
        if let Some(value) = &self.open {
            visit(literal, None, value);
        }
        for (selector, value) in self.others.iter().flat_map(|others| &others.0) {
            visit(literal, Some(selector), value);
        }
        for child in &self.children {
            child.each(literal, visit);
        }
        literal.truncate(parent_bytes);
    }
}
