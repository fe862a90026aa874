//! Events: what happened, for those who listen. Names are BifroMQ's.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::{ClientInfo, Hlc, TenantName, Topic};

macro_rules! events {
    ($($(#[doc = $doc:literal])+ $kind:ident = $name:literal,)+) => {
        /// What kind of thing happened.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum EventKind {
            $($(#[doc = $doc])+ $kind,)+
        }

        impl EventKind {
            /// All kinds, in the order of their numbers.
            pub const ALL: &'static [EventKind] = &[$(Self::$kind,)+];

            /// The name that sinks and meters use.
            pub fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)+ }
            }
        }
    };
}

events! {
    /// Authentication failed for a reason of its own.
    AuthError = "AUTH_ERROR",
    /// Wrong user or password, or none.
    UnauthenticatedClient = "UNAUTHENTICATED_CLIENT",
    /// Known, and not allowed in.
    NotAuthorizedClient = "NOT_AUTHORIZED_CLIENT",
    /// The network failed before there was a session.
    ChannelError = "CHANNEL_ERROR",
    /// A client left in the middle of its enhanced authentication.
    EnhancedAuthAbortByClient = "ENHANCED_AUTH_ABORT_BY_CLIENT",
    /// A client that authenticated once more failed.
    ReAuthFailed = "RE_AUTH_FAILED",
    /// No CONNECT in time.
    ConnectTimeout = "CONNECT_TIMEOUT",
    /// Client id too long, or empty where it may not be.
    IdentifierRejected = "IDENTIFIER_REJECTED",
    /// Bytes before CONNECT that are not MQTT.
    ProtocolError = "PROTOCOL_ERROR",
    /// A protocol version that is not served.
    UnacceptedProtocolVer = "UNACCEPTED_PROTOCOL_VER",
    /// A client is connected.
    ClientConnected = "CLIENT_CONNECTED",
    /// A session began.
    MqttSessionStart = "MQTT_SESSION_START",
    /// A session ended.
    MqttSessionStop = "MQTT_SESSION_STOP",
    /// A packet was not sent since the client takes no packet that large.
    OversizePacketDropped = "OVERSIZE_PACKET_DROPPED",
    /// A client does not read.
    SubStalled = "SUB_STALLED",
    /// A malformed packet.
    BadPacket = "BAD_PACKET",
    /// The client left.
    ByClient = "BY_CLIENT",
    /// The server is stopping.
    ByServer = "BY_SERVER",
    /// A client was sent to another server.
    ServerRedirected = "SERVER_REDIRECTED",
    /// The server is too busy.
    ServerBusy = "SERVER_BUSY",
    /// A resource of the tenant or session ran out.
    ResourceThrottled = "RESOURCE_THROTTLED",
    /// The network failed.
    ClientChannelError = "CLIENT_CHANNEL_ERROR",
    /// The keep alive ran out.
    Idle = "IDLE",
    /// A durable session could not be reached.
    InboxTransientError = "INBOX_TRANSIENT_ERROR",
    /// A topic name over a limit or with a wildcard.
    InvalidTopic = "INVALID_TOPIC",
    /// A topic filter over a limit or malformed.
    InvalidTopicFilter = "INVALID_TOPIC_FILTER",
    /// Another connection took the session over.
    Kicked = "KICKED",
    /// A publish that the client may not do; it is closed or answered.
    NoPubPermission = "NO_PUB_PERMISSION",
    /// The client broke the protocol.
    ProtocolViolation = "PROTOCOL_VIOLATION",
    /// More in flight than the Receive Maximum.
    ExceedReceivingLimit = "EXCEED_RECEIVING_LIMIT",
    /// More publishes per second than allowed; reading slows.
    ExceedPubRate = "EXCEED_PUB_RATE",
    /// Too many filters in one SUBSCRIBE.
    TooLargeSubscription = "TOO_LARGE_SUBSCRIPTION",
    /// Too many filters in one UNSUBSCRIBE.
    TooLargeUnsubscription = "TOO_LARGE_UNSUBSCRIPTION",
    /// A publish was refused by the permission check.
    PubActionDisallow = "PUB_ACTION_DISALLOW",
    /// A subscription was refused by the permission check.
    SubActionDisallow = "SUB_ACTION_DISALLOW",
    /// The permission check failed.
    AccessControlError = "ACCESS_CONTROL_ERROR",
    /// A will was sent.
    WillDisted = "WILL_DISTED",
    /// A will could not be sent.
    WillDistError = "WILL_DIST_ERROR",
    /// A QoS 0 publish could not be routed.
    Qos0DistError = "QOS0_DIST_ERROR",
    /// A QoS 1 publish could not be routed.
    Qos1DistError = "QOS1_DIST_ERROR",
    /// A QoS 2 publish could not be routed.
    Qos2DistError = "QOS2_DIST_ERROR",
    /// A QoS 0 message was dropped before its receiver.
    Qos0Dropped = "QOS0_DROPPED",
    /// A QoS 1 message was dropped before its receiver.
    Qos1Dropped = "QOS1_DROPPED",
    /// A QoS 2 message was dropped before its receiver.
    Qos2Dropped = "QOS2_DROPPED",
    /// A subscription was answered.
    SubAcked = "SUB_ACKED",
    /// An unsubscription was answered.
    UnsubAcked = "UNSUB_ACKED",
    /// A retained message was stored.
    MsgRetained = "MSG_RETAINED",
    /// A retained message was cleared.
    RetainMsgCleared = "RETAIN_MSG_CLEARED",
    /// A retained message could not be stored.
    MsgRetainedError = "MSG_RETAINED_ERROR",
    /// Retained messages could not be read.
    MatchRetainError = "MATCH_RETAIN_ERROR",
    /// A message could not be matched.
    DistError = "DIST_ERROR",
    /// A message could not be handed to a receiver.
    DeliverError = "DELIVER_ERROR",
    /// More persistent receivers than allowed.
    PersistentFanoutThrottled = "PERSISTENT_FANOUT_THROTTLED",
    /// More groups of shared subscriptions than allowed.
    GroupFanoutThrottled = "GROUP_FANOUT_THROTTLED",
    /// A route could not be stored.
    MatchError = "MATCH_ERROR",
    /// A route could not be removed.
    UnmatchError = "UNMATCH_ERROR",
    /// A queue is full; messages were refused or dropped.
    Overflowed = "OVERFLOWED",
    /// A quota of the tenant is used up.
    OutOfTenantResource = "OUT_OF_TENANT_RESOURCE",
    /// A stamp of another node is too far ahead.
    ClockDrift = "CLOCK_DRIFT",
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One thing that happened. Owned, so that a sink may keep it or send it on.
#[derive(Clone, Debug)]
pub struct Event {
    /// What kind of thing.
    pub kind: EventKind,
    /// When.
    pub at: Hlc,
    /// In which tenant, where one is known.
    pub tenant: Option<TenantName>,
    /// The client it concerns, where it is known.
    pub client: Option<Arc<ClientInfo>>,
    /// The peer it concerns, where no client is known yet.
    pub peer: Option<SocketAddr>,
    /// The topic it concerns.
    pub topic: Option<Topic>,
    /// The MQTT reason code that the peer got, where there is one.
    pub reason: Option<u8>,
    /// What else there is to say.
    pub detail: String,
}

impl Event {
    /// An event of which only kind and time are known.
    pub fn new(kind: EventKind, at: Hlc) -> Self {
        Self {
            kind,
            at,
            tenant: None,
            client: None,
            peer: None,
            topic: None,
            reason: None,
            detail: String::new(),
        }
    }

    /// The same event about this client.
    pub fn client(mut self, client: &Arc<ClientInfo>) -> Self {
        self.tenant = Some(client.tenant.clone());
        self.client = Some(client.clone());
        self
    }

    /// The same event about this tenant.
    pub fn tenant(mut self, tenant: &TenantName) -> Self {
        self.tenant = Some(tenant.clone());
        self
    }

    /// The same event about this topic.
    pub fn topic(mut self, topic: &Topic) -> Self {
        self.topic = Some(topic.clone());
        self
    }

    /// The same event with the reason code that the peer got.
    pub fn reason(mut self, code: u8) -> Self {
        self.reason = Some(code);
        self
    }

    /// The same event with more to say.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }
}
