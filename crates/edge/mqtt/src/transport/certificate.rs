//! Names out of a client's certificate.
//!
//! The certificate was verified before; this reads the subject and the alternative names of a
//! structure that is known to be sound, and takes what it does not understand as absent.

use bifrust_plugin_api::PeerCertificate;
use bytes::Bytes;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_ID: u8 = 0x06;
const OCTETS: u8 = 0x04;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const EMAIL: u8 = 0x81;
const DNS: u8 = 0x82;
const URI: u8 = 0x86;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const IA5_STRING: u8 = 0x16;

/// id-at-commonName, id-at-organizationName, id-at-organizationalUnitName (RFC 5280, A.1).
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];
const UNIT: &[u8] = &[0x55, 0x04, 0x0b];
/// id-ce-subjectAltName.
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];

/// Names kept of one certificate; more are left out.
const NAMES_MAX: usize = 64;

/// The names in a certificate.
pub(super) fn read(der: &[u8]) -> PeerCertificate {
    let mut found = PeerCertificate {
        der: Bytes::copy_from_slice(der),
        ..PeerCertificate::default()
    };
    let _ = fill(der, &mut found); // what was found before an odd place stays
    found
}

fn fill(der: &[u8], found: &mut PeerCertificate) -> Option<()> {
    let certificate = Reader(der).expect(SEQUENCE)?;
    let mut fields = Reader(Reader(certificate).expect(SEQUENCE)?);
    if fields.peek() == Some(VERSION) {
        fields.next()?;
    }
    // Serial number, signature algorithm, issuer, validity.
    for _ in 0..4 {
        fields.next()?;
    }
    let subject = fields.expect(SEQUENCE)?;
    read_subject(subject, found);
    while let Some((tag, content)) = fields.next() {
        if tag == EXTENSIONS {
            read_extensions(Reader(content).expect(SEQUENCE)?, found);
        }
    }
    Some(())
}

fn read_subject(subject: &[u8], found: &mut PeerCertificate) {
    let mut names = Reader(subject);
    while let Some(set) = names.expect(SET) {
        let mut attributes = Reader(set);
        while let Some(attribute) = attributes.expect(SEQUENCE) {
            let mut parts = Reader(attribute);
            let (Some(kind), Some((tag, value))) = (parts.expect(OBJECT_ID), parts.next()) else {
                continue;
            };
            let slot = match kind {
                COMMON_NAME => &mut found.common_name,
                ORGANIZATION => &mut found.organization,
                UNIT => &mut found.organizational_unit,
                _ => continue,
            };
            if matches!(tag, UTF8_STRING | PRINTABLE_STRING | IA5_STRING) {
                // The most specific one comes last.
                *slot = text(value).or_else(|| slot.take());
            }
        }
    }
}

fn read_extensions(extensions: &[u8], found: &mut PeerCertificate) {
    let mut extensions = Reader(extensions);
    while let Some(extension) = extensions.expect(SEQUENCE) {
        let mut parts = Reader(extension);
        if parts.expect(OBJECT_ID) != Some(ALTERNATIVE_NAMES) {
            continue;
        }
        // Whether it is critical may stand before the value.
        while let Some((tag, value)) = parts.next() {
            if tag == OCTETS {
                read_names(value, found);
            }
        }
    }
}

fn read_names(value: &[u8], found: &mut PeerCertificate) -> Option<()> {
    let mut names = Reader(Reader(value).expect(SEQUENCE)?);
    for _ in 0..NAMES_MAX {
        let (tag, value) = names.next()?;
        let list = match tag {
            EMAIL => &mut found.emails,
            DNS => &mut found.dns_names,
            URI => &mut found.uris,
            _ => continue,
        };
        list.extend(text(value));
    }
    Some(())
}

fn text(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    // A NUL would hide the rest of a name from whoever compares it.
    (!text.is_empty() && !text.contains('\0')).then(|| text.to_owned())
}

/// Elements one after the other.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let mut len = usize::from(first);
        if first & 0x80 != 0 {
            let (digits, behind) = rest.split_at_checked(usize::from(first & 0x7f))?;
            // Longer ones are longer than any certificate.
            if digits.is_empty() || digits.len() > 4 {
                return None;
            }
            len = digits
                .iter()
                .fold(0, |len, &digit| (len << 8) | usize::from(digit));
            rest = behind;
        }
        let (content, behind) = match cfg!(planted_bugs) {
            true => rest.split_at(len),
            false => rest.split_at_checked(len)?,
        };
        self.0 = behind;
        Some((tag, content))
    }

    /// The next element if it is of this kind.
    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        match self.next()? {
            (found, content) if found == tag => Some(content),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn certificate() -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["device.example".to_owned()]).unwrap();
        let name = &mut params.distinguished_name;
        name.push(DnType::OrganizationName, "Acme");
        name.push(DnType::OrganizationalUnitName, "Pumps");
        name.push(DnType::CommonName, "pump-ü-7");
        params
            .subject_alt_names
            .push(SanType::Rfc822Name("a@b.example".try_into().unwrap()));
        params
            .subject_alt_names
            .push(SanType::URI("urn:dev:7".try_into().unwrap()));
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn names_are_found() {
        let der = certificate();
        let found = read(&der);
        assert_eq!(found.common_name.as_deref(), Some("pump-ü-7"));
        assert_eq!(found.organization.as_deref(), Some("Acme"));
        assert_eq!(found.organizational_unit.as_deref(), Some("Pumps"));
        assert_eq!(found.dns_names, ["device.example"]);
        assert_eq!(found.emails, ["a@b.example"]);
        assert_eq!(found.uris, ["urn:dev:7"]);
        assert_eq!(found.der, der);
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes: Vec<u8>) {
            read(&bytes);
        }

        #[test]
        fn a_damaged_one_does_not_panic(at: prop::sample::Index, byte: u8) {
            let mut der = certificate();
            let at = at.index(der.len());
            der[at] = byte;
            read(&der);
            read(&der[..at]);
        }
    }
}
