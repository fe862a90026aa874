//! Who a route leads to.

use bifrust_model::{ClientId, NodeRef, SubscriptionOptions};

use crate::LiveMember;

/// The end of a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Receiver {
    /// Live sessions of one connection shard; the shard knows which.
    Live {
        /// The node that serves them, in its incarnation.
        node: NodeRef,
        /// The connection shard, below 64.
        shard: u16,
    },
    /// A persistent session.
    Inbox {
        /// Its client.
        client: ClientId,
        /// Which of the client's sessions; a later session has another one.
        incarnation: u64,
        /// What the client asked of this filter. Ignored when a route is removed.
        options: SubscriptionOptions,
    },
    /// A live session as a member of a group: the filter is a shared one.
    Member {
        /// Which session.
        session: LiveMember,
        /// What the client asked of this filter. Ignored when a route is removed.
        options: SubscriptionOptions,
    },
}
