//! Picks that a publisher's retry finds again, so that no second member gets the message.

use std::sync::Arc;

use bifrust_model::record::{self, RecordError};
use bifrust_model::{ClientId, Incarnation, NodeId, NodeRef, TopicFilter};
use bytes::Bytes;

use super::pick::{hash_publisher, pick};
use super::{LiveMember, MemberId, Picks};
use crate::Matched;

const VERSION: u8 = 1;

/// Who was picked of which group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPick {
    /// The group's whole filter.
    pub filter: TopicFilter,
    /// The member.
    pub member: MemberId,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Record {
    #[prost(message, repeated, tag = "1")]
    picks: Vec<PickRecord>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PickRecord {
    #[prost(string, tag = "1")]
    filter: String,
    /// A persistent session's.
    #[prost(string, optional, tag = "2")]
    client: Option<String>,
    /// Of the session, or of the node.
    #[prost(fixed64, tag = "3")]
    incarnation: u64,
    #[prost(bytes = "vec", tag = "4")]
    node: Vec<u8>,
    #[prost(uint32, tag = "5")]
    shard: u32,
    #[prost(uint32, tag = "6")]
    slot: u32,
    #[prost(uint32, tag = "7")]
    generation: u32,
}

impl StoredPick {
    /// A record of picks.
    pub fn encode(picks: &[Self]) -> Bytes {
        let of = |pick: &Self| {
            let filter = pick.filter.to_string();
            match &pick.member {
                MemberId::Inbox {
                    client,
                    incarnation,
                } => PickRecord {
                    filter,
                    client: Some(client.to_string()),
                    incarnation: *incarnation,
                    ..PickRecord::default()
                },
                MemberId::Live(live) => PickRecord {
                    filter,
                    client: None,
                    incarnation: live.node.incarnation.0,
                    node: live.node.id.0.to_be_bytes().to_vec(),
                    shard: live.shard.into(),
                    slot: live.slot,
                    generation: live.generation,
                },
            }
        };
        let picks = picks.iter().map(of).collect();
        record::encode(VERSION, &Record { picks })
    }

    /// What [`Self::encode`] made; no picks of no bytes.
    pub fn decode(bytes: Bytes) -> Result<Vec<Self>, RecordError> {
        if bytes.is_empty() {
            return Ok(Vec::new());
        }
        let record: Record = record::decode(bytes, VERSION)?;
        record.picks.into_iter().map(Self::take).collect()
    }

    fn take(record: PickRecord) -> Result<Self, RecordError> {
        let filter = TopicFilter::new(record.filter.into());
        let member = match record.client {
            Some(client) => MemberId::Inbox {
                client: ClientId::new(&client).map_err(|_| RecordError::Invalid("client"))?,
                incarnation: record.incarnation,
            },
            None => {
                let node = record.node[..].try_into();
                let node = node.map_err(|_| RecordError::Invalid("node"))?;
                MemberId::Live(LiveMember {
                    node: NodeRef {
                        id: NodeId(u128::from_be_bytes(node)),
                        incarnation: Incarnation(record.incarnation),
                    },
                    shard: u16::try_from(record.shard)
                        .map_err(|_| RecordError::Invalid("shard"))?,
                    slot: record.slot,
                    generation: record.generation,
                })
            }
        };
        Ok(Self {
            filter: filter.map_err(|_| RecordError::Invalid("filter"))?,
            member,
        })
    }
}

/// The picks of one publish with a routing key: they only grow until it is handed over.
#[derive(Debug, Default)]
pub struct KeyedPicks {
    /// Of an earlier connection, which handed over to the live ones of them.
    resumed: Vec<StoredPick>,
    /// All, as they are to be stored.
    stored: Vec<StoredPick>,
    /// Of this connection, in the latest match.
    picks: Picks,
    matched: Option<Arc<Matched>>,
}

impl KeyedPicks {
    /// Goes on where an earlier connection of the publisher ended.
    pub fn resume(stored: Vec<StoredPick>) -> Self {
        Self {
            resumed: stored.clone(),
            stored,
            ..Self::default()
        }
    }

    /// Picks a member of each group of a match, of the first `groups_max` ones, that has none yet. What
    /// was picked in an earlier match of this publish stays. Whether there is something new to be
    /// stored before the message is handed over.
    pub fn extend(
        &mut self,
        matched: &Arc<Matched>,
        publisher: &ClientId,
        seed: u64,
        groups_max: usize,
    ) -> bool {
        let (first, merged) = match &self.matched {
            None => (0, matched.clone()),
            Some(before) => (before.groups.len(), merge(before, matched)),
        };
        let publisher = hash_publisher(publisher);
        let known = self.stored.len();
        let groups = merged.groups.iter().enumerate();
        for (at, group) in groups.take(groups_max).skip(first) {
            let resumed = self.resumed.iter().find(|old| old.filter == group.filter);
            let member = match resumed.map(|old| &old.member) {
                // It was handed over while its node lived, and ended with that.
                Some(MemberId::Live(_)) => None,
                // Again: it takes a key once.
                Some(old) => group.members.iter().position(|member| member.id == *old),
                None => {
                    let picked = group.pick(publisher, seed ^ at as u64, |_| true);
                    if let Some(member) = picked.and_then(|picked| group.members.get(picked)) {
                        member.load.add();
                        self.stored.push(StoredPick {
                            filter: group.filter.clone(),
                            member: member.id.clone(),
                        });
                    }
                    picked
                }
            };
            self.picks
                .extend(member.and_then(|member| pick(at, member)));
        }
        self.matched = Some(merged);
        self.stored.len() > known
    }

    /// All that is to be stored.
    pub fn stored(&self) -> &[StoredPick] {
        &self.stored
    }

    /// What to hand over to: a match, and picks of its groups. `None` before the first match.
    pub fn targets(&self) -> Option<(&Arc<Matched>, &Picks)> {
        Some((self.matched.as_ref()?, &self.picks))
    }
}

/// A later match with the groups of the one before in their places.
fn merge(before: &Matched, later: &Matched) -> Arc<Matched> {
    let mut groups = before.groups.clone();
    let is_new = |filter: &TopicFilter| before.groups.iter().all(|group| group.filter != *filter);
    let new = later.groups.iter().filter(|group| is_new(&group.filter));
    groups.extend(new.cloned());
    let merged = Matched::new(later.live.clone(), later.inboxes.clone());
    Arc::new(merged.with_groups(groups))
}
