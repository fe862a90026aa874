//! PUBLISH on its way out: encoded once per kind of receiver, then copied and patched.

use bytes::{Bytes, BytesMut};

use crate::error::EncodeError;
use crate::frame::REMAINING_LENGTH_MAX;
use crate::packet::{PacketId, Qos, Version};
use crate::properties::{MESSAGE_EXPIRY_INTERVAL, PropertySink, TOPIC_ALIAS, name};
use crate::publish::first;
use crate::varint;
use crate::wire::{Counter, Detail, FIELD_MAX, Sink, WireProperties};

/// Payloads up to this length are copied behind the template's head, so that one copy writes all.
const INLINE_PAYLOAD_MAX: usize = 256;

/// All of a PUBLISH but what differs from receiver to receiver: DUP, packet identifier, payload.
#[derive(Clone, Copy, Debug)]
pub struct PublishHead<'a> {
    /// The receiver's version; version 3 ignores all properties.
    pub version: Version,
    /// Quality of service.
    pub qos: Qos,
    /// The RETAIN flag.
    pub retain: bool,
    /// The topic name; may be empty beside a topic alias.
    pub topic: &'a str,
    /// Validated wire bytes of the forwarded properties.
    pub forward: &'a [u8],
    /// The message expiry that is left, in seconds.
    pub message_expiry: Option<u32>,
    /// The topic alias.
    pub topic_alias: Option<u16>,
    /// Identifiers of the subscriptions that matched.
    pub subscription_ids: &'a [u32],
}

impl<'a> PublishHead<'a> {
    /// A head without properties.
    pub const fn new(version: Version, qos: Qos, retain: bool, topic: &'a str) -> Self {
        Self {
            version,
            qos,
            retain,
            topic,
            forward: &[],
            message_expiry: None,
            topic_alias: None,
            subscription_ids: &[],
        }
    }

    /// Length of the whole packet with a payload of that length, as Maximum Packet Size counts.
    #[inline]
    pub fn packet_len(&self, payload_len: usize) -> Result<usize, EncodeError> {
        self.measure(payload_len)
            .map(|measure| measure.head_len + payload_len)
    }

    /// Checks what must hold and returns the length of the properties.
    #[inline]
    fn property_len(&self) -> Result<usize, EncodeError> {
        if self.topic.len() > FIELD_MAX {
            return Err(EncodeError::FieldTooLong {
                field: "topic name",
            });
        }
        let is_v5 = self.version == Version::V5;
        if self.topic.is_empty() && (self.topic_alias.is_none() || !is_v5) {
            return Err(EncodeError::InvalidValue {
                field: "topic name",
            });
        }
        if self.topic_alias == Some(0) {
            return Err(EncodeError::InvalidValue {
                field: name(TOPIC_ALIAS),
            });
        }
        if !is_v5 {
            return Ok(0);
        }
        let mut counter = Counter::default();
        self.write(Detail::Full, &mut counter);
        let len = counter.finish()?;
        if len > REMAINING_LENGTH_MAX {
            return Err(EncodeError::TooLarge {
                len,
                max: REMAINING_LENGTH_MAX,
            });
        }
        Ok(len)
    }

    /// Lengths of the packet's parts.
    #[inline]
    fn measure(&self, payload_len: usize) -> Result<Measure, EncodeError> {
        let property_len = self.property_len()?;
        let id_len = if self.qos == Qos::AtMostOnce { 0 } else { 2 };
        let section_len = match self.version {
            Version::V5 => varint::len(property_len) + property_len,
            Version::V31 | Version::V311 => 0,
        };
        let before_payload = 2 + self.topic.len() + id_len + section_len;
        let body_len = before_payload.saturating_add(payload_len);
        if body_len > REMAINING_LENGTH_MAX {
            return Err(EncodeError::TooLarge {
                len: body_len,
                max: REMAINING_LENGTH_MAX,
            });
        }
        let head_len = 1 + varint::len(body_len) + before_payload;
        Ok(Measure {
            property_len,
            body_len,
            head_len,
        })
    }

    /// Writes everything before the payload.
    #[inline]
    fn put<S: Sink>(&self, dup: bool, id: Option<PacketId>, measure: &Measure, out: &mut S) {
        out.u8(first(dup, self.qos, self.retain));
        out.varint(measure.body_len as u32); // `measure` has checked that it fits
        out.string("topic name", self.topic);
        if self.qos != Qos::AtMostOnce {
            out.u16(id.map_or(0, PacketId::get));
        }
        if self.version == Version::V5 {
            out.varint(measure.property_len as u32);
            self.write(Detail::Full, out);
        }
    }
}

struct Measure {
    property_len: usize,
    body_len: usize,
    head_len: usize,
}

impl WireProperties for PublishHead<'_> {
    #[inline]
    fn write<S: Sink>(&self, _: Detail, out: &mut S) {
        out.u32_property(MESSAGE_EXPIRY_INTERVAL, self.message_expiry);
        out.u16_property(TOPIC_ALIAS, self.topic_alias);
        for &id in self.subscription_ids {
            out.subscription_id_property(id);
        }
        out.raw(self.forward);
    }
}

/// Appends one PUBLISH to `out` without a template, for a message with a single receiver.
#[inline]
pub fn encode_publish(
    head: &PublishHead<'_>,
    dup: bool,
    packet_id: Option<PacketId>,
    payload: &[u8],
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    if packet_id.is_some() != (head.qos != Qos::AtMostOnce) {
        return Err(EncodeError::PacketIdMismatch);
    }
    let measure = head.measure(payload.len())?;
    out.reserve(measure.head_len + payload.len());
    head.put(dup, packet_id, &measure, out);
    out.raw(payload);
    Ok(())
}

/// A PUBLISH encoded up to DUP and packet identifier.
///
/// Built once for each (version, QoS, retain, subscription identifiers) that a message's receivers
/// have; cheap to share behind an `Rc` or `Arc`.
#[derive(Clone, Debug)]
pub struct PublishTemplate {
    /// The head, and behind it the payload if that is short.
    encoded: Box<[u8]>,
    head_len: usize,
    /// Where in the head the packet identifier goes; 0 if there is none.
    id_at: usize,
    payload: Bytes,
}

impl PublishTemplate {
    /// Encodes a message for receivers that differ only in DUP and packet identifier.
    #[expect(
        clippy::too_many_arguments,
        reason = "a message's parts, named at the call"
    )]
    pub fn new(
        version: Version,
        qos: Qos,
        retain: bool,
        topic: &str,
        forward: &[u8],
        message_expiry: Option<u32>,
        subscription_ids: &[u32],
        payload: &Bytes,
    ) -> Result<Self, EncodeError> {
        let head = PublishHead {
            forward,
            message_expiry,
            subscription_ids,
            ..PublishHead::new(version, qos, retain, topic)
        };
        Self::from_head(&head, payload)
    }

    /// As [`new`](Self::new), from the same parts by name.
    pub fn from_head(head: &PublishHead<'_>, payload: &Bytes) -> Result<Self, EncodeError> {
        let measure = head.measure(payload.len())?;
        let inline = if payload.len() <= INLINE_PAYLOAD_MAX {
            payload.len()
        } else {
            0
        };
        let mut encoded = Vec::with_capacity(measure.head_len + inline);
        head.put(false, None, &measure, &mut encoded);
        debug_assert_eq!(encoded.len(), measure.head_len);
        encoded.extend_from_slice(&payload[..inline]);
        let id_at = match head.qos {
            Qos::AtMostOnce => 0,
            _ => 1 + varint::len(measure.body_len) + 2 + head.topic.len(),
        };
        Ok(Self {
            encoded: encoded.into_boxed_slice(),
            head_len: measure.head_len,
            id_at,
            payload: payload.clone(),
        })
    }

    /// Length of the whole packet, which is what Maximum Packet Size counts.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "a packet is never empty")]
    pub fn len(&self) -> usize {
        self.head_len + self.payload.len()
    }

    /// Length of everything before the payload.
    #[inline]
    pub fn head_len(&self) -> usize {
        self.head_len
    }

    /// The payload, to be written behind [`head`](Self::head).
    #[inline]
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// Whether receivers need a packet identifier.
    #[inline]
    pub fn needs_packet_id(&self) -> bool {
        self.id_at != 0
    }

    /// Appends the whole packet to `out`.
    ///
    /// # Panics
    /// If `packet_id` is there at QoS 0 or missing at QoS 1 and 2: a zero identifier on the wire
    /// would break the receiver's session.
    #[inline]
    pub fn write(&self, dup: bool, packet_id: Option<PacketId>, out: &mut BytesMut) {
        let start = out.len();
        out.reserve(self.len());
        out.extend_from_slice(&self.encoded);
        if self.encoded.len() < self.len() {
            out.extend_from_slice(&self.payload);
        }
        self.patch(dup, packet_id, &mut out[start..]);
    }

    /// Appends all but the payload to `out`, so that a large payload needs no copy.
    ///
    /// # Panics
    /// As [`write`](Self::write).
    #[inline]
    pub fn head(&self, dup: bool, packet_id: Option<PacketId>, out: &mut BytesMut) {
        let start = out.len();
        out.extend_from_slice(&self.encoded[..self.head_len]);
        self.patch(dup, packet_id, &mut out[start..]);
    }

    #[inline]
    fn patch(&self, dup: bool, packet_id: Option<PacketId>, packet: &mut [u8]) {
        assert_eq!(
            packet_id.is_some(),
            self.needs_packet_id(),
            "packet id goes with QoS 1 and 2"
        );
        if let Some(id) = packet_id {
            packet[0] |= u8::from(dup) << 3;
            packet[self.id_at..self.id_at + 2].copy_from_slice(&id.get().to_be_bytes());
        }
    }
}

/// A template's own buffer.
impl Sink for Vec<u8> {
    #[inline]
    fn raw(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn refuse(&mut self, error: EncodeError) {
        debug_assert!(false, "measuring did not see: {error}");
    }
}
