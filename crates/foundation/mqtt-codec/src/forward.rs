//! The properties of a message that a server passes on unaltered (3.3.2.3).
//!
//! Payload format indicator, content type, response topic, correlation data and user properties
//! travel as the bytes they came in, in their order (MQTT-3.3.2-17, MQTT-3.3.2-18).

use bytes::{Bytes, BytesMut};

use crate::error::{DecodeError, EncodeError};
use crate::frame::PacketType;
use crate::primitive::Reader;
use crate::properties::{
    CONTENT_TYPE, CORRELATION_DATA, Kept, PAYLOAD_FORMAT_INDICATOR, Properties, PropertySink,
    RESPONSE_TOPIC, Rules, USER_PROPERTY, name, set,
};
use crate::user::write_pair;
use crate::wire::{Counter, Sink};

/// The properties in question.
pub(crate) const FORWARDED: u64 = set(&[
    PAYLOAD_FORMAT_INDICATOR,
    CONTENT_TYPE,
    RESPONSE_TOPIC,
    CORRELATION_DATA,
    USER_PROPERTY,
]);

static RULES: Rules = Rules {
    packet: PacketType::Publish,
    allowed: FORWARDED,
    repeatable: set(&[USER_PROPERTY]),
};

/// One property that is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardProperty<'a> {
    /// Whether the payload says of itself that it is UTF-8.
    PayloadFormatUtf8(bool),
    /// What the payload is.
    ContentType(&'a str),
    /// Where an answer is to go.
    ResponseTopic(&'a str),
    /// What an answer is to carry.
    CorrelationData(&'a [u8]),
    /// Name and value of a user property.
    UserProperty(&'a str, &'a str),
}

/// Walks the wire bytes of forwarded properties.
///
/// Ends at the first byte that is not valid, which decoding and [`validate_forward`] rule out.
#[derive(Clone, Debug)]
pub struct ForwardProperties<'a> {
    reader: Reader<'a>,
}

impl<'a> ForwardProperties<'a> {
    /// Walks `forward`.
    pub fn new(forward: &'a [u8]) -> Self {
        Self {
            reader: Reader::borrowed(forward),
        }
    }

    fn read(&mut self) -> Result<ForwardProperty<'a>, DecodeError> {
        let reader = &mut self.reader;
        let id = reader.u8("property identifier")?;
        Ok(match id {
            PAYLOAD_FORMAT_INDICATOR => ForwardProperty::PayloadFormatUtf8(reader.flag(name(id))?),
            CONTENT_TYPE => ForwardProperty::ContentType(reader.str(name(id))?),
            RESPONSE_TOPIC => ForwardProperty::ResponseTopic(reader.str(name(id))?),
            CORRELATION_DATA => {
                let range = reader.block(name(id))?;
                ForwardProperty::CorrelationData(reader.bytes(range))
            }
            USER_PROPERTY => {
                let key = reader.str("user property name")?;
                ForwardProperty::UserProperty(key, reader.str("user property value")?)
            }
            _ => {
                let packet = PacketType::Publish;
                return Err(DecodeError::PropertyNotAllowed {
                    id: id.into(),
                    packet,
                });
            }
        })
    }
}

impl<'a> Iterator for ForwardProperties<'a> {
    type Item = ForwardProperty<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.is_at_end() {
            return None;
        }
        let next = self.read().ok();
        if next.is_none() {
            self.reader = Reader::borrowed(&[]);
        }
        next
    }
}

/// Checks bytes from elsewhere (a store, another node) as decoding would.
pub fn validate_forward(forward: &[u8]) -> Result<(), DecodeError> {
    let mut properties = Properties::bare(Reader::borrowed(forward), &RULES);
    let mut kept = Kept::default();
    while let Some(id) = properties.next_id()? {
        take(&mut properties, id, &mut kept)?;
    }
    Ok(())
}

/// Checks the value of a forwarded property without keeping more than its bytes.
pub(crate) fn take(
    properties: &mut Properties<'_>,
    id: u8,
    kept: &mut Kept,
) -> Result<(), DecodeError> {
    if id == USER_PROPERTY {
        return properties.user_property(kept);
    }
    let start = properties.reader.at() - 1;
    match id {
        PAYLOAD_FORMAT_INDICATOR => {
            properties.flag(id)?;
        }
        CONTENT_TYPE | RESPONSE_TOPIC => {
            properties.reader.str(name(id))?;
        }
        CORRELATION_DATA => {
            properties.reader.block(name(id))?;
        }
        _ => return Err(properties.unexpected(id)),
    }
    kept.keep(&properties.reader, start);
    Ok(())
}

/// Builds the wire bytes of forwarded properties.
#[derive(Clone, Debug, Default)]
pub struct ForwardBuilder<'a> {
    payload_format_utf8: Option<bool>,
    content_type: Option<&'a str>,
    response_topic: Option<&'a str>,
    correlation_data: Option<&'a [u8]>,
    user_properties: Vec<(&'a str, &'a str)>,
}

impl<'a> ForwardBuilder<'a> {
    /// No property yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says whether the payload is UTF-8.
    #[must_use]
    pub fn payload_format_utf8(mut self, is_utf8: bool) -> Self {
        self.payload_format_utf8 = Some(is_utf8);
        self
    }

    /// Says what the payload is.
    #[must_use]
    pub fn content_type(mut self, text: &'a str) -> Self {
        self.content_type = Some(text);
        self
    }

    /// Says where an answer is to go.
    #[must_use]
    pub fn response_topic(mut self, topic: &'a str) -> Self {
        self.response_topic = Some(topic);
        self
    }

    /// Says what an answer is to carry.
    #[must_use]
    pub fn correlation_data(mut self, data: &'a [u8]) -> Self {
        self.correlation_data = Some(data);
        self
    }

    /// Adds a user property behind those already there.
    #[must_use]
    pub fn user_property(mut self, name: &'a str, value: &'a str) -> Self {
        self.user_properties.push((name, value));
        self
    }

    /// The wire bytes.
    pub fn build(&self) -> Result<Bytes, EncodeError> {
        let mut counter = Counter::default();
        self.write(&mut counter);
        let mut out = BytesMut::with_capacity(counter.finish()?);
        self.write(&mut out);
        Ok(out.freeze())
    }

    fn write<S: Sink>(&self, out: &mut S) {
        out.flag_property(PAYLOAD_FORMAT_INDICATOR, self.payload_format_utf8);
        out.string_property(CONTENT_TYPE, self.content_type);
        out.string_property(RESPONSE_TOPIC, self.response_topic);
        out.binary_property(CORRELATION_DATA, self.correlation_data);
        for (name, value) in &self.user_properties {
            write_pair(name, value, out);
        }
    }
}
