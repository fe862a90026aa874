//! What a connection says to the session it owns, and what it hears back.

use std::sync::Arc;

use bifrust_dist::{RoutingKey, StoredPick};
use bifrust_model::{ClientId, ClientInfo, SessionKey, Subscription, Tenant};
use bifrust_session_dict::ConnectionRef;

use crate::Will;

/// A CONNECT as far as it concerns the session.
#[derive(Clone, Debug)]
pub struct Open {
    /// The client's tenant.
    pub tenant: Arc<Tenant>,
    /// Who connects.
    pub client: Arc<ClientInfo>,
    /// The connection that will own the session.
    pub owner: ConnectionRef,
    /// Whether an older session of this client ends first.
    pub clean_start: bool,
    /// Seconds the session outlives the connection, within the tenant's clamps: 0 is a transient
    /// session, `u32::MAX` never ends.
    pub expiry_seconds: u32,
    /// QoS 1 and 2 publishes the client takes at once: its Receive Maximum.
    pub window: u16,
    /// The connection's will.
    pub will: Option<Will>,
}

/// The session that a CONNECT got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Whether an older session goes on: the Session Present flag.
    pub session_present: bool,
    /// The connection's number: rises with each connection of the session.
    pub epoch: u64,
    /// The session's number: another one for each session of the client.
    pub incarnation: u64,
    /// False for a transient session: it has no rows here (its will may), and of what follows
    /// nothing applies; only [`crate::Inbox::detach`] is called for it.
    pub is_durable: bool,
    /// Subscriptions of the resumed session; their routes stand.
    pub subscriptions: Vec<Subscription>,
    /// QoS 2 publishes of the client that it has not released.
    pub inbound: Vec<InboundId>,
    /// Sequence numbers whose PUBREC was seen: their PUBREL is sent again, in this order.
    pub released: Vec<u64>,
    /// The first entry to fetch; it may lie below entries that were already sent.
    pub next_seq: u64,
}

/// A connection's hold on its session. Every call with one is refused as
/// [`crate::InboxError::Fenced`] once a newer connection owns the session.
#[derive(Clone, Debug)]
pub struct SessionRef {
    /// The client's tenant.
    pub tenant: Arc<Tenant>,
    /// The client.
    pub client: ClientId,
    /// The connection's number, from [`Opened::epoch`].
    pub epoch: u64,
}

impl SessionRef {
    /// What the session is known by across the cluster.
    pub fn key(&self) -> SessionKey {
        SessionKey {
            tenant: self.tenant.number,
            client: self.client.clone(),
        }
    }
}

/// A QoS 2 publish of the client that it has not released.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundId {
    /// The packet id the client chose.
    pub packet_id: u16,
    /// What makes routing it again harmless.
    pub key: RoutingKey,
    /// Whether it is known to be routed: a repeated PUBLISH gets PUBREC and goes nowhere.
    pub is_routed: bool,
    /// The members of groups that were picked for it, in an earlier connection.
    pub picks: Vec<StoredPick>,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detach {
    /// Why.
    pub cause: Cause,
    /// A new session expiry from DISCONNECT, within the tenant's clamps; 0 ends the session.
    pub expiry_seconds: Option<u32>,
    /// The first sequence number of which no byte went to the socket.
    pub sent_before: u64,
    /// Packet ids of QoS 2 publishes of the client that are routed and not released.
    pub routed: Vec<u16>,
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// DISCONNECT with 0x00, or any other reason that drops the will.
    Normal,
    /// DISCONNECT with 0x04: the will is sent.
    WithWill,
    /// The network failed, the keep alive ran out, the client broke the protocol.
    Lost,
    /// Another connection took the session over.
    TakenOver,
    /// The server is stopping; whether the will is sent is the tenant's setting.
    ServerStopping,
}

/// What became of one filter of a SUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscribed {
    /// It did not exist before.
    New,
    /// It existed; its options are the new ones.
    Replaced,
    /// The session has as many subscriptions as it may.
    QuotaExceeded,
    /// Its route could not be stored; the client has to try again.
    Failed,
}

/// What the client has done with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settle {
    /// PUBREC was seen: durable before PUBREL is sent.
    Received(u64),
    /// The entry is finished: PUBACK, PUBCOMP, QoS 0 written, expired, refused by the client.
    Done(u64),
}
