//! What the rows of the inbox look like: one file per kind of record, the keys in one place.
//!
//! | Keyspace | Key after (tenant, client, 0) | Record |
//! |---|---|---|
//! | `inbox_meta` | 1 | [`Meta`]: who owns the session, since when, until when |
//! | `inbox_meta` | 2, incarnation | [`Cursor`]: where queue and generations stand |
//! | `inbox_meta` | 3, incarnation, seq | PUBREC was seen; the entry's body is gone |
//! | `inbox_meta` | 4, incarnation, packet id | [`Inbound`]: a QoS 2 publish not yet released |
//! | `inbox_meta` | 5, incarnation, publisher | [`Seen`]: QoS 2 publishes already taken from it |
//! | `inbox_meta` | 5, incarnation, publisher, 0 | [`SeenWills`]: wills already taken from it |
//! | `inbox_meta` | 6, epoch | [`WillRow`] |
//! | `inbox_sub` | incarnation, filter | [`SubscriptionRow`] |
//! | `inbox_body` | incarnation, seq | [`Entry`]: a queued message |
//! | `inbox_deadline` | 1 | [`SessionDeadline`] |
//! | `inbox_deadline` | 2, epoch | [`WillDeadline`] |
//! | `inbox_deadline` | 3, incarnation | rows of an ended session, to be swept |

mod body;
mod connection;
mod cursor;
mod deadline;
mod entry;
mod field;
mod inbound;
mod key;
mod meta;
mod seen;
mod seen_wills;
mod subscription;
mod will;

pub(crate) use body::Body;
pub(crate) use cursor::Cursor;
pub(crate) use deadline::{SessionDeadline, WillDeadline};
pub(crate) use entry::{Entry, EntryHeader};
pub(crate) use field::{Reader, put_bytes, put_varint};
pub(crate) use inbound::Inbound;
pub(crate) use key::{
    BODY, DEADLINE, DeadlineKey, KeyRange, META, Prefix, SUB, align_split, number_at_end,
    parse_deadline,
};
pub(crate) use meta::Meta;
pub(crate) use seen::Seen;
pub(crate) use seen_wills::SeenWills;
pub(crate) use subscription::SubscriptionRow;
pub(crate) use will::WillRow;

/// Value of rows whose key says everything: a version.
pub(crate) const MARK: &[u8] = &[1];

#[cfg(test)]
pub(crate) use body::tests::any_message;
pub(crate) use connection::{
    connection_from_record, connection_record, node_from_record, node_record,
};
