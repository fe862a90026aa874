//! MQTT packets as a client writes and reads them.

mod property;
mod read;
mod write;

pub use property::{Properties, Property};
pub use read::{WireError, split};
pub use write::{
    Connect, Filter, Will, ack, bytes_field, disconnect, packet, string_field, subscribe,
    unsubscribe, variable,
};

/// `PINGREQ`.
pub const PINGREQ: &[u8] = &[0xC0, 0];

/// The protocol levels the broker speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1, level 4.
    V3,
    /// MQTT 5.0, level 5.
    V5,
}

/// Both levels, for tests whose rule holds in both.
pub const VERSIONS: [Version; 2] = [Version::V3, Version::V5];

/// A PUBLISH, in either direction. Its packet identifier is 0 where there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the standard's own field names")]
pub struct Publish {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub dup: bool,
    pub id: u16,
    pub properties: Properties,
}

impl Publish {
    /// A QoS 0 message.
    pub fn new(topic: impl Into<String>, payload: impl AsRef<[u8]>) -> Self {
        Self {
            topic: topic.into(),
            payload: payload.as_ref().to_vec(),
            qos: 0,
            retain: false,
            dup: false,
            id: 0,
            properties: Properties::default(),
        }
    }

    /// With this QoS.
    #[must_use]
    pub fn qos(mut self, qos: u8) -> Self {
        self.qos = qos;
        self
    }

    /// With RETAIN set.
    #[must_use]
    pub fn retain(mut self) -> Self {
        self.retain = true;
        self
    }

    /// With DUP set.
    #[must_use]
    pub fn dup(mut self) -> Self {
        self.dup = true;
        self
    }

    /// With this packet identifier.
    #[must_use]
    pub fn id(mut self, id: u16) -> Self {
        self.id = id;
        self
    }

    /// With one more property (written only by v5 clients).
    #[must_use]
    pub fn property(mut self, property: Property) -> Self {
        self.properties.0.push(property);
        self
    }

    /// The payload as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }
}

/// The four packets that acknowledge a PUBLISH step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the standard's own packet names")]
pub enum AckKind {
    Puback = 4,
    Pubrec = 5,
    Pubrel = 6,
    Pubcomp = 7,
}

/// One acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the standard's own field names")]
pub struct Ack {
    pub kind: AckKind,
    pub id: u16,
    pub code: u8,
    pub properties: Properties,
}

/// What a server sends.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the standard's own field names")]
pub enum Packet {
    Connack {
        is_present: bool,
        code: u8,
        properties: Properties,
    },
    Publish(Publish),
    Ack(Ack),
    Suback {
        id: u16,
        codes: Vec<u8>,
        properties: Properties,
    },
    Unsuback {
        id: u16,
        codes: Vec<u8>,
        properties: Properties,
    },
    Pingresp,
    Disconnect {
        code: u8,
        properties: Properties,
    },
    Auth {
        code: u8,
        properties: Properties,
    },
}
