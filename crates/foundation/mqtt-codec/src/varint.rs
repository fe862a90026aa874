//! Variable byte integers (1.5.5): seven bits a byte, four bytes at most, no longer than needed.

/// The largest value a variable byte integer holds.
pub(crate) const MAX: u32 = 268_435_455;

/// What the first bytes of a slice say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Varint {
    /// A value and the number of bytes it took.
    Value(u32, usize),
    /// The slice ends within the integer.
    Incomplete,
    /// More than four bytes, or more bytes than the value needs (MQTT-1.5.5-1).
    Invalid,
}

/// Reads the integer at the start of `bytes`.
#[inline]
pub(crate) fn read(bytes: &[u8]) -> Varint {
    let mut value = 0;
    for (index, &byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let padded = byte == 0 && index > 0;
            return if padded {
                Varint::Invalid
            } else {
                Varint::Value(value, index + 1)
            };
        }
    }
    if bytes.len() < 4 {
        Varint::Incomplete
    } else {
        Varint::Invalid
    }
}

/// How many bytes `value` takes; values over [`MAX`] are the caller's to refuse.
#[inline]
pub(crate) const fn len(value: usize) -> usize {
    match value {
        0..=127 => 1,
        128..=16_383 => 2,
        16_384..=2_097_151 => 3,
        _ => 4,
    }
}

/// The encoded bytes of `value` and their number.
#[inline]
pub(crate) const fn bytes(mut value: u32) -> ([u8; 4], usize) {
    let mut out = [0; 4];
    let mut at = 0;
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 || at == 3 {
            out[at] = low;
            return (out, at + 1);
        }
        out[at] = low | 0x80;
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX, Varint, bytes, len, read};

    #[test]
    fn limits_of_each_length_come_back() {
        for value in [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, MAX] {
            let (out, used) = bytes(value);
            assert_eq!(used, len(value as usize));
            assert_eq!(read(&out[..used]), Varint::Value(value, used));
            assert_eq!(read(&out[..used - 1]), Varint::Incomplete);
        }
    }

    #[test]
    fn padded_and_overlong_integers_are_invalid() {
        for wrong in [
            &[0x80, 0x00][..],
            &[0xff, 0x80, 0x00],
            &[0x80, 0x80, 0x80, 0x80, 0x01],
        ] {
            assert_eq!(read(wrong), Varint::Invalid);
        }
        // Four bytes that all continue can no longer become valid.
        assert_eq!(read(&[0xff; 4]), Varint::Invalid);
    }
}
