//! Wildcard filters of one tenant, level by level.
//!
//! A filter takes a node of its own only where another one makes it: what follows the last branch stays
//! one text. So a million filters are about a million nodes, however many levels they have, and a topic
//! visits only the branches that exist.
//!
//! ```text
//! a/+/x, a/+/y, b/1/+/z     root -a- -+- -x.
//!                            |        `--y.
//!                            `--b/1/+/z.
//! ```

use ahash::RandomState;
use hashbrown::HashTable;
use slab::Slab;
use smallvec::SmallVec;

/// Filters with wildcards, each with a number.
#[derive(Default)]
pub(super) struct Trie {
    nodes: Slab<Node>,
    /// Nodes by parent and first level; those of `+` stand in their parents.
    edges: HashTable<u32>,
    hasher: RandomState,
    /// What the first levels of filters lead to.
    root: Branches,
}

/// What may follow a node.
#[derive(Default)]
struct Branches {
    plus: Option<u32>,
    /// The filter that ends here with `#`.
    multi: Option<u32>,
    /// Nodes below, the one of `+` included.
    children: u32,
}

struct Node {
    /// The node's level; of a filter that shares no more levels with others, all that are left of it.
    text: Box<str>,
    /// `None` below the root.
    parent: Option<u32>,
    /// The filter that ends with `text`.
    here: Option<u32>,
    below: Branches,
}

impl Node {
    fn level(&self) -> &str {
        self.text
            .split_once('/')
            .map_or(&self.text, |(level, _)| level)
    }

    /// Whether it stands for more than one level.
    fn is_tail(&self) -> bool {
        self.text.contains('/')
    }
}

impl Trie {
    pub(super) fn insert(&mut self, filter: &str, number: usize) {
        // Slabs of filters are far smaller; `find` gives back what was put in.
        let Ok(number) = u32::try_from(number) else {
            return;
        };
        self.insert_below(None, filter, number);
    }

    fn insert_below(&mut self, mut at: Option<u32>, mut rest: &str, number: u32) {
        loop {
            if rest == "#" {
                self.branches_mut(at).multi = Some(number);
                return;
            }
            let (level, below) = split(rest);
            let Some(child) = self.child(at, level) else {
                return self.grow(at, rest, number);
            };
            let node = &mut self.nodes[child as usize];
            if node.is_tail() {
                if *node.text == *rest {
                    node.here = Some(number);
                    return;
                }
                self.divide(child);
            }
            let Some(below) = below else {
                self.nodes[child as usize].here = Some(number);
                return;
            };
            (at, rest) = (Some(child), below);
        }
    }

    /// Adds a node for all that is left of a filter.
    fn grow(&mut self, parent: Option<u32>, text: &str, number: u32) {
        let node = Node {
            text: text.into(),
            parent,
            here: Some(number),
            below: Branches::default(),
        };
        let is_plus = node.level() == "+";
        let Ok(at) = u32::try_from(self.nodes.insert(node)) else {
            return;
        };
        let branches = self.branches_mut(parent);
        branches.children += 1;
        if is_plus {
            branches.plus = Some(at);
            return;
        }
        let Self {
            nodes,
            edges,
            hasher,
            ..
        } = self;
        let hash = |at: &u32| {
            let node = &nodes[*at as usize];
            hasher.hash_one((node.parent, node.level()))
        };
        edges.insert_unique(hash(&at), at, hash);
    }

    /// Leaves a node its first level and moves the rest below it.
    fn divide(&mut self, at: u32) {
        let node = &mut self.nodes[at as usize];
        let text = std::mem::take(&mut node.text);
        let here = node.here.take();
        if let ((level, Some(below)), Some(number)) = (split(&text), here) {
            node.text = level.into();
            self.insert_below(Some(at), below, number);
        }
    }

    pub(super) fn remove(&mut self, filter: &str) {
        let mut at = None;
        let mut rest = filter;
        loop {
            if rest == "#" {
                self.branches_mut(at).multi = None;
                return self.prune(at);
            }
            let (level, below) = split(rest);
            let Some(child) = self.child(at, level) else {
                return;
            };
            let node = &mut self.nodes[child as usize];
            match below {
                Some(below) if !node.is_tail() => (at, rest) = (Some(child), below),
                _ => {
                    if *node.text == *rest {
                        node.here = None;
                    }
                    return self.prune(Some(child));
                }
            }
        }
    }

    /// Takes out a node that leads nowhere, and those above that only led to it.
    fn prune(&mut self, mut at: Option<u32>) {
        while let Some(gone) = at {
            let node = &self.nodes[gone as usize];
            let is_used =
                node.here.is_some() || node.below.multi.is_some() || node.below.children > 0;
            if is_used {
                return;
            }
            let parent = node.parent;
            let hash = self.hasher.hash_one((parent, node.level()));
            if let Ok(edge) = self.edges.find_entry(hash, |edge| *edge == gone) {
                edge.remove();
            }
            self.nodes.remove(gone as usize);
            let branches = self.branches_mut(parent);
            branches.children -= 1;
            if branches.plus == Some(gone) {
                branches.plus = None;
            }
            at = parent;
        }
        if self.nodes.is_empty() {
            // Its memory goes with it.
            let multi = self.root.multi;
            *self = Self::default();
            self.root.multi = multi;
        }
    }

    /// Adds the numbers of all filters that match.
    pub(super) fn find(&self, topic: &str, found: &mut SmallVec<[usize; 8]>) {
        // MQTT-4.7.2-1: a leading wildcard does not match `$`.
        let mut has_wildcards = !topic.starts_with('$');
        let mut nodes: SmallVec<[Option<u32>; 16]> = SmallVec::new();
        let mut next: SmallVec<[Option<u32>; 16]> = SmallVec::new();
        nodes.push(None);
        let mut rest = Some(topic);
        while let Some(text) = rest {
            let (level, below) = split(text);
            for at in nodes.drain(..) {
                let branches = self.branches(at);
                let mut plus = None;
                if has_wildcards {
                    found.extend(branches.multi.map(|number| number as usize));
                    plus = branches.plus;
                }
                let has_names = branches.children > u32::from(branches.plus.is_some());
                let named = has_names.then(|| self.named(at, level)).flatten();
                for child in plus.into_iter().chain(named) {
                    let node = &self.nodes[child as usize];
                    if !node.is_tail() {
                        next.push(Some(child));
                    } else if matches_rest(&node.text, text) {
                        found.extend(node.here.map(|number| number as usize));
                    }
                }
            }
            std::mem::swap(&mut nodes, &mut next);
            if nodes.is_empty() {
                return;
            }
            has_wildcards = true;
            rest = below;
        }
        for at in nodes.into_iter().flatten() {
            let node = &self.nodes[at as usize];
            // MQTT-4.7.1-2: `a/#` matches `a` too.
            let ends = node.here.into_iter().chain(node.below.multi);
            found.extend(ends.map(|number| number as usize));
        }
    }

    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.nodes.capacity() + self.edges.capacity()
    }

    fn branches(&self, at: Option<u32>) -> &Branches {
        match at {
            Some(at) => &self.nodes[at as usize].below,
            None => &self.root,
        }
    }

    fn branches_mut(&mut self, at: Option<u32>) -> &mut Branches {
        match at {
            Some(at) => &mut self.nodes[at as usize].below,
            None => &mut self.root,
        }
    }

    fn child(&self, at: Option<u32>, level: &str) -> Option<u32> {
        if level == "+" {
            return self.branches(at).plus;
        }
        self.named(at, level)
    }

    fn named(&self, parent: Option<u32>, level: &str) -> Option<u32> {
        let is_it = |at: &u32| {
            let node = &self.nodes[*at as usize];
            node.parent == parent && node.level() == level
        };
        let hash = self.hasher.hash_one((parent, level));
        self.edges.find(hash, is_it).copied()
    }
}

/// The first level, and what follows it.
fn split(text: &str) -> (&str, Option<&str>) {
    match text.split_once('/') {
        Some((level, below)) => (level, Some(below)),
        None => (text, None),
    }
}

/// Whether what is left of a filter matches what is left of a topic. The first levels are known to.
fn matches_rest(filter: &str, topic: &str) -> bool {
    let mut topic = topic.split('/');
    for level in filter.split('/') {
        if level == "#" {
            return true;
        }
        match topic.next() {
            Some(name) if level == "+" || level == name => {}
            _ => return false,
        }
    }
    topic.next().is_none()
}
