//! The codec against `mqtt-proto`, another implementation of the same standards.
//!
//! Both decode the same packets. Where both accept one, it must mean the same to both, field by field;
//! where one refuses, the reason must be in the lists below. Whatever else turns up is a finding.

mod meaning;
mod ours;
mod theirs_v3;
mod theirs_v5;

use bifrust_mqtt_codec::{DecodeError, Frame, PacketType, Version, decode, peek};
use mqtt_proto::Error;
use mqtt_proto::v5::{ErrorV5, PropertyId};

use meaning::Meaning;

pub(crate) fn v3(bytes: &[u8]) {
    each_packet(bytes, |frame, body| {
        let theirs = theirs_v3::decode(frame.first, body).map_err(ErrorV5::Common);
        compare(Version::V311, frame, body, theirs);
    });
}

pub(crate) fn v5(bytes: &[u8]) {
    each_packet(bytes, |frame, body| {
        compare(
            Version::V5,
            frame,
            body,
            theirs_v5::decode(frame.first, body),
        );
    });
}

fn each_packet(mut bytes: &[u8], check: impl Fn(Frame, &[u8])) {
    while let Ok(Some(frame)) = peek(bytes) {
        let Some(body) = bytes.get(frame.header_len..frame.total_len()) else {
            return;
        };
        check(frame, body);
        bytes = &bytes[frame.total_len()..];
    }
}

fn compare(version: Version, frame: Frame, body: &[u8], theirs: Result<Meaning, ErrorV5>) {
    match (decode(version, frame.first, body), theirs) {
        (Ok(ours), Ok(theirs)) => assert_eq!(ours::meaning(&ours), theirs),
        (Err(ours), Ok(theirs)) => {
            assert!(
                is_stricter(&ours),
                "only ours refuses: {ours:?}\n{theirs:?}"
            );
        }
        (Ok(ours), Err(theirs)) => {
            assert!(
                is_later(version, &theirs),
                "only theirs refuses: {theirs:?}\n{ours:?}"
            );
        }
        (Err(_), Err(_)) => {}
    }
}

/// What only our codec refuses, each time with the standard.
fn is_stricter(error: &DecodeError) -> bool {
    use DecodeError as E;
    matches!(
        error,
        // MQTT-1.5.5-1: theirs takes integers that are longer than they need to be.
        E::InvalidVarint { .. }
        // MQTT-1.5.4-2: theirs looks for U+0000 in topics only.
        | E::NulCharacter { .. }
        // MQTT-3.1.2-13: will retain without the will flag.
        | E::WillFlagsWithoutWill
        // 3.1.1, MQTT-3.1.2-22.
        | E::PasswordWithoutUserName
        // MQTT-3.2.2-6 (3.1.1: MQTT-3.2.2-4).
        | E::SessionPresentOnError
        // 3.3.2.1: neither topic nor alias.
        | E::EmptyTopic
        // MQTT-3.3.2-8.
        | E::ZeroTopicAlias
        // 3.9.3, 3.11.3: one reason code per filter, of which there is at least one.
        | E::EmptyPayload { packet: PacketType::Suback | PacketType::Unsuback }
        // 3.1.2.11.10, 3.15.2.2.2.
        | E::MissingAuthenticationMethod
        // 3.1.2.11.3, 3.1.2.11.4, 3.3.2.3.8: zero.
        | E::InvalidValue {
            field: "receive maximum" | "maximum packet size" | "subscription identifier",
            ..
        }
    )
}

/// What only theirs refuses.
fn is_later(version: Version, error: &ErrorV5) -> bool {
    match error {
        // Ours leaves topics to the model, which knows the tenant's limits too; a bad filter is one
        // reason code of SUBACK, not the end of the connection.
        ErrorV5::Common(Error::InvalidTopicFilter(_) | Error::InvalidTopicName(_))
        // So are wildcards in response topics (MQTT-3.3.2-14): the connection looks for them.
        | ErrorV5::InvalidResponseTopic
        // One per matching subscription is right (3.3.4); theirs has one.
        | ErrorV5::DuplicatedProperty(PropertyId::SubscriptionIdentifier)
        // 3.3.2.3.2: a receiver may check; ours leaves that to the tenant's settings.
        | ErrorV5::InvalidPayloadFormat => true,
        // Ours decodes a CONNECT of any version.
        ErrorV5::Common(Error::UnexpectedProtocol(asked)) => *asked as u8 != version.level(),
        _ => false,
    }
}
