//! Packets a server sends.

use std::fmt;

use super::{Ack, AckKind, Packet, Properties, Publish, Version};

/// The server sent bytes that are no MQTT packet.
#[derive(Debug)]
pub struct WireError(pub String);

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server sent what is no MQTT packet: {}", self.0)
    }
}

impl std::error::Error for WireError {}

/// Takes one packet off the front of `buffer`; `None` while it is incomplete.
pub fn split(buffer: &mut Vec<u8>, version: Version) -> Result<Option<Packet>, WireError> {
    let Some((header, length)) = frame(buffer)? else {
        return Ok(None);
    };
    if buffer.len() < header + length {
        return Ok(None);
    }
    let rest = buffer.split_off(header + length);
    let whole = std::mem::replace(buffer, rest);
    let mut reader = Reader::new(&whole[header..]);
    let packet = decode(whole[0], &mut reader, version)?;
    if !reader.is_empty() {
        return Err(WireError(format!("bytes behind the end of {packet:?}")));
    }
    Ok(Some(packet))
}

fn frame(buffer: &[u8]) -> Result<Option<(usize, usize)>, WireError> {
    let mut length = 0_usize;
    for index in 0..4 {
        let Some(byte) = buffer.get(1 + index) else {
            return Ok(None);
        };
        length |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((2 + index, length)));
        }
    }
    Err(WireError(
        "remaining length of more than four bytes".to_owned(),
    ))
}

fn decode(first: u8, reader: &mut Reader<'_>, version: Version) -> Result<Packet, WireError> {
    let is_v5 = version == Version::V5;
    let flags = first & 0x0F;
    let expected = if first >> 4 == 6 { 2 } else { 0 };
    if first >> 4 != 3 && flags != expected {
        return Err(WireError(format!("flags of first byte {first:#04x}")));
    }
    Ok(match first >> 4 {
        2 => Packet::Connack {
            is_present: match reader.byte()? {
                0 => false,
                1 => true,
                other => return Err(WireError(format!("CONNACK flags {other:#04x}"))),
            },
            code: reader.byte()?,
            properties: reader.properties(is_v5)?,
        },
        3 => Packet::Publish(publish(flags, reader, is_v5)?),
        4 => Packet::Ack(ack(AckKind::Puback, reader, is_v5)?),
        5 => Packet::Ack(ack(AckKind::Pubrec, reader, is_v5)?),
        6 => Packet::Ack(ack(AckKind::Pubrel, reader, is_v5)?),
        7 => Packet::Ack(ack(AckKind::Pubcomp, reader, is_v5)?),
        9 => Packet::Suback {
            id: reader.two()?,
            properties: reader.properties(is_v5)?,
            codes: reader.rest().to_vec(),
        },
        11 => Packet::Unsuback {
            id: reader.two()?,
            properties: reader.properties(is_v5)?,
            codes: reader.rest().to_vec(),
        },
        13 => Packet::Pingresp,
        14 if is_v5 => {
            let (code, properties) = reader.reason()?;
            Packet::Disconnect { code, properties }
        }
        15 if is_v5 => {
            let (code, properties) = reader.reason()?;
            Packet::Auth { code, properties }
        }
        _ => return Err(WireError(format!("first byte {first:#04x}"))),
    })
}

fn publish(flags: u8, reader: &mut Reader<'_>, is_v5: bool) -> Result<Publish, WireError> {
    let qos = (flags >> 1) & 3;
    if qos == 3 {
        return Err(WireError("QoS 3".to_owned()));
    }
    let topic = reader.text()?;
    let id = if qos > 0 { reader.two()? } else { 0 };
    if qos > 0 && id == 0 {
        return Err(WireError("packet identifier 0".to_owned()));
    }
    let properties = reader.properties(is_v5)?;
    Ok(Publish {
        topic,
        payload: reader.rest().to_vec(),
        qos,
        retain: flags & 1 != 0,
        dup: flags & 8 != 0,
        id,
        properties,
    })
}

fn ack(kind: AckKind, reader: &mut Reader<'_>, is_v5: bool) -> Result<Ack, WireError> {
    let id = reader.two()?;
    let (code, properties) = if is_v5 {
        reader.reason()?
    } else {
        (0, Properties::default())
    };
    Ok(Ack {
        kind,
        id,
        code,
        properties,
    })
}

/// Reads fields off a packet's body.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self
            .bytes
            .split_at_checked(length)
            .ok_or_else(|| WireError("a field is longer than its packet".to_owned()))?;
        self.bytes = rest;
        Ok(taken)
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }

    pub(super) fn byte(&mut self) -> Result<u8, WireError> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn two(&mut self) -> Result<u16, WireError> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    pub(super) fn four(&mut self) -> Result<u32, WireError> {
        let bytes = self.take(4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    pub(super) fn variable(&mut self) -> Result<u32, WireError> {
        let mut value = 0;
        for index in 0..4 {
            let byte = self.byte()?;
            value |= u32::from(byte & 0x7F) << (7 * index);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(WireError(
            "variable byte integer of more than four bytes".to_owned(),
        ))
    }

    pub(super) fn binary(&mut self) -> Result<Vec<u8>, WireError> {
        let length = self.two()?;
        Ok(self.take(usize::from(length))?.to_vec())
    }

    pub(super) fn text(&mut self) -> Result<String, WireError> {
        String::from_utf8(self.binary()?).map_err(|error| WireError(error.to_string()))
    }

    fn properties(&mut self, is_v5: bool) -> Result<Properties, WireError> {
        if is_v5 {
            Properties::read(self)
        } else {
            Ok(Properties::default())
        }
    }

    /// A reason code and properties, either of which may be left out at the end of a packet.
    fn reason(&mut self) -> Result<(u8, Properties), WireError> {
        if self.is_empty() {
            return Ok((0, Properties::default()));
        }
        let code = self.byte()?;
        let properties = if self.is_empty() {
            Properties::default()
        } else {
            Properties::read(self)?
        };
        Ok((code, properties))
    }
}
