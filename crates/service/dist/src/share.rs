//! Shared subscriptions: each message goes to one member of each group that it leads to.
//!
//! A group is a whole filter, `$share/NAME/FILTER` or `$oshare/NAME/FILTER`; its members are sessions,
//! each with a route of its own. Who publishes picks the member: [`Group::pick`] is a function of the
//! members, of what is known of each ([`Load`]) and of a seed.

mod load;
mod pick;
mod stored;

use std::sync::Arc;

use bifrust_model::{ClientId, FilterScope, NodeRef, SubscriptionOptions, TopicFilter};
use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64;

use crate::Matched;

pub(crate) use load::Loads;
pub use load::{Attendance, Load};
pub use pick::hash_publisher;
pub use stored::{KeyedPicks, StoredPick};

/// A connected session, as groups know it. Another connection of the same client is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LiveMember {
    /// The node that serves it, in its incarnation.
    pub node: NodeRef,
    /// Its connection shard.
    pub shard: u16,
    /// Its place in the shard.
    pub slot: u32,
    /// Which of the connections that had this place.
    pub generation: u32,
}

/// Who a member of a group is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MemberId {
    /// A session that ends with its connection.
    Live(LiveMember),
    /// A persistent session.
    Inbox {
        /// Its client.
        client: ClientId,
        /// Which of the client's sessions.
        incarnation: u64,
    },
}

impl MemberId {
    /// What an ordered group weighs against the publisher: the same for all sessions of a persistent
    /// client.
    fn weight(&self) -> u64 {
        match self {
            Self::Inbox { client, .. } => xxh3_64(client.as_str().as_bytes()),
            Self::Live(live) => {
                let mut bytes = [0; 34];
                bytes[..16].copy_from_slice(&live.node.id.0.to_be_bytes());
                bytes[16..24].copy_from_slice(&live.node.incarnation.0.to_be_bytes());
                bytes[24..26].copy_from_slice(&live.shard.to_be_bytes());
                bytes[26..30].copy_from_slice(&live.slot.to_be_bytes());
                bytes[30..].copy_from_slice(&live.generation.to_be_bytes());
                xxh3_64(&bytes)
            }
        }
    }
}

/// A member of a group.
#[derive(Clone, Debug)]
pub struct Member {
    /// Who it is.
    pub id: MemberId,
    /// What it asked of the filter.
    pub options: SubscriptionOptions,
    /// Whether it is there, and how busy it is.
    pub load: Arc<Load>,
    weight: u64,
}

impl Member {
    /// A member.
    pub fn new(id: MemberId, options: SubscriptionOptions, load: Arc<Load>) -> Self {
        let weight = id.weight();
        Self {
            id,
            options,
            load,
            weight,
        }
    }
}

/// A group that a topic leads to.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its whole filter, which names it.
    pub filter: TopicFilter,
    /// Its members, at least one, in the order of their routes.
    pub members: Vec<Member>,
    is_ordered: bool,
}

impl Group {
    /// A group of these members.
    pub fn new(filter: TopicFilter, members: Vec<Member>) -> Self {
        let is_ordered = matches!(filter.scope(), FilterScope::OrderedShare(_));
        Self {
            filter,
            members,
            is_ordered,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        let members = self.members.iter().map(|member| {
            let named = match &member.id {
                MemberId::Inbox { client, .. } => client.as_str().len() + 16,
                MemberId::Live(_) => 0,
            };
            size_of::<Member>() + size_of::<Load>() + 16 + named
        });
        size_of::<Self>() + self.filter.as_str().len() + members.sum::<usize>()
    }
}

/// The member of a group that gets a message: places in [`Matched::groups`](crate::Matched::groups).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pick {
    /// Which group.
    pub group: u32,
    /// Which of its members.
    pub member: u32,
}

/// The members that get a message, one of each group at most.
pub type Picks = SmallVec<[Pick; 2]>;

/// Which kinds of members some picks are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Some are live sessions.
    pub live: bool,
    /// Some are persistent ones.
    pub durable: bool,
}

impl Taken {
    /// Of what was picked of `matched`.
    pub fn by(matched: &Matched, picks: &[Pick]) -> Self {
        let mut taken = Self::default();
        for pick in picks {
            match matched.picked(*pick).map(|(_, member)| &member.id) {
                Some(MemberId::Live(_)) => taken.live = true,
                Some(MemberId::Inbox { .. }) => taken.durable = true,
                None => {}
            }
        }
        taken
    }
}

/// A group as its routes say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupRoutes {
    pub(crate) filter: TopicFilter,
    pub(crate) members: Vec<(MemberId, SubscriptionOptions)>,
}

#[cfg(test)]
mod tests;
