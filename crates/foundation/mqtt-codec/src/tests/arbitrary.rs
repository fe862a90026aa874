//! Bytes from nowhere: an answer always, a panic never.

use proptest::collection::vec;
use proptest::prelude::*;

use super::encoded;
use super::strategy::{version, versioned};
use crate::fuzz::{check_forward, check_packet};
use crate::{peek, validate_forward};

proptest! {
    #![proptest_config(ProptestConfig { cases: 8192, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_bytes_are_framed_or_refused(bytes in vec(any::<u8>(), 0..12)) {
        if let Ok(Some(frame)) = peek(&bytes) {
            prop_assert!(frame.header_len <= 5);
            prop_assert!(frame.packet_type().is_some());
        }
    }

    #[test]
    fn any_body_is_decoded_or_refused(
        version in version(),
        first in any::<u8>(),
        body in vec(prop_oneof![3 => 0u8..=0x30, 1 => any::<u8>()], 0..64),
    ) {
        check_packet(version, first, &body);
        check_forward(&body);
    }

    #[test]
    fn any_change_to_a_valid_packet_is_decoded_or_refused(
        (version, packet) in versioned(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        other in version(),
    ) {
        let mut bytes = encoded(&packet, version).to_vec();
        let header = peek(&bytes).expect("valid").expect("whole").header_len;
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            if at == 0 || at >= header {
                bytes[at] = byte;
            }
        }
        check_packet(version, bytes[0], &bytes[header..]);
        check_packet(other, bytes[0], &bytes[header..]);
    }

    #[test]
    fn forwarded_bytes_that_validate_are_walked_to_their_end(
        body in vec(prop_oneof![3 => 0u8..=0x09, 1 => any::<u8>()], 0..24),
    ) {
        if validate_forward(&body).is_ok() {
            let properties = crate::PublishProperties::from_forward(body.clone().into());
            prop_assert!(properties.is_ok());
            check_forward(&body);
        }
    }
}
