//! From a topic to its routes: a skip-scan over filters in level order.
//!
//! One position moves through the rows and never goes back: the row it stands on tells how far the next
//! wanted key is, so a child that does not exist mostly costs a comparison, and a read never happens
//! twice. The cost is bounded by the branches that exist, not by the number of filters.
//!
//! A seek steps over rows that were removed since the engine last tidied up. While there are many of them
//! each seek ends with the branch that it looks for: that takes more of them, and tells of no gaps, but what
//! was removed elsewhere costs nothing.

use std::ops::Bound;

use bifrust_kv::prefix_end;
use bifrust_model::record::RecordError;
use bifrust_model::{ClientId, FilterScope, SubscriptionOptions, TenantNumber, levels};
use bifrust_storage::{Direction, Read, Row, StorageError};
use hashbrown::HashMap;
use smallvec::SmallVec;

use super::{ROUTES, damaged, tenant_end};
use crate::schema::inbox_route::InboxRoute;
use crate::schema::live_route::LiveRoute;
use crate::schema::route_key::{self, ReceiverKey};
use crate::share::GroupRoutes;
use crate::topic_walk::{Branches, walk};
use crate::{InboxTarget, LiveTarget, MemberId};

/// What a topic's routes lead to, grouped by node and by session.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Targets {
    pub(crate) live: SmallVec<[LiveTarget; 1]>,
    pub(crate) inboxes: Vec<InboxTarget>,
    pub(crate) groups: Vec<GroupRoutes>,
}

impl Targets {
    fn is_empty(&self) -> bool {
        self.live.is_empty() && self.inboxes.is_empty() && self.groups.is_empty()
    }
}

/// A run of keys of one tenant that holds no row: from `start` on, before `end`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) start: Vec<u8>,
    pub(crate) end: Vec<u8>,
}

/// Removed rows that a seek may meet; with more it looks no further than its own branch.
const REMOVED_MAX: u64 = 512;

/// Gaps that one answer tells of.
const GAPS_MAX: usize = 64;

/// All routes of the tenant whose filter matches the topic. If there are none, where it was seen.
pub(crate) fn targets(
    read: &dyn Read,
    tenant: TenantNumber,
    topic: &str,
) -> Result<(Targets, Vec<Gap>), StorageError> {
    let looks_far = read.removed(ROUTES) <= REMOVED_MAX;
    let mut scan = Scan::new(read, tenant, looks_far);
    walk(tenant, topic, &mut scan)?;
    let targets = scan.found.targets;
    let mut gaps = scan.gaps;
    if !targets.is_empty() {
        gaps.clear();
    } else if let Some(last) = gaps.last_mut() {
        // Mostly the one that the topic's own name fell into. The next new topic may fall before it, so
        // that the whole gap is worth one more read.
        last.start = gap_start(read, tenant, &last.start)?;
    }
    Ok((targets, gaps))
}

/// Where the gap begins that holds `key`.
fn gap_start(read: &dyn Read, tenant: TenantNumber, key: &[u8]) -> Result<Vec<u8>, StorageError> {
    let first = tenant.key();
    let before = (Bound::Included(&first[..]), Bound::Excluded(key));
    let mut rows = read.range(ROUTES, before.0, before.1, Direction::Backward);
    Ok(match rows.next().transpose()? {
        Some((row, _)) => [&row[..], &[0]].concat(),
        None => first.to_vec(),
    })
}

/// A position in the tenant's rows that only moves forward.
struct Scan<'r> {
    read: &'r dyn Read,
    end: Bound<Vec<u8>>,
    /// Whether a seek goes on beyond the branch that it looks for.
    looks_far: bool,
    /// The first row at or after what was last looked for.
    at: Position,
    found: Gathered,
    /// Seen between what was looked for and the row that came instead.
    gaps: Vec<Gap>,
}

enum Position {
    /// Nothing is known about where the next row is.
    Unknown,
    Row(Row),
    /// No row follows.
    End,
}

impl<'r> Scan<'r> {
    fn new(read: &'r dyn Read, tenant: TenantNumber, looks_far: bool) -> Self {
        Self {
            read,
            end: tenant_end(tenant),
            looks_far,
            at: Position::Unknown,
            found: Gathered::default(),
            gaps: Vec::new(),
        }
    }

    /// No row stands between `prefix` and the position.
    fn note_gap(&mut self, prefix: &[u8]) {
        let end = match (&self.at, &self.end) {
            (Position::Row((key, _)), _) => key.to_vec(),
            (Position::End, Bound::Excluded(end)) => end.clone(),
            _ => return,
        };
        if self.gaps.len() < GAPS_MAX {
            let start = prefix.to_vec();
            self.gaps.push(Gap { start, end });
        }
    }
}

impl Branches for Scan<'_> {
    type Error = StorageError;

    fn has(&mut self, prefix: &[u8]) -> Result<bool, StorageError> {
        let is_ahead = match &self.at {
            Position::Row((key, _)) => &key[..] < prefix,
            Position::Unknown => true,
            Position::End => false,
        };
        if is_ahead && !self.looks_far {
            let end = prefix_end(prefix);
            let row = self
                .read
                .seek(ROUTES, prefix, end.as_ref().map(Vec::as_slice))?;
            self.at = row.map_or(Position::Unknown, Position::Row);
        } else if is_ahead {
            let end = self.end.as_ref().map(Vec::as_slice);
            let row = self.read.seek(ROUTES, prefix, end)?;
            self.at = row.map_or(Position::End, Position::Row);
            self.note_gap(prefix);
        }
        Ok(match &self.at {
            Position::Row((key, _)) => key.starts_with(prefix),
            Position::Unknown | Position::End => false,
        })
    }

    fn gather(&mut self, path: &[u8]) -> Result<(), StorageError> {
        let end = prefix_end(path);
        let rows = self.read.range(
            ROUTES,
            Bound::Included(path),
            end.as_ref().map(Vec::as_slice),
            Direction::Forward,
        );
        let first_group = self.found.targets.groups.len();
        for row in rows {
            let (key, value) = row?;
            let part = key.get(path.len()..).unwrap_or_default();
            self.found
                .add(path, part, value, first_group)
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
    /// Takes the row of the filter at `path` whose key goes on with `part`. The filter's groups begin
    /// at `first_group`.
    fn add(
        &mut self,
        path: &[u8],
        part: &[u8],
        value: bytes::Bytes,
        first_group: usize,
    ) -> Result<(), RecordError> {
        let (scope, receiver) =
            route_key::decode_end(part).ok_or(RecordError::Invalid("receiver"))?;
        let is_plain = scope == FilterScope::Plain;
        let id = match receiver {
            ReceiverKey::Live(node) if is_plain => {
                let shards = LiveRoute::decode(value)?.mask();
                let mut live = self.targets.live.iter_mut();
                match live.find(|target| target.node == node) {
                    Some(target) => target.shards |= shards,
                    None => self.targets.live.push(LiveTarget { node, shards }),
                }
                return Ok(());
            }
            ReceiverKey::Inbox {
                client,
                incarnation,
            } => {
                if is_plain {
                    let options = InboxRoute::decode(value)?.options;
                    self.add_inbox(client, incarnation, options);
                    return Ok(());
                }
                MemberId::Inbox {
                    client,
                    incarnation,
                }
            }
            ReceiverKey::Member(session) if !is_plain => MemberId::Live(session),
            ReceiverKey::Live(_) | ReceiverKey::Member(_) => {
                return Err(RecordError::Invalid("receiver of a group"));
            }
        };
        let options = InboxRoute::decode(value)?.options;
        let group = self.group(path, scope, first_group)?;
        group.members.push((id, options));
        Ok(())
    }

    /// The group that a row belongs to. The rows of one group are a run.
    fn group(
        &mut self,
        path: &[u8],
        scope: FilterScope<'_>,
        first_group: usize,
    ) -> Result<&mut GroupRoutes, RecordError> {
        let groups = &mut self.targets.groups;
        let latest = groups.get(first_group..).and_then(<[_]>::last);
        if latest.is_none_or(|latest| latest.filter.scope() != scope) {
            let (plain, _) = path
                .get(size_of::<TenantNumber>()..)
                .and_then(levels::split_name)
                .ok_or(RecordError::Invalid("filter"))?;
            let filter = route_key::scoped(scope, plain);
            groups.push(GroupRoutes {
                filter: filter.ok_or(RecordError::Invalid("shared filter"))?,
                members: Vec::new(),
            });
        }
        groups.last_mut().ok_or(RecordError::Invalid("group"))
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
