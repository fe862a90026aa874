//! Wildcard filters of one tenant, level by level.

use ahash::RandomState;
use hashbrown::HashMap;
use smallvec::SmallVec;

/// Filters with wildcards, each with a number.
#[derive(Default)]
pub(super) struct Trie {
    root: Node,
}

#[derive(Default)]
struct Node {
    children: HashMap<Box<str>, Self, RandomState>,
    plus: Option<Box<Self>>,
    /// The filter that ends here.
    here: Option<usize>,
    /// The filter that ends here with `#`.
    multi: Option<usize>,
}

impl Node {
    fn is_empty(&self) -> bool {
        self.children.is_empty()
            && self.plus.is_none()
            && self.here.is_none()
            && self.multi.is_none()
    }
}

impl Trie {
    pub(super) fn insert(&mut self, filter: &str, number: usize) {
        let mut node = &mut self.root;
        for level in filter.split('/') {
            node = match level {
                "#" => {
                    node.multi = Some(number);
                    return;
                }
                "+" => node.plus.get_or_insert_default(),
                _ => node.children.entry(level.into()).or_default(),
            };
        }
        node.here = Some(number);
    }

    pub(super) fn remove(&mut self, filter: &str) {
        // As deep as the deepest filter, which the tenant's limit of levels bounds.
        remove(&mut self.root, filter.split('/'));
    }

    /// Adds the numbers of all filters that match.
    pub(super) fn find(&self, topic: &str, found: &mut SmallVec<[usize; 8]>) {
        // MQTT-4.7.2-1: a leading wildcard does not match `$`.
        let skips_wildcards = topic.starts_with('$');
        let mut nodes: SmallVec<[&Node; 16]> = SmallVec::new();
        let mut next: SmallVec<[&Node; 16]> = SmallVec::new();
        nodes.push(&self.root);
        for (depth, level) in topic.split('/').enumerate() {
            let has_wildcards = depth > 0 || !skips_wildcards;
            for node in nodes.drain(..) {
                if has_wildcards {
                    found.extend(node.multi);
                    next.extend(node.plus.as_deref());
                }
                if !node.children.is_empty() {
                    next.extend(node.children.get(level));
                }
            }
            std::mem::swap(&mut nodes, &mut next);
            if nodes.is_empty() {
                return;
            }
        }
        for node in nodes {
            found.extend(node.here);
            // MQTT-4.7.1-2: `a/#` matches `a` too.
            found.extend(node.multi);
        }
    }
}

fn remove<'a>(node: &mut Node, mut levels: impl Iterator<Item = &'a str> + Clone) {
    match levels.next() {
        None => node.here = None,
        Some("#") => node.multi = None,
        Some("+") => {
            if let Some(plus) = &mut node.plus {
                remove(plus, levels.clone());
                if plus.is_empty() {
                    node.plus = None;
                }
            }
        }
        Some(level) => {
            if let Some(child) = node.children.get_mut(level) {
                remove(child, levels.clone());
                if child.is_empty() {
                    node.children.remove(level);
                }
            }
        }
    }
}
