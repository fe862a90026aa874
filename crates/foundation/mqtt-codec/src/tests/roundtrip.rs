//! What is written is read back, in every version.

use bytes::BytesMut;
use proptest::prelude::*;

use super::strategy::{self, versioned};
use super::{decoded, encoded};
use crate::{
    ForwardProperties, Packet, PublishHead, PublishTemplate, Version, encode_publish, peek,
    validate_forward,
};

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..Default::default() })]

    #[test]
    fn packets_come_back_as_they_were((version, packet) in versioned()) {
        let bytes = encoded(&packet, version);
        prop_assert_eq!(decoded(version, &bytes), Ok(packet));
    }

    #[test]
    fn every_shorter_piece_asks_for_more_or_is_refused((version, packet) in versioned()) {
        let bytes = encoded(&packet, version);
        for len in 0..bytes.len() {
            // Either the header is short, or it announces more than there is.
            match peek(&bytes[..len]).expect("the header is valid as far as it goes") {
                None => {}
                Some(frame) => prop_assert!(frame.total_len() > len),
            }
        }
        // A body cut short is refused, unless what is cut off is optional or the payload.
        let frame = peek(&bytes).expect("valid").expect("whole");
        for len in 0..frame.body_len {
            let body = &bytes[frame.header_len..frame.header_len + len];
            if let Ok(shorter) = crate::decode(version, frame.first, body) {
                prop_assert!(shorter != packet || matches!(packet, Packet::Connack(_)));
            }
        }
    }

    #[test]
    fn templates_write_what_encoding_writes(
        (version, publish, dup) in strategy::version().prop_flat_map(|version| {
            (Just(version), strategy::publish(version), any::<bool>())
        }),
    ) {
        let mut publish = publish;
        publish.dup = dup && publish.packet_id.is_some();
        publish.properties.topic_alias = None;
        let expected = encoded(&Packet::Publish(publish.clone()), version);
        let properties = &publish.properties;
        let template = PublishTemplate::new(
            version,
            publish.qos,
            publish.retain,
            &publish.topic,
            &properties.forward,
            properties.message_expiry,
            &properties.subscription_ids,
            &publish.payload,
        ).expect("valid");

        let mut whole = BytesMut::from(&b"before"[..]);
        template.write(publish.dup, publish.packet_id, &mut whole);
        prop_assert_eq!(&whole[6..], &expected[..]);
        prop_assert_eq!(template.len(), expected.len());

        let mut split = BytesMut::from(&b"before"[..]);
        template.head(publish.dup, publish.packet_id, &mut split);
        prop_assert_eq!(split.len() - 6, template.head_len());
        split.extend_from_slice(template.payload());
        prop_assert_eq!(&split[6..], &expected[..]);

        let head = PublishHead {
            forward: &properties.forward,
            message_expiry: properties.message_expiry,
            subscription_ids: &properties.subscription_ids,
            ..PublishHead::new(version, publish.qos, publish.retain, &publish.topic)
        };
        prop_assert_eq!(head.packet_len(publish.payload.len()), Ok(expected.len()));
        let mut direct = BytesMut::from(&b"before"[..]);
        encode_publish(&head, publish.dup, publish.packet_id, &publish.payload, &mut direct)
            .expect("valid");
        prop_assert_eq!(&direct[6..], &expected[..]);
    }

    #[test]
    fn forwarded_properties_are_valid_and_walked_whole(forward in strategy::forward()) {
        prop_assert_eq!(validate_forward(&forward), Ok(()));
        let mut rebuilt = BytesMut::new();
        for property in ForwardProperties::new(&forward) {
            rebuilt.extend_from_slice(&rebuild(property));
        }
        prop_assert_eq!(rebuilt.freeze(), forward);
    }
}

fn rebuild(property: crate::ForwardProperty<'_>) -> bytes::Bytes {
    use crate::{ForwardBuilder, ForwardProperty as P};
    let builder = ForwardBuilder::new();
    match property {
        P::PayloadFormatUtf8(utf8) => builder.payload_format_utf8(utf8),
        P::ContentType(text) => builder.content_type(text),
        P::ResponseTopic(topic) => builder.response_topic(topic),
        P::CorrelationData(data) => builder.correlation_data(data),
        P::UserProperty(name, value) => builder.user_property(name, value),
    }
    .build()
    .expect("short fields")
}

#[test]
fn version_of_the_caller_does_not_matter_for_connect() {
    let connect = crate::Connect::new(Version::V5, "c");
    let packet = Packet::Connect(Box::new(connect));
    let bytes = encoded(&packet, Version::V311);
    assert_eq!(decoded(Version::V31, &bytes), Ok(packet));
}
