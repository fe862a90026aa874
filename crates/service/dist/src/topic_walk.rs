//! The filters that a topic can match, as a walk over the tree that they form level by level.
//!
//! A topic can only match below three children of each node: `#`, `+` and the topic's own level. The
//! walk visits those that exist, lowest key first. Who knows what exists is another question: the rows,
//! or what is remembered of them.

use bifrust_model::{TenantNumber, levels};
use smallvec::{SmallVec, smallvec};

/// What is known of a tenant's filters.
pub(crate) trait Branches {
    /// Ends a walk.
    type Error;

    /// Whether a key begins with `prefix`. The prefixes of one walk rise.
    fn has(&mut self, prefix: &[u8]) -> Result<bool, Self::Error>;

    /// Takes the routes whose keys begin with `path`, of which there are some: a filter matches.
    fn gather(&mut self, path: &[u8]) -> Result<(), Self::Error>;
}

/// Visits all filters of the tenant that match the topic, shared ones by what follows their prefix.
pub(crate) fn walk<B: Branches>(
    tenant: TenantNumber,
    topic: &str,
    branches: &mut B,
) -> Result<(), B::Error> {
    let levels: SmallVec<[&[u8]; 16]> = topic.split('/').map(levels::level).collect();
    // The path to the current node, and the nodes on it whose children are not all looked at.
    let mut path = Vec::with_capacity(topic.len() + 24);
    path.extend_from_slice(&tenant.key());
    let mut nodes: SmallVec<[Node<'_>; 8]> = smallvec![Node::new(&levels, 0, path.len())];
    while let Some(node) = nodes.last_mut() {
        path.truncate(node.path_len);
        let Some(child) = node.children.pop() else {
            nodes.pop();
            continue;
        };
        let level = node.level;
        levels::push_level(&mut path, child.level());
        if !branches.has(&path)? {
            continue;
        }
        match child {
            Child::Multi => end_of_filter(branches, &mut path)?,
            Child::Single | Child::Name(_) if level + 1 == levels.len() => {
                let path_len = path.len();
                end_of_filter(branches, &mut path)?;
                path.truncate(path_len);
                // `a/#` matches `a` (MQTT-4.7.1-2, non-normative example).
                levels::push_level(&mut path, b"#");
                if branches.has(&path)? {
                    end_of_filter(branches, &mut path)?;
                }
            }
            Child::Single | Child::Name(_) => {
                nodes.push(Node::new(&levels, level + 1, path.len()));
            }
        }
    }
    Ok(())
}

/// The filter that ends at `path`, which is lengthened.
fn end_of_filter<B: Branches>(branches: &mut B, path: &mut Vec<u8>) -> Result<(), B::Error> {
    path.push(levels::END);
    if branches.has(path)? {
        branches.gather(path)?;
    }
    Ok(())
}

/// A node of the filter tree that exists.
struct Node<'t> {
    /// Which level of the topic its children stand against.
    level: usize,
    path_len: usize,
    /// Still to be looked at, the lowest key last.
    children: SmallVec<[Child<'t>; 3]>,
}

#[derive(Clone, Copy)]
enum Child<'t> {
    Multi,
    Single,
    Name(&'t [u8]),
}

impl<'t> Node<'t> {
    fn new(topic: &[&'t [u8]], level: usize, path_len: usize) -> Self {
        let name = topic[level];
        let is_system = level == 0 && name.first() == Some(&b'$');
        let mut children: SmallVec<[Child<'t>; 3]> = if is_system {
            // MQTT-4.7.2-1: a leading wildcard does not match `$`.
            smallvec![Child::Name(name)]
        } else {
            smallvec![Child::Multi, Child::Single, Child::Name(name)]
        };
        children.sort_unstable_by(|a, b| b.level().cmp(a.level()));
        Self {
            level,
            path_len,
            children,
        }
    }
}

impl<'t> Child<'t> {
    fn level(&self) -> &'t [u8] {
        match self {
            Self::Multi => b"#",
            Self::Single => b"+",
            Self::Name(name) => name,
        }
    }
}
