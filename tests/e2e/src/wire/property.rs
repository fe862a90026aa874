//! The properties of MQTT 5.

use super::read::{Reader, WireError};
use super::write::{bytes_field, string_field, variable};

/// One property (MQTT 2.2.2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the standard's own names")]
pub enum Property {
    PayloadFormat(u8),
    MessageExpiry(u32),
    ContentType(String),
    ResponseTopic(String),
    CorrelationData(Vec<u8>),
    SubscriptionId(u32),
    SessionExpiry(u32),
    AssignedClientId(String),
    ServerKeepAlive(u16),
    AuthMethod(String),
    AuthData(Vec<u8>),
    RequestProblem(u8),
    WillDelay(u32),
    RequestResponse(u8),
    ResponseInformation(String),
    ServerReference(String),
    Reason(String),
    ReceiveMaximum(u16),
    TopicAliasMaximum(u16),
    TopicAlias(u16),
    MaximumQos(u8),
    RetainAvailable(u8),
    User(String, String),
    MaximumPacketSize(u32),
    WildcardAvailable(u8),
    SubscriptionIdAvailable(u8),
    SharedAvailable(u8),
}

impl Property {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::PayloadFormat(value) => byte(out, 0x01, *value),
            Self::MessageExpiry(value) => four(out, 0x02, *value),
            Self::ContentType(value) => text(out, 0x03, value),
            Self::ResponseTopic(value) => text(out, 0x08, value),
            Self::CorrelationData(value) => binary(out, 0x09, value),
            Self::SubscriptionId(value) => {
                out.push(0x0B);
                variable(out, *value);
            }
            Self::SessionExpiry(value) => four(out, 0x11, *value),
            Self::AssignedClientId(value) => text(out, 0x12, value),
            Self::ServerKeepAlive(value) => two(out, 0x13, *value),
            Self::AuthMethod(value) => text(out, 0x15, value),
            Self::AuthData(value) => binary(out, 0x16, value),
            Self::RequestProblem(value) => byte(out, 0x17, *value),
            Self::WillDelay(value) => four(out, 0x18, *value),
            Self::RequestResponse(value) => byte(out, 0x19, *value),
            Self::ResponseInformation(value) => text(out, 0x1A, value),
            Self::ServerReference(value) => text(out, 0x1C, value),
            Self::Reason(value) => text(out, 0x1F, value),
            Self::ReceiveMaximum(value) => two(out, 0x21, *value),
            Self::TopicAliasMaximum(value) => two(out, 0x22, *value),
            Self::TopicAlias(value) => two(out, 0x23, *value),
            Self::MaximumQos(value) => byte(out, 0x24, *value),
            Self::RetainAvailable(value) => byte(out, 0x25, *value),
            Self::User(name, value) => {
                out.push(0x26);
                string_field(out, name);
                string_field(out, value);
            }
            Self::MaximumPacketSize(value) => four(out, 0x27, *value),
            Self::WildcardAvailable(value) => byte(out, 0x28, *value),
            Self::SubscriptionIdAvailable(value) => byte(out, 0x29, *value),
            Self::SharedAvailable(value) => byte(out, 0x2A, *value),
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(match reader.byte()? {
            0x01 => Self::PayloadFormat(reader.byte()?),
            0x02 => Self::MessageExpiry(reader.four()?),
            0x03 => Self::ContentType(reader.text()?),
            0x08 => Self::ResponseTopic(reader.text()?),
            0x09 => Self::CorrelationData(reader.binary()?),
            0x0B => Self::SubscriptionId(reader.variable()?),
            0x11 => Self::SessionExpiry(reader.four()?),
            0x12 => Self::AssignedClientId(reader.text()?),
            0x13 => Self::ServerKeepAlive(reader.two()?),
            0x15 => Self::AuthMethod(reader.text()?),
            0x16 => Self::AuthData(reader.binary()?),
            0x17 => Self::RequestProblem(reader.byte()?),
            0x18 => Self::WillDelay(reader.four()?),
            0x19 => Self::RequestResponse(reader.byte()?),
            0x1A => Self::ResponseInformation(reader.text()?),
            0x1C => Self::ServerReference(reader.text()?),
            0x1F => Self::Reason(reader.text()?),
            0x21 => Self::ReceiveMaximum(reader.two()?),
            0x22 => Self::TopicAliasMaximum(reader.two()?),
            0x23 => Self::TopicAlias(reader.two()?),
            0x24 => Self::MaximumQos(reader.byte()?),
            0x25 => Self::RetainAvailable(reader.byte()?),
            0x26 => Self::User(reader.text()?, reader.text()?),
            0x27 => Self::MaximumPacketSize(reader.four()?),
            0x28 => Self::WildcardAvailable(reader.byte()?),
            0x29 => Self::SubscriptionIdAvailable(reader.byte()?),
            0x2A => Self::SharedAvailable(reader.byte()?),
            other => return Err(WireError(format!("property {other:#04x}"))),
        })
    }
}

/// Properties in the order of the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties(pub Vec<Property>);

impl Properties {
    /// Appends the length and the properties.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut body = Vec::new();
        for property in &self.0 {
            property.write(&mut body);
        }
        variable(
            out,
            u32::try_from(body.len()).expect("a test's properties are small"),
        );
        out.extend_from_slice(&body);
    }

    /// Reads the length and the properties.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let length = reader.variable()? as usize;
        let mut inner = Reader::new(reader.take(length)?);
        let mut properties = Vec::new();
        while !inner.is_empty() {
            properties.push(Property::read(&mut inner)?);
        }
        Ok(Self(properties))
    }

    /// The first value that `choose` picks.
    pub fn find<T>(&self, choose: impl Fn(&Property) -> Option<T>) -> Option<T> {
        self.0.iter().find_map(choose)
    }

    /// Whether exactly this property is there.
    pub fn has(&self, property: &Property) -> bool {
        self.0.contains(property)
    }

    /// User properties in order (MQTT-3.3.2-18).
    pub fn user(&self) -> Vec<(String, String)> {
        let pairs = self.0.iter().filter_map(|property| match property {
            Property::User(name, value) => Some((name.clone(), value.clone())),
            _ => None,
        });
        pairs.collect()
    }

    /// Subscription identifiers, sorted.
    pub fn subscription_ids(&self) -> Vec<u32> {
        let ids = self.0.iter().filter_map(|property| match property {
            Property::SubscriptionId(id) => Some(*id),
            _ => None,
        });
        let mut ids: Vec<u32> = ids.collect();
        ids.sort_unstable();
        ids
    }
}

fn byte(out: &mut Vec<u8>, id: u8, value: u8) {
    out.extend_from_slice(&[id, value]);
}

fn two(out: &mut Vec<u8>, id: u8, value: u16) {
    out.push(id);
    out.extend_from_slice(&value.to_be_bytes());
}

fn four(out: &mut Vec<u8>, id: u8, value: u32) {
    out.push(id);
    out.extend_from_slice(&value.to_be_bytes());
}

fn text(out: &mut Vec<u8>, id: u8, value: &str) {
    out.push(id);
    string_field(out, value);
}

fn binary(out: &mut Vec<u8>, id: u8, value: &[u8]) {
    out.push(id);
    bytes_field(out, value);
}
