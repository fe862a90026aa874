//! Packets of 5.0 taken apart, as far as rows look inside.

use crate::bytes::{split, variable};

/// Properties in their order: identifier and value, lengths left out (but within a pair).
pub type Properties = Vec<(u8, Vec<u8>)>;

/// A PUBLISH of 5.0.
#[derive(Debug)]
pub struct Publish {
    /// The topic name.
    pub topic: Vec<u8>,
    /// The packet identifier; 0 for QoS 0.
    pub id: u16,
    /// What is said beside it.
    pub properties: Properties,
    /// The application's bytes.
    pub payload: Vec<u8>,
}

impl Publish {
    /// Takes one apart. Panics where it is none.
    pub fn of(packet: &[u8]) -> Self {
        let (first, body) = split(packet).expect("a whole packet");
        assert_eq!(first >> 4, 3, "PUBLISH expected: {packet:02x?}");
        let (topic, rest) = counted(body);
        let (id, rest) = match first & 6 {
            0 => (0, rest),
            _ => (u16::from_be_bytes([rest[0], rest[1]]), &rest[2..]),
        };
        let (properties, payload) = section(rest);
        Self {
            topic: topic.to_vec(),
            id,
            properties,
            payload: payload.to_vec(),
        }
    }

    /// The values of one property.
    pub fn values(&self, id: u8) -> Vec<&[u8]> {
        values(&self.properties, id)
    }
}

/// What CONNACK says beside its code. Panics where it is none.
pub fn connack(packet: &[u8]) -> Properties {
    let (first, body) = split(packet).expect("a whole packet");
    assert_eq!(first, 0x20, "CONNACK expected: {packet:02x?}");
    let (properties, rest) = section(&body[2..]);
    assert!(rest.is_empty(), "behind the properties: {rest:02x?}");
    properties
}

/// The values of one property.
pub fn values(properties: &Properties, id: u8) -> Vec<&[u8]> {
    let found = properties.iter().filter(|(known, _)| *known == id);
    found.map(|(_, value)| value.as_slice()).collect()
}

fn counted(bytes: &[u8]) -> (&[u8], &[u8]) {
    let length = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    bytes[2..].split_at(length)
}

/// A section of properties, and what follows it.
pub fn section(bytes: &[u8]) -> (Properties, &[u8]) {
    let (length, used) = variable(bytes).expect("a property length");
    let (mut left, rest) = bytes[used..].split_at(length);
    let mut properties = Properties::new();
    while let Some((id, value)) = left.split_first() {
        let length = match id {
            0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28..=0x2A => 1,
            0x13 | 0x21..=0x23 => 2,
            0x02 | 0x11 | 0x18 | 0x27 => 4,
            0x0B => variable(value).expect("an identifier").1,
            0x26 => {
                let (_, second) = counted(value);
                value.len() - counted(second).1.len()
            }
            _ => 2 + counted(value).0.len(),
        };
        let (value, next) = value.split_at(length);
        let value = match id {
            0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1A | 0x1C | 0x1F => &value[2..],
            _ => value,
        };
        properties.push((*id, value.to_vec()));
        left = next;
    }
    (properties, rest)
}

#[cfg(test)]
mod tests {
    use super::{Publish, connack};
    use crate::bytes::bytes;

    #[test]
    fn packets_are_taken_apart() {
        let packet = bytes("32 [<t> 0102 [01 01 26 <a> <b> 0b c801 03 <x>] 'load']", "");
        let publish = Publish::of(&packet);
        assert_eq!((publish.topic.as_slice(), publish.id), (&b"t"[..], 258));
        assert_eq!(publish.payload, b"load");
        assert_eq!(publish.values(0x0B), [&[0xC8, 1][..]]);
        assert_eq!(publish.values(0x26), [&[0, 1, b'a', 0, 1, b'b'][..]]);
        assert_eq!(publish.values(0x03), [b"x"]);
        let properties = connack(&bytes("20 [00 00 [24 01 12 <auto>]]", ""));
        assert_eq!(properties, [(0x24, vec![1]), (0x12, b"auto".to_vec())]);
    }
}
