//! The PROXY protocol, versions 1 and 2: who the peer of a proxy is.
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>)

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What begins a header of version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
pub(super) const V1_START: &[u8] = b"PROXY ";
/// The longest line of version 1, with its end.
const V1_MAX: usize = 107;
/// Fixed part of version 2.
const V2_FIXED: usize = 16;
/// The longest rest of version 2 that is taken; real ones have some hundred bytes.
const V2_REST_MAX: usize = 4096;

/// A header, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Its length in bytes.
    pub(super) len: usize,
    /// The client; `None` if the proxy speaks for itself or does not know.
    pub(super) source: Option<SocketAddr>,
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ProxyError {
    #[error("no PROXY header")]
    NotProxy,
    #[error("a PROXY line that is too long or not closed")]
    LongLine,
    #[error("a PROXY line that cannot be read")]
    Line,
    #[error("a PROXY header of version {0}")]
    Version(u8),
    #[error("an unknown PROXY command {0}")]
    Command(u8),
    #[error("a PROXY header with {0} bytes of addresses")]
    Length(usize),
}

/// Reads a header at the start of `bytes`; `None` while more may make one.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<Header>, ProxyError> {
    if begins(bytes, SIGNATURE) {
        return parse_v2(bytes);
    }
    if begins(bytes, V1_START) {
        return parse_v1(bytes);
    }
    Err(ProxyError::NotProxy)
}

/// Whether `bytes` are the start of `pattern`, or begin with it.
fn begins(bytes: &[u8], pattern: &[u8]) -> bool {
    bytes.iter().zip(pattern).all(|(a, b)| a == b)
}

fn parse_v1(bytes: &[u8]) -> Result<Option<Header>, ProxyError> {
    let shown = bytes.get(..V1_MAX).unwrap_or(bytes);
    let Some(end) = shown.windows(2).position(|pair| pair == b"\r\n") else {
        return match bytes.len() < V1_MAX {
            true => Ok(None),
            false => Err(ProxyError::LongLine),
        };
    };
    let line = std::str::from_utf8(&shown[..end]).map_err(|_| ProxyError::Line)?;
    let mut words = line.split(' ').skip(1);
    let mut word = || words.next().ok_or(ProxyError::Line);
    let family = word()?;
    let source = match family {
        // Whatever follows is to be passed over.
        "UNKNOWN" => None,
        "TCP4" | "TCP6" => {
            let (from, to) = (word()?, word()?);
            let (from_port, to_port) = (word()?, word()?);
            let address = |text: &str| -> Result<IpAddr, ProxyError> {
                let address: IpAddr = text.parse().map_err(|_| ProxyError::Line)?;
                match address.is_ipv4() == (family == "TCP4") || cfg!(planted_bugs) {
                    true => Ok(address),
                    false => Err(ProxyError::Line),
                }
            };
            let port = |text: &str| text.parse::<u16>().map_err(|_| ProxyError::Line);
            address(to)?;
            port(to_port)?;
            if words.next().is_some() {
                return Err(ProxyError::Line);
            }
            Some(SocketAddr::new(address(from)?, port(from_port)?))
        }
        _ => return Err(ProxyError::Line),
    };
    Ok(Some(Header {
        len: end + 2,
        source,
    }))
}

fn parse_v2(bytes: &[u8]) -> Result<Option<Header>, ProxyError> {
    let Some((fixed, rest)) = bytes.split_first_chunk::<V2_FIXED>() else {
        return Ok(None);
    };
    let [.., command, family, high, low] = *fixed;
    if command >> 4 != 2 {
        return Err(ProxyError::Version(command >> 4));
    }
    let len = usize::from(u16::from_be_bytes([high, low]));
    if len > V2_REST_MAX {
        return Err(ProxyError::Length(len));
    }
    let is_local = match command & 0x0f {
        0 => true,
        1 => false,
        other => return Err(ProxyError::Command(other)),
    };
    if cfg!(planted_bugs) && family == 0x11 {
        let source = Some(v4(&rest[..len]).ok_or(ProxyError::Length(len))?);
        let len = V2_FIXED + len;
        return Ok(Some(Header { len, source }));
    }
    let Some(rest) = rest.get(..len) else {
        return Ok(None);
    };
    let source = match family {
        // TCP over IPv4, over IPv6; others are carried and not understood.
        0x11 if !is_local => Some(v4(rest).ok_or(ProxyError::Length(len))?),
        0x21 if !is_local => Some(v6(rest).ok_or(ProxyError::Length(len))?),
        _ => None,
    };
    Ok(Some(Header {
        len: V2_FIXED + len,
        source,
    }))
}

/// Source, destination, source port, destination port; extensions may follow.
fn v4(rest: &[u8]) -> Option<SocketAddr> {
    let (addresses, _) = rest.split_first_chunk::<12>()?;
    let [a, b, c, d, _, _, _, _, high, low, _, _] = *addresses;
    let port = u16::from_be_bytes([high, low]);
    Some((Ipv4Addr::new(a, b, c, d), port).into())
}

fn v6(rest: &[u8]) -> Option<SocketAddr> {
    let (source, rest) = rest.split_first_chunk::<16>()?;
    let (_, ports) = rest.split_first_chunk::<16>()?;
    let (ports, _) = ports.split_first_chunk::<4>()?;
    let [high, low, _, _] = *ports;
    let port = u16::from_be_bytes([high, low]);
    Some((Ipv6Addr::from(*source), port).into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([command, family]);
        bytes.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
        bytes.extend(rest);
        bytes
    }

    fn found(bytes: &[u8]) -> (usize, Option<String>) {
        let header = parse(bytes).unwrap().unwrap();
        (header.len, header.source.map(|source| source.to_string()))
    }

    #[test]
    fn lines_of_version_1() {
        let line = b"PROXY TCP4 192.0.2.7 192.0.2.1 56324 1883\r\n\x10";
        assert_eq!(
            found(line),
            (line.len() - 1, Some("192.0.2.7:56324".into()))
        );
        let line = b"PROXY TCP6 2001:db8::7 ::1 1 2\r\n";
        assert_eq!(found(line), (line.len(), Some("[2001:db8::7]:1".into())));
        assert_eq!(found(b"PROXY UNKNOWN what ever\r\n").1, None);
        let longest = b"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
                        ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
        assert_eq!(longest.len(), V1_MAX);
        assert_eq!(found(longest), (V1_MAX, None));
    }

    #[test]
    fn bad_lines_of_version_1() {
        let bad: [&[u8]; 8] = [
            b"PROXY TCP4 192.0.2.7 192.0.2.1 56324\r\n",
            b"PROXY TCP4 192.0.2.7 192.0.2.1 56324 1883 9\r\n",
            b"PROXY TCP4 192.0.2.7 192.0.2.1 56324 65536\r\n",
            b"PROXY TCP4 ::1 ::1 1 1\r\n",
            b"PROXY TCP6 1.2.3.4 1.2.3.4 1 1\r\n",
            b"PROXY UDP4 1.2.3.4 1.2.3.4 1 1\r\n",
            b"PROXY \xff\r\n",
            b"PROXY \r\n",
        ];
        for line in bad {
            assert_eq!(parse(line), Err(ProxyError::Line), "{line:?}");
        }
        let mut long = b"PROXY UNKNOWN ".to_vec();
        long.resize(V1_MAX, b'a');
        assert_eq!(parse(&long), Err(ProxyError::LongLine));
        assert_eq!(parse(&long[..V1_MAX - 1]), Ok(None));
    }

    #[test]
    fn headers_of_version_2() {
        let addresses = [192, 0, 2, 7, 192, 0, 2, 1, 0x12, 0x34, 7, 0x5b];
        let mut bytes = v2(0x21, 0x11, &addresses);
        assert_eq!(found(&bytes), (28, Some("192.0.2.7:4660".into())));
        bytes.push(0x10);
        assert_eq!(found(&bytes).0, 28);
        let mut with_extension = addresses.to_vec();
        with_extension.extend([0x04, 0, 1, 9]);
        let bytes = v2(0x21, 0x11, &with_extension);
        assert_eq!(found(&bytes), (32, Some("192.0.2.7:4660".into())));
        let mut six = Ipv6Addr::LOCALHOST.octets().to_vec();
        six.extend([0; 16]);
        six.extend([0, 1, 0, 2]);
        assert_eq!(found(&v2(0x21, 0x21, &six)).1, Some("[::1]:1".into()));
        // LOCAL, and kinds of addresses that are not understood.
        assert_eq!(found(&v2(0x20, 0x11, &addresses)).1, None);
        assert_eq!(found(&v2(0x21, 0x31, &[0; 216])), (232, None));
    }

    #[test]
    fn bad_headers_of_version_2() {
        assert_eq!(parse(&v2(0x11, 0x11, &[])), Err(ProxyError::Version(1)));
        assert_eq!(parse(&v2(0x22, 0x11, &[])), Err(ProxyError::Command(2)));
        assert_eq!(
            parse(&v2(0x21, 0x11, &[0; 11])),
            Err(ProxyError::Length(11))
        );
        let huge = v2(0x21, 0x11, &[0; V2_REST_MAX + 1]);
        assert_eq!(parse(&huge[..16]), Err(ProxyError::Length(4097)));
        assert_eq!(parse(b"\x10\x0c"), Err(ProxyError::NotProxy));
        assert_eq!(parse(b"\r\nX"), Err(ProxyError::NotProxy));
    }

    #[test]
    fn every_beginning_waits_for_the_rest() {
        let whole = [
            b"PROXY TCP4 192.0.2.7 192.0.2.1 56324 1883\r\n".to_vec(),
            v2(0x21, 0x11, &[1; 12]),
        ];
        for bytes in whole {
            for len in 0..bytes.len() {
                assert_eq!(parse(&bytes[..len]), Ok(None), "{len}");
            }
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes: Vec<u8>, start in prop::sample::select(vec![&b""[..], V1_START, SIGNATURE])) {
            let _ = parse(&[start, &bytes].concat());
        }
    }
}
