//! Packets a client sends.

use super::{AckKind, Properties, Property, Publish, Version};

/// A CONNECT.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the standard's own field names")]
pub struct Connect {
    pub version: Version,
    pub client_id: String,
    pub is_clean: bool,
    pub keep_alive: u16,
    pub user: Option<String>,
    pub password: Option<Vec<u8>>,
    pub will: Option<Will>,
    pub properties: Properties,
}

/// A will message.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the standard's own field names")]
pub struct Will {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub properties: Properties,
}

impl Will {
    /// A QoS 0 will.
    pub fn new(topic: impl Into<String>, payload: impl AsRef<[u8]>) -> Self {
        Self {
            topic: topic.into(),
            payload: payload.as_ref().to_vec(),
            qos: 0,
            retain: false,
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

    /// With a delay in seconds.
    #[must_use]
    pub fn delay(self, seconds: u32) -> Self {
        self.property(Property::WillDelay(seconds))
    }

    /// With one more property.
    #[must_use]
    pub fn property(mut self, property: Property) -> Self {
        self.properties.0.push(property);
        self
    }
}

impl Connect {
    /// A clean CONNECT of this version.
    pub fn new(version: Version, client_id: impl Into<String>) -> Self {
        Self {
            version,
            client_id: client_id.into(),
            is_clean: true,
            keep_alive: 60,
            user: None,
            password: None,
            will: None,
            properties: Properties::default(),
        }
    }

    /// A clean MQTT 3.1.1 CONNECT.
    pub fn v3(client_id: impl Into<String>) -> Self {
        Self::new(Version::V3, client_id)
    }

    /// A clean MQTT 5 CONNECT.
    pub fn v5(client_id: impl Into<String>) -> Self {
        Self::new(Version::V5, client_id)
    }

    /// A CONNECT that resumes, and leaves a session for an hour (v5; v3: the broker's default).
    pub fn persistent(version: Version, client_id: impl Into<String>) -> Self {
        let connect = Self::new(version, client_id).resume();
        match version {
            Version::V3 => connect,
            Version::V5 => connect.expiry(3600),
        }
    }

    /// Without Clean Start (v3: Clean Session).
    #[must_use]
    pub fn resume(mut self) -> Self {
        self.is_clean = false;
        self
    }

    /// With this session expiry.
    #[must_use]
    pub fn expiry(self, seconds: u32) -> Self {
        self.property(Property::SessionExpiry(seconds))
    }

    /// With this keep alive.
    #[must_use]
    pub fn keep_alive(mut self, seconds: u16) -> Self {
        self.keep_alive = seconds;
        self
    }

    /// With this user name.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// With this password.
    #[must_use]
    pub fn password(mut self, password: impl AsRef<[u8]>) -> Self {
        self.password = Some(password.as_ref().to_vec());
        self
    }

    /// With this will.
    #[must_use]
    pub fn will(mut self, will: Will) -> Self {
        self.will = Some(will);
        self
    }

    /// With this receive maximum.
    #[must_use]
    pub fn receive_maximum(self, maximum: u16) -> Self {
        self.property(Property::ReceiveMaximum(maximum))
    }

    /// With one more property (written only at v5).
    #[must_use]
    pub fn property(mut self, property: Property) -> Self {
        self.properties.0.push(property);
        self
    }

    /// The bytes of the packet.
    pub fn encode(&self) -> Vec<u8> {
        let is_v5 = self.version == Version::V5;
        let mut body = Vec::new();
        string_field(&mut body, "MQTT");
        body.push(if is_v5 { 5 } else { 4 });
        let mut flags = u8::from(self.is_clean) << 1;
        if let Some(will) = &self.will {
            flags |= 0x04 | (will.qos << 3) | (u8::from(will.retain) << 5);
        }
        flags |= u8::from(self.password.is_some()) << 6;
        flags |= u8::from(self.user.is_some()) << 7;
        body.push(flags);
        body.extend_from_slice(&self.keep_alive.to_be_bytes());
        if is_v5 {
            self.properties.write(&mut body);
        }
        string_field(&mut body, &self.client_id);
        if let Some(will) = &self.will {
            if is_v5 {
                will.properties.write(&mut body);
            }
            string_field(&mut body, &will.topic);
            bytes_field(&mut body, &will.payload);
        }
        if let Some(user) = &self.user {
            string_field(&mut body, user);
        }
        if let Some(password) = &self.password {
            bytes_field(&mut body, password);
        }
        packet(0x10, &body)
    }
}

impl Publish {
    /// The bytes of the packet.
    pub fn encode(&self, version: Version) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.topic.len() + self.payload.len() + 16);
        string_field(&mut body, &self.topic);
        if self.qos > 0 {
            body.extend_from_slice(&self.id.to_be_bytes());
        }
        if version == Version::V5 {
            self.properties.write(&mut body);
        }
        body.extend_from_slice(&self.payload);
        let flags = u8::from(self.retain) | (self.qos << 1) | (u8::from(self.dup) << 3);
        packet(0x30 | flags, &body)
    }
}

/// A topic filter with its options (MQTT 3.8.3.1).
#[derive(Clone, Debug)]
pub struct Filter {
    /// The filter.
    pub filter: String,
    /// The options byte.
    pub options: u8,
}

impl Filter {
    /// This filter at this QoS.
    pub fn new(filter: impl Into<String>, qos: u8) -> Self {
        Self {
            filter: filter.into(),
            options: qos,
        }
    }

    /// With No Local.
    #[must_use]
    pub fn no_local(mut self) -> Self {
        self.options |= 0x04;
        self
    }

    /// With Retain As Published.
    #[must_use]
    pub fn retain_as_published(mut self) -> Self {
        self.options |= 0x08;
        self
    }

    /// With this Retain Handling.
    #[must_use]
    pub fn retain_handling(mut self, handling: u8) -> Self {
        self.options |= handling << 4;
        self
    }
}

/// A SUBSCRIBE.
pub fn subscribe(
    version: Version,
    id: u16,
    filters: &[Filter],
    properties: &Properties,
) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if version == Version::V5 {
        properties.write(&mut body);
    }
    for filter in filters {
        string_field(&mut body, &filter.filter);
        body.push(filter.options);
    }
    packet(0x82, &body)
}

/// An UNSUBSCRIBE.
pub fn unsubscribe(version: Version, id: u16, filters: &[&str]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if version == Version::V5 {
        body.push(0);
    }
    for filter in filters {
        string_field(&mut body, filter);
    }
    packet(0xA2, &body)
}

/// An acknowledgement without a reason code.
pub fn ack(kind: AckKind, id: u16) -> Vec<u8> {
    let flags = if kind == AckKind::Pubrel { 0x02 } else { 0 };
    packet(((kind as u8) << 4) | flags, &id.to_be_bytes())
}

/// A DISCONNECT with this reason; 0 gives the short form.
pub fn disconnect(version: Version, code: u8, properties: &Properties) -> Vec<u8> {
    if version == Version::V3 || (code == 0 && properties.0.is_empty()) {
        return packet(0xE0, &[]);
    }
    let mut body = vec![code];
    properties.write(&mut body);
    packet(0xE0, &body)
}

/// A packet with this first byte around `body`.
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 5);
    out.push(first);
    variable(
        &mut out,
        u32::try_from(body.len()).expect("a test's packet is below 4 GiB"),
    );
    out.extend_from_slice(body);
    out
}

/// Appends a variable byte integer (MQTT 1.5.5).
pub fn variable(out: &mut Vec<u8>, mut value: u32) {
    loop {
        let low = (value & 0x7F) as u8;
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Appends a string with its length.
pub fn string_field(out: &mut Vec<u8>, text: &str) {
    bytes_field(out, text.as_bytes());
}

/// Appends bytes with their length.
pub fn bytes_field(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).expect("a field holds at most 65535 bytes");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}
