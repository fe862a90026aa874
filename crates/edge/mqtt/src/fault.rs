//! Planted protocol faults: the conformance suite is tested to see each of them.
//!
//! Without the feature `planted-faults` nothing of this is left in the program.

/// One way to break the standard. `BIFRUST_TEST_FAULT` names it by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Fault {
    /// A second CONNECT is ignored.
    SecondConnect = 1,
    /// PINGREQ is not answered.
    PingUnanswered = 2,
    /// PUBACK and PUBREC carry another identifier.
    PubackIdentifier = 3,
    /// A QoS 2 message that comes again is delivered again.
    DuplicateTaken = 4,
    /// RETAIN is passed on to whoever did not ask for it.
    RetainPassedOn = 5,
    /// Messages are sent with the QoS of their publisher.
    QosNotLowered = 6,
    /// No Local is ignored.
    NoLocalIgnored = 7,
    /// DISCONNECT does not drop the will.
    WillAfterDisconnect = 8,
    /// Wills are not kept.
    WillLost = 9,
    /// Wills are never retained.
    WillNotRetained = 10,
    /// CONNACK never says that a session is present.
    SessionPresentZero = 11,
    /// Clean Start is ignored.
    CleanStartIgnored = 12,
    /// Silence is never too long.
    KeepAliveIgnored = 13,
    /// An older connection of a client is not ended.
    OlderConnectionStays = 14,
    /// Codes of SUBACK and UNSUBACK come in the opposite order.
    CodesReversed = 15,
    /// UNSUBSCRIBE is answered, and nothing else.
    UnsubscribeIgnored = 16,
    /// The client's Receive Maximum is ignored.
    WindowIgnored = 17,
    /// The client's Maximum Packet Size is ignored.
    PacketMaximumIgnored = 18,
    /// Properties of messages are not passed on.
    PropertiesLost = 19,
    /// Message Expiry Interval does not count down.
    ExpiryStands = 20,
    /// Subscription identifiers are forgotten.
    SubscriptionIdentifierLost = 21,
    /// Topic aliases above the maximum are taken.
    AliasMaximumIgnored = 22,
    /// Text frames of WebSockets are taken as binary ones.
    TextFrameTaken = 23,
    /// CONNACK does not say which identifier was assigned.
    AssignedIdentifierUntold = 24,
    /// PUBREL is not sent again on the next connection.
    PubrelNotRepeated = 25,
}

/// Whether this fault is planted.
#[cfg(not(feature = "planted-faults"))]
#[inline]
pub(crate) const fn planted(_: Fault) -> bool {
    false
}

/// Whether this fault is planted.
#[cfg(feature = "planted-faults")]
pub(crate) fn planted(fault: Fault) -> bool {
    use std::sync::OnceLock;
    static PLANTED: OnceLock<Option<u8>> = OnceLock::new();
    let number = PLANTED.get_or_init(|| std::env::var("BIFRUST_TEST_FAULT").ok()?.parse().ok());
    *number == Some(fault as u8)
}
