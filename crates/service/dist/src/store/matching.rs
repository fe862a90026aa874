//! From a topic to its routes: a skip-scan over filters in level order.
//!
//! The filters of a tenant form a tree, level by level. A topic can only match below three children of
//! each node: `#`, `+` and the topic's own level. The scan visits those that exist, lowest key first.
//! One position moves through the rows and never goes back: the row it stands on tells how far the next
//! wanted key is, so a child that does not exist mostly costs a comparison, and a read never happens
//! twice. The cost is bounded by the branches that exist, not by the number of filters.

use std::ops::Bound;

use bifrust_kv::prefix_end;
use bifrust_model::record::RecordError;
use bifrust_model::{ClientId, SubscriptionOptions, TenantNumber};
use bifrust_storage::{Direction, Read, Row, StorageError};
use hashbrown::HashMap;
use smallvec::{SmallVec, smallvec};

use super::{ROUTES, damaged, tenant_end};
use crate::schema::inbox_route::InboxRoute;
use crate::schema::levels;
use crate::schema::live_route::LiveRoute;
use crate::schema::route_key::{self, PLAIN, ReceiverKey};
use crate::{InboxTarget, LiveTarget};

/// What a topic's routes lead to, grouped by node and by session.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Targets {
    pub(crate) live: SmallVec<[LiveTarget; 1]>,
    pub(crate) inboxes: Vec<InboxTarget>,
}

/// All routes of the tenant whose filter matches the topic.
pub(super) fn targets(
    read: &dyn Read,
    tenant: TenantNumber,
    topic: &str,
) -> Result<Targets, StorageError> {
    let topic: Vec<&[u8]> = topic.split('/').map(levels::level).collect();
    let mut scan = Scan::new(read, tenant);
    let mut found = Gathered::default();
    // The path to the current node, and the nodes on it whose children are not all looked at.
    let mut path = tenant.key().to_vec();
    let mut nodes = vec![Node::new(&topic, 0, path.len())];
    while let Some(node) = nodes.last_mut() {
        path.truncate(node.path_len);
        let Some(child) = node.children.pop() else {
            nodes.pop();
            continue;
        };
        let level = node.level;
        levels::push_level(&mut path, child.level());
        if !scan.has(&path)? {
            continue;
        }
        match child {
            Child::Multi => scan.gather(&mut path, &mut found)?,
            Child::Single | Child::Name(_) if level + 1 == topic.len() => {
                let path_len = path.len();
                scan.gather(&mut path, &mut found)?;
                path.truncate(path_len);
                // `a/#` matches `a` (MQTT-4.7.1-2, non-normative example).
                levels::push_level(&mut path, b"#");
                if scan.has(&path)? {
                    scan.gather(&mut path, &mut found)?;
                }
            }
            Child::Single | Child::Name(_) => {
                nodes.push(Node::new(&topic, level + 1, path.len()));
            }
        }
    }
    Ok(found.targets)
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

/// A position in the tenant's rows that only moves forward.
struct Scan<'r> {
    read: &'r dyn Read,
    end: Bound<Vec<u8>>,
    /// The first row at or after what was last looked for.
    at: Position,
}

enum Position {
    /// Nothing is known about where the next row is.
    Unknown,
    Row(Row),
    /// No row follows.
    End,
}

impl<'r> Scan<'r> {
    fn new(read: &'r dyn Read, tenant: TenantNumber) -> Self {
        Self {
            read,
            end: tenant_end(tenant),
            at: Position::Unknown,
        }
    }

    /// Whether a row begins with `prefix`, which must not be below an earlier one.
    fn has(&mut self, prefix: &[u8]) -> Result<bool, StorageError> {
        let is_ahead = match &self.at {
            Position::Row((key, _)) => &key[..] < prefix,
            Position::Unknown => true,
            Position::End => false,
        };
        if is_ahead {
            let end = self.end.as_ref().map(Vec::as_slice);
            let row = self.read.seek(ROUTES, prefix, end)?;
            self.at = row.map_or(Position::End, Position::Row);
        }
        Ok(match &self.at {
            Position::Row((key, _)) => key.starts_with(prefix),
            Position::Unknown | Position::End => false,
        })
    }

    /// Takes the plain routes of the filter that ends at `path`, which is lengthened.
    fn gather(&mut self, path: &mut Vec<u8>, found: &mut Gathered) -> Result<(), StorageError> {
        path.extend_from_slice(&[levels::END, PLAIN]);
        if !self.has(path)? {
            return Ok(());
        }
        let end = prefix_end(path);
        let rows = self.read.range(
            ROUTES,
            Bound::Included(path),
            end.as_ref().map(Vec::as_slice),
            Direction::Forward,
        );
        for row in rows {
            let (key, value) = row?;
            let part = key.get(path.len()..).unwrap_or_default();
            found
                .add(part, value)
                .map_err(|error| damaged(&key, &error))?;
        }
        self.at = Position::Unknown;
        Ok(())
    }
}

/// Targets, and where each session stands among them.
#[derive(Default)]
struct Gathered {
    targets: Targets,
    sessions: HashMap<(ClientId, u64), usize, ahash::RandomState>,
}

impl Gathered {
    fn add(&mut self, receiver: &[u8], value: bytes::Bytes) -> Result<(), RecordError> {
        match route_key::decode_receiver(receiver) {
            Some(ReceiverKey::Live(node)) => {
                let shards = LiveRoute::decode(value)?.mask();
                let mut live = self.targets.live.iter_mut();
                match live.find(|target| target.node == node) {
                    Some(target) => target.shards |= shards,
                    None => self.targets.live.push(LiveTarget { node, shards }),
                }
                Ok(())
            }
            Some(ReceiverKey::Inbox {
                client,
                incarnation,
            }) => {
                let options = InboxRoute::decode(value)?.options;
                self.add_inbox(client, incarnation, options);
                Ok(())
            }
            None => Err(RecordError::Invalid("receiver")),
        }
    }

    fn add_inbox(&mut self, client: ClientId, incarnation: u64, options: SubscriptionOptions) {
        let inboxes = &mut self.targets.inboxes;
        let at = *self
            .sessions
            .entry((client.clone(), incarnation))
            .or_insert_with(|| {
                inboxes.push(InboxTarget {
                    client,
                    incarnation,
                    subscriptions: SmallVec::new(),
                });
                inboxes.len() - 1
            });
        inboxes[at].subscriptions.push(options);
    }
}
