//! A notation for packets.
//!
//! | Written | Means |
//! |---|---|
//! | `8201` | these bytes |
//! | `'abc'` | these letters |
//! | `<abc>` | a UTF-8 string: two bytes of length, then the letters |
//! | `(...)` | binary data: two bytes of length, then what is inside |
//! | `[...]` | a variable byte integer with the length of what is inside, then that |
//! | `@` inside `<>` | the user of the row's tenant |
//! | `??` | any byte (expected bytes only) |
//! | `%` | any properties, with their length (expected bytes only) |
//! | `*` | any bytes up to the end of a packet (expected bytes only) |

/// What is written for one packet or several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    bytes: Vec<Option<u8>>,
    is_open: bool,
    /// Any properties may stand there.
    gap: Option<usize>,
}

/// Reads the notation to bytes to be sent. Panics where it is not well-formed.
pub fn bytes(text: &str, user: &str) -> Vec<u8> {
    let written = Reader::new(text, user).all();
    let bytes: Option<Vec<u8>> = written.bytes.into_iter().collect();
    match bytes {
        Some(bytes) if !written.is_open && written.gap.is_none() => bytes,
        _ => panic!("{text}: only what is expected may be left open"),
    }
}

/// One expected packet: its first byte, then what is behind its length.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    first: Option<u8>,
    body: Written,
}

impl Pattern {
    /// Reads `first [body]`. Panics where it is not well-formed.
    pub fn new(text: &str, user: &str) -> Self {
        let mut reader = Reader::new(text, user);
        let first = reader.byte();
        reader.expect('[');
        let body = reader.until(Some(']'));
        assert!(reader.rest().is_empty(), "{text}: one packet is expected");
        let text = text.to_owned();
        Self { text, first, body }
    }

    /// Whether a packet is the expected one.
    pub fn fits(&self, packet: &[u8]) -> bool {
        let Some((first, body)) = split(packet) else {
            return false;
        };
        let Some(body) = self.without_gap(body) else {
            return false;
        };
        let want = &self.body.bytes;
        let is_length = match self.body.is_open {
            true => body.len() >= want.len(),
            false => body.len() == want.len(),
        };
        let mut pairs = want.iter().zip(&body);
        is_length
            && self.first.is_none_or(|want| want == first)
            && pairs.all(|(want, byte)| want.is_none_or(|want| want == *byte))
    }

    /// The body without the properties that may be any.
    fn without_gap(&self, body: &[u8]) -> Option<Vec<u8>> {
        let Some(at) = self.body.gap else {
            return Some(body.to_vec());
        };
        let (front, back) = body.split_at_checked(at)?;
        let (length, used) = variable(back)?;
        Some([front, back.get(used + length..)?].concat())
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// The length of the packet at the start of `bytes` once all of it is there. Panics where its length
/// is not written in the fewest bytes (MQTT-1.5.5-1).
pub fn packet_len(bytes: &[u8]) -> Option<usize> {
    let (length, used) = variable(bytes.get(1..)?)?;
    let total = 1 + used + length;
    (bytes.len() >= total).then_some(total)
}

/// First byte and body of a whole packet.
pub fn split(packet: &[u8]) -> Option<(u8, &[u8])> {
    let (length, used) = variable(packet.get(1..)?)?;
    let body = packet.get(1 + used..)?;
    (body.len() == length).then_some((packet[0], body))
}

/// A variable byte integer and how many bytes it has.
pub fn variable(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            assert!(
                at == 0 || *byte != 0,
                "MQTT-1.5.5-1: {:02x?}",
                &bytes[..=at]
            );
            return Some((value, at + 1));
        }
    }
    assert!(bytes.len() < 4, "no length: {:02x?}", &bytes[..4]);
    None
}

/// Bytes as people read them.
pub fn hex(bytes: &[u8]) -> String {
    let mut text: String = bytes.iter().take(120).map(|b| format!("{b:02x}")).collect();
    if bytes.len() > 120 {
        text.push_str(&format!("... ({} bytes)", bytes.len()));
    }
    text
}

struct Reader<'a> {
    text: &'a str,
    left: &'a str,
    user: &'a str,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str, user: &'a str) -> Self {
        Self {
            text,
            left: text,
            user,
        }
    }

    fn all(&mut self) -> Written {
        self.until(None)
    }

    fn rest(&mut self) -> &'a str {
        self.left = self.left.trim_start();
        self.left
    }

    fn expect(&mut self, sign: char) {
        let rest = self.rest();
        let Some(left) = rest.strip_prefix(sign) else {
            panic!("{}: {sign} expected at {rest:?}", self.text);
        };
        self.left = left;
    }

    /// Two hexadecimal digits, or `??`.
    fn byte(&mut self) -> Option<u8> {
        let rest = self.rest();
        let Some((digits, left)) = rest.split_at_checked(2) else {
            panic!("{}: a byte expected at {rest:?}", self.text);
        };
        self.left = left;
        if digits == "??" {
            return None;
        }
        match u8::from_str_radix(digits, 16) {
            Ok(byte) => Some(byte),
            Err(_) => panic!("{}: a byte expected at {rest:?}", self.text),
        }
    }

    fn quoted(&mut self, end: char) -> String {
        let Some((inside, left)) = self.left.split_once(end) else {
            panic!("{}: {end} is missing", self.text);
        };
        self.left = left;
        inside.to_owned()
    }

    fn until(&mut self, end: Option<char>) -> Written {
        let mut written = Written::default();
        loop {
            let sign = self.rest().chars().next();
            if sign == end {
                if let Some(end) = end {
                    self.expect(end);
                }
                return written;
            }
            let Some(sign) = sign else {
                panic!("{}: {end:?} is missing", self.text);
            };
            assert!(!written.is_open, "{}: nothing follows *", self.text);
            if matches!(sign, '\'' | '<' | '(' | '[' | '*' | '%') {
                self.expect(sign);
            }
            let bytes: Vec<Option<u8>> = match sign {
                '*' => {
                    written.is_open = true;
                    Vec::new()
                }
                '%' => {
                    assert!(written.gap.is_none(), "{}: % twice", self.text);
                    written.gap = Some(written.bytes.len());
                    Vec::new()
                }
                '\'' => self.quoted('\'').bytes().map(Some).collect(),
                '<' => {
                    let text = self.quoted('>').replace('@', self.user);
                    counted(text.bytes().map(Some).collect())
                }
                '(' => counted(self.closed(')')),
                '[' => measured(self.closed(']')),
                _ => vec![self.byte()],
            };
            written.bytes.extend(bytes);
        }
    }

    fn closed(&mut self, end: char) -> Vec<Option<u8>> {
        let inside = self.until(Some(end));
        let is_closed = !inside.is_open && inside.gap.is_none();
        assert!(is_closed, "{}: * or % inside", self.text);
        inside.bytes
    }
}

fn counted(inside: Vec<Option<u8>>) -> Vec<Option<u8>> {
    let length = u16::try_from(inside.len()).expect("two bytes of length");
    let mut bytes: Vec<Option<u8>> = length.to_be_bytes().map(Some).to_vec();
    bytes.extend(inside);
    bytes
}

fn measured(inside: Vec<Option<u8>>) -> Vec<Option<u8>> {
    let mut bytes = Vec::new();
    let mut left = inside.len();
    loop {
        let low = (left & 0x7F) as u8;
        left >>= 7;
        bytes.push(Some(if left > 0 { low | 0x80 } else { low }));
        if left == 0 {
            break;
        }
    }
    bytes.extend(inside);
    bytes
}

#[cfg(test)]
mod tests {
    use super::{Pattern, bytes, packet_len};

    #[test]
    fn the_notation_means_these_bytes() {
        assert_eq!(
            bytes("82 [0001 <a/b> 01]", ""),
            b"\x82\x08\x00\x01\x00\x03a/b\x01"
        );
        assert_eq!(
            bytes("['x'] (ff) <@>", "t/u"),
            b"\x01x\x00\x01\xff\x00\x03t/u"
        );
        let long = bytes(&format!("30 ['{}']", "x".repeat(200)), "");
        assert_eq!(long[..3], [0x30, 0xC8, 0x01]);
        assert_eq!(packet_len(&long), Some(203));
        assert_eq!(packet_len(&long[..202]), None);
    }

    #[test]
    fn patterns_tell_packets_apart() {
        let pattern = Pattern::new("20 [00 ?? *]", "");
        assert!(pattern.fits(&[0x20, 2, 0, 5]));
        assert!(pattern.fits(&[0x20, 3, 0, 5, 9]));
        assert!(!pattern.fits(&[0x20, 1, 0]));
        assert!(!pattern.fits(&[0x20, 2, 1, 5]));
        assert!(!Pattern::new("20 [00]", "").fits(&[0x20, 2, 0, 5]));
        let pattern = Pattern::new("90 [0001 % 8f 00]", "");
        assert!(pattern.fits(&bytes("90 [0001 [] 8f 00]", "")));
        assert!(pattern.fits(&bytes("90 [0001 [1f <why>] 8f 00]", "")));
        assert!(!pattern.fits(&bytes("90 [0001 [1f <why>] 8f]", "")));
        assert!(!pattern.fits(&bytes("90 [0001]", "")));
    }
}
