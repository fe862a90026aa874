use bifrust_model::{Incarnation, NodeId};
use proptest::prelude::*;

use super::*;

fn seal() -> Seal {
    Seal::new(&ClusterKey::new("the key of this test").unwrap())
}

fn node() -> impl Strategy<Value = NodeRef> {
    (any::<u128>(), any::<u64>()).prop_map(|(id, incarnation)| NodeRef {
        id: NodeId(id),
        incarnation: Incarnation(incarnation),
    })
}

fn host() -> impl Strategy<Value = Host> {
    let addresses = (
        any::<(std::net::IpAddr, u16)>(),
        any::<(std::net::IpAddr, u16)>(),
    );
    (node(), any::<u32>(), any::<u16>(), addresses).prop_map(
        |(node, revision, protocol, (udp, rpc))| Host {
            node,
            revision,
            udp: udp.into(),
            rpc: rpc.into(),
            protocol,
        },
    )
}

fn packet() -> impl Strategy<Value = Packet> {
    let cluster = || any::<u128>().prop_map(ClusterId::new);
    let numbers = (any::<u64>(), any::<u64>(), any::<[u8; 16]>());
    let payload = proptest::collection::vec(any::<u8>(), 0..PAYLOAD_BYTES_MAX);
    (0..7u8, host(), cluster(), node(), numbers, payload).prop_map(
        |(kind, from, cluster, to, (nonce, count, cookie), payload)| match kind {
            0 => Packet::Hello(Hello {
                nonce,
                from,
                cluster,
            }),
            1 => Packet::Challenge(Challenge {
                nonce,
                from,
                cluster,
                to,
                cookie,
                count,
            }),
            2 => Packet::Proof(Proof {
                from,
                cluster,
                to,
                cookie,
                count,
            }),
            3 => Packet::Bound(Bound {
                from: from.node,
                to,
                cluster,
                count,
                payload: payload.into(),
            }),
            _ => Packet::Refuse {
                nonce,
                reason: match (kind, cluster) {
                    (4, Some(cluster)) => Refusal::ForeignCluster(cluster),
                    (5, _) => Refusal::Version { min: 1, max: 9 },
                    (6, _) => Refusal::OldIncarnation,
                    _ => Refusal::Departed,
                },
            },
        },
    )
}

proptest! {
    #[test]
    fn a_packet_is_sealed_and_opened(packet in packet()) {
        let bytes = seal().seal(&packet);
        prop_assert!(bytes.len() <= PACKET_BYTES_MAX);
        prop_assert_eq!(seal().open(&bytes), Ok(packet));
    }

    #[test]
    fn a_changed_or_cut_packet_is_not_opened(packet in packet(), at in any::<usize>(), bit in 0..8u8) {
        let bytes = seal().seal(&packet);
        let mut changed = bytes.to_vec();
        let at = at % changed.len();
        changed[at] ^= 1u8 << bit;
        prop_assert_eq!(seal().open(&changed), Err(OpenError::Unauthentic));
        prop_assert_eq!(seal().open(&bytes[..at]), Err(OpenError::Unauthentic));
    }

    #[test]
    fn garbage_is_not_parsed_into_trouble(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = seal().open(&bytes);
        let _ = parse(&bytes);
    }
}

#[test]
fn another_key_opens_nothing() {
    let packet = Packet::Refuse {
        nonce: 1,
        reason: Refusal::Departed,
    };
    let other = Seal::new(&ClusterKey::new("the key of another one").unwrap());
    assert_eq!(
        seal().open(&other.seal(&packet)),
        Err(OpenError::Unauthentic)
    );
}

#[test]
fn another_version_is_named_with_its_nonce_and_its_refusal_is_read() {
    let hello = Packet::Hello(Hello {
        nonce: 77,
        from: Host {
            node: NodeRef {
                id: NodeId(1),
                incarnation: Incarnation(1),
            },
            revision: 0,
            udp: ([127, 0, 0, 1], 1).into(),
            rpc: ([127, 0, 0, 1], 2).into(),
            protocol: 9,
        },
        cluster: None,
    });
    let error = OpenError::Version {
        version: 9,
        nonce: Some(77),
    };
    assert_eq!(seal().open(&seal().seal_as(9, &hello)), Err(error));
    let refuse = Packet::Refuse {
        nonce: 77,
        reason: Refusal::Version { min: 9, max: 9 },
    };
    assert_eq!(seal().open(&seal().seal_as(9, &refuse)), Ok(refuse));
}
