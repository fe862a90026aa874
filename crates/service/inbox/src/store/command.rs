//! What can be asked of a range of sessions. All times and stamps are inside: apply reads no clock.

use std::sync::Arc;

use bifrust_dist::RoutingKey;
use bifrust_model::{ClientId, Hlc, SessionKey, Subscription, TenantNumber, TopicFilter};
use bifrust_session_dict::ConnectionRef;
use bytes::Bytes;

use crate::schema::{Body, EntryHeader};
use crate::{Cause, Subscribed, Will};

/// One entry of the range's log.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Command {
    Attach(Box<Attach>),
    Detach(Box<Detach>),
    Subscribe(Subscribe),
    Unsubscribe(Unsubscribe),
    ConfirmRoutes(ConfirmRoutes),
    Insert(Insert),
    InsertRetained(InsertRetained),
    Settle(Settle),
    BeginInbound(BeginInbound),
    ReleaseInbound(ReleaseInbound),
    StorePicks(StorePicks),
    Expire(Expire),
    WillSent(WillSent),
    Sweep(Sweep),
    Tidy(Tidy),
}

/// A connection takes its session.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Attach {
    pub(crate) session: SessionKey,
    pub(crate) stamp: Hlc,
    pub(crate) user: Option<Arc<str>>,
    pub(crate) owner: ConnectionRef,
    pub(crate) clean_start: bool,
    pub(crate) expiry_seconds: u32,
    pub(crate) window: u16,
    pub(crate) will: Option<Will>,
}

/// A connection gives its session up.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Detach {
    pub(crate) session: SessionKey,
    pub(crate) epoch: u64,
    pub(crate) stamp: Hlc,
    pub(crate) will: WillFate,
    pub(crate) expiry_seconds: Option<u32>,
    /// `None`: unknown, as after a crash.
    pub(crate) sent_before: Option<u64>,
    pub(crate) routed: Vec<u16>,
}

/// What the end of a connection means for its will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WillFate {
    Dropped,
    Due,
}

impl WillFate {
    pub(crate) fn of(cause: Cause, drops_when_stopping: bool) -> Self {
        match cause {
            Cause::Normal => Self::Dropped,
            Cause::ServerStopping if drops_when_stopping => Self::Dropped,
            Cause::WithWill | Cause::Lost | Cause::TakenOver | Cause::ServerStopping => Self::Due,
        }
    }
}

/// Adds or replaces subscriptions.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Subscribe {
    pub(crate) session: SessionKey,
    pub(crate) epoch: u64,
    pub(crate) stamp: Hlc,
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) max_filters: u32,
}

/// Ends subscriptions; their rows stay until their routes are gone.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Unsubscribe {
    pub(crate) session: SessionKey,
    pub(crate) epoch: u64,
    pub(crate) stamp: Hlc,
    pub(crate) filters: Vec<TopicFilter>,
}

/// Rows and routes agree as of `changed_at`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ConfirmRoutes {
    pub(crate) session: SessionKey,
    pub(crate) incarnation: u64,
    pub(crate) changed_at: u64,
    /// Subscriptions that have ended and whose routes are gone.
    pub(crate) gone: Vec<TopicFilter>,
}

/// One message for many sessions of one tenant: the body once, then where it goes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Insert {
    pub(crate) tenant: TenantNumber,
    pub(crate) body: Body,
    pub(crate) key: Option<Keyed>,
    pub(crate) bounds: Bounds,
    pub(crate) targets: Vec<Target>,
}

/// What makes inserting again harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Keyed {
    pub(crate) key: RoutingKey,
    /// The publisher has released every generation below; 0 if that is not known.
    pub(crate) floor: u64,
}

/// The tenant's bounds of one session's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) messages: u32,
    pub(crate) bytes: u64,
    /// Whether QoS 0 is queued for sessions that are offline.
    pub(crate) queues_qos0: bool,
    /// Whether the oldest QoS 0 makes room for the newest.
    pub(crate) drops_oldest_qos0: bool,
}

/// A session that gets the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) client: ClientId,
    pub(crate) incarnation: u64,
    pub(crate) header: EntryHeader,
}

/// Retained messages for one session, as many as fit.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct InsertRetained {
    pub(crate) session: SessionKey,
    pub(crate) epoch: u64,
    pub(crate) bounds: Bounds,
    pub(crate) messages: Vec<(EntryHeader, Body)>,
}

/// Entries the client has dealt with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settle {
    pub(crate) session: SessionKey,
    pub(crate) epoch: u64,
    pub(crate) received: Vec<u64>,
    pub(crate) done: Vec<u64>,
}

/// The client begins a QoS 2 publish.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BeginInbound {
    pub(crate) session: SessionKey,
    pub(crate) epoch: u64,
    pub(crate) stamp: Hlc,
    pub(crate) packet_id: u16,
}

/// The client releases a QoS 2 publish.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ReleaseInbound {
    pub(crate) session: SessionKey,
    pub(crate) epoch: u64,
    pub(crate) stamp: Hlc,
    pub(crate) packet_id: u16,
}

/// Who was picked, of the groups that a QoS 2 publish of the client leads to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StorePicks {
    pub(crate) session: SessionKey,
    pub(crate) epoch: u64,
    pub(crate) packet_id: u16,
    pub(crate) generation: u64,
    /// As dist writes them.
    pub(crate) picks: Bytes,
}

/// A session's time may be over.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Expire {
    pub(crate) session: SessionKey,
    pub(crate) epoch: u64,
    pub(crate) stamp: Hlc,
}

/// A will is done with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WillSent {
    pub(crate) session: SessionKey,
    pub(crate) epoch: u64,
}

/// Deletes a bounded part of an ended session's rows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sweep {
    pub(crate) session: SessionKey,
    pub(crate) incarnation: u64,
    /// Subscriptions whose routes are gone.
    pub(crate) filters: Vec<TopicFilter>,
    /// Most rows of other kinds to delete.
    pub(crate) limit: u32,
}

/// Forgets publishers that have nothing unreleased.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tidy {
    pub(crate) session: SessionKey,
    pub(crate) incarnation: u64,
    pub(crate) publishers: Vec<ClientId>,
}

/// What the proposer of a command hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Done,
    Fenced,
    Attached(Attached),
    OtherUser,
    /// A bound was met; nothing changed.
    Refused,
    Subscribed {
        results: Vec<Subscribed>,
        /// Whether an earlier change of the session's routes has not been confirmed.
        was_unrouted: bool,
    },
    Unsubscribed {
        existed: Vec<bool>,
        was_unrouted: bool,
    },
    Taken(usize),
    Inbound {
        generation: u64,
        incarnation: u64,
        is_routed: bool,
        floor: u64,
        picks: Bytes,
    },
    Released {
        incarnation: u64,
        floor: u64,
    },
    Swept {
        more: bool,
    },
}

/// The session that a connection got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attached {
    pub(crate) session_present: bool,
    pub(crate) epoch: u64,
    pub(crate) incarnation: u64,
    pub(crate) is_durable: bool,
    /// Packet id, generation, whether it is routed.
    pub(crate) inbound: Vec<(u16, u64, bool)>,
    pub(crate) released: Vec<u64>,
    pub(crate) first_seq: u64,
    pub(crate) next_seq: u64,
    pub(crate) sent_before: u64,
    pub(crate) floor: u64,
}
