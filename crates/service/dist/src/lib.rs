//! Routes: which receivers a topic leads to.
//!
//! ```text
//! subscriber's shard, inbox --add_route / remove_route--> range "dist" (rows: filter -> receiver)
//!                                  |                           ^
//!                                  v                           | skip-scan, once per miss
//!                      matches of this topic are stale         |
//!                                  |                           |
//! publisher --matched / match_topic / publish--> cache (tenant, topic) -> Matched,
//!                                                or gaps between rows that the topic falls into
//!                                                              |
//!                                        live sessions <-- Deliverer --> persistent sessions
//! ```
//!
//! Live sessions are routed in two steps: a row says which connection shards of a node have sessions
//! for a filter, and the shard knows its sessions. Persistent sessions have a row each. Filters are
//! stored in level order, so that a topic finds its filters by a skip-scan, and matches are cached per
//! topic within a bound. Ever new topics that lead nowhere are told by the gaps that earlier scans saw.
//!
//! Two rules make C2 hold. A route change is answered only after every cached match that it touches is
//! stale, so whoever publishes after the answer matches anew. A match being read while a route of its
//! topic changes never enters the cache.
//!
//! What it never does: hold all routes in memory, hand a message to a session itself, or wait on a
//! caller's thread.

mod absent;
mod cache;
mod client;
mod config;
mod error;
#[doc(hidden)]
pub mod fuzz;
mod matched;
mod publication;
mod range;
mod receiver;
mod schema;
mod share;
mod store;
mod topic_walk;

pub use bifrust_kv::Then;
pub use client::Dist;
pub use config::Config;
pub use error::{MatchError, OpenError, PublishError, RouteError};
pub use matched::{InboxTarget, LiveTarget, Matched};
pub use publication::{Deliverer, Publication, RoutingKey};
pub use receiver::Receiver;
pub use share::{
    Attendance, Group, KeyedPicks, LiveMember, Load, Member, MemberId, Pick, Picks, StoredPick,
    Taken, hash_publisher,
};

/// Where the rows are, for whoever opens the store.
pub fn keyspaces() -> &'static [bifrust_storage::Keyspace] {
    <store::Routes as bifrust_kv::Coprocessor>::KEYSPACES
}
