use bifrust_model::{ClientInfo, Protocol, Qos, TenantName};
use proptest::prelude::*;

use super::*;
use crate::Will;
use crate::schema::any_message;

fn any_session() -> impl Strategy<Value = SessionKey> {
    (any::<u64>(), "[a-z]{1,8}").prop_map(|(tenant, client)| SessionKey {
        tenant: TenantNumber(tenant),
        client: ClientId::new(&client).unwrap(),
    })
}

fn any_header() -> impl Strategy<Value = EntryHeader> {
    let group = proptest::option::of("\\$share/[a-z]{1,4}/[a-z]{1,4}");
    (0u8..3, any::<bool>(), any::<Vec<u32>>(), group).prop_map(|(level, retain, ids, group)| {
        EntryHeader {
            qos: Qos::from_level(level).unwrap(),
            retain,
            ids: ids.into(),
            group: group.map(|group| TopicFilter::new(group.into()).unwrap()),
        }
    })
}

fn any_filters() -> impl Strategy<Value = Vec<TopicFilter>> {
    proptest::collection::vec("[a-z]{1,4}(/[a-z+]|/#)?", 0..4).prop_map(|texts| {
        let filters = texts.into_iter();
        filters
            .map(|text| TopicFilter::new(text.into()).unwrap())
            .collect()
    })
}

fn any_will() -> impl Strategy<Value = Will> {
    (any_message(), any::<u32>()).prop_map(|(message, delay_seconds)| Will {
        message,
        delay_seconds,
        client: Arc::new(ClientInfo {
            tenant: TenantName::new("acme").unwrap(),
            user: Some("u".into()),
            client: ClientId::new("c").unwrap(),
            peer: None,
            protocol: Protocol::V5,
        }),
    })
}

fn any_attach() -> impl Strategy<Value = Command> {
    (
        any_session(),
        any::<[u64; 2]>(),
        any::<u128>(),
        any::<[u16; 2]>(),
        any::<[u32; 3]>(),
        proptest::option::of("[a-z]{0,4}"),
        proptest::option::of(any_will()),
        any::<bool>(),
    )
        .prop_map(
            |(session, numbers, id, shorts, ints, user, will, clean_start)| {
                Command::Attach(Box::new(Attach {
                    session,
                    stamp: Hlc(numbers[0]),
                    user: user.map(Into::into),
                    owner: ConnectionRef {
                        node: NodeRef {
                            id: NodeId(id),
                            incarnation: Incarnation(numbers[1]),
                        },
                        shard: shorts[0],
                        slot: ints[0],
                        generation: ints[1],
                    },
                    clean_start,
                    expiry_seconds: ints[2],
                    window: shorts[1],
                    will,
                }))
            },
        )
}

fn any_bounds() -> impl Strategy<Value = Bounds> {
    any::<(u32, u64, bool, bool)>().prop_map(|(messages, bytes, queues_qos0, drops_oldest_qos0)| {
        Bounds {
            messages,
            bytes,
            queues_qos0,
            drops_oldest_qos0,
        }
    })
}

fn any_insert() -> impl Strategy<Value = Command> {
    let target =
        ("[a-z]{1,8}", any::<u64>(), any_header()).prop_map(|(client, incarnation, header)| {
            Target {
                client: ClientId::new(&client).unwrap(),
                incarnation,
                header,
            }
        });
    (
        any::<u64>(),
        any_message(),
        any::<Option<(u64, u16, u64, u64)>>(),
        any_bounds(),
        proptest::collection::vec(target, 0..4),
    )
        .prop_map(|(tenant, message, key, bounds, targets)| {
            Command::Insert(Insert {
                tenant: TenantNumber(tenant),
                body: Body::new(Arc::new(message)),
                key: key.map(|(session, packet_id, generation, floor)| Keyed {
                    key: RoutingKey {
                        session,
                        packet_id,
                        generation,
                    },
                    floor,
                }),
                bounds,
                targets,
            })
        })
}

fn any_small() -> impl Strategy<Value = Command> {
    (
        0u8..11,
        any_session(),
        any::<[u64; 2]>(),
        any::<u16>(),
        any::<u32>(),
        any::<[Vec<u64>; 2]>(),
        any_filters(),
        any::<Vec<u16>>(),
    )
        .prop_map(
            |(kind, session, [epoch, number], packet_id, limit, lists, filters, routed)| {
                let stamp = Hlc(number);
                let [received, done] = lists;
                match kind {
                    0 => Command::Settle(Settle {
                        session,
                        epoch,
                        received,
                        done,
                    }),
                    1 => Command::BeginInbound(BeginInbound {
                        session,
                        epoch,
                        stamp,
                        packet_id,
                    }),
                    9 => Command::StorePicks(StorePicks {
                        session,
                        epoch,
                        packet_id,
                        generation: stamp.0,
                        picks: vec![1; received.len()].into(),
                    }),
                    2 => Command::ReleaseInbound(ReleaseInbound {
                        session,
                        epoch,
                        stamp,
                        packet_id,
                    }),
                    3 => Command::Expire(Expire {
                        session,
                        epoch,
                        stamp,
                    }),
                    4 => Command::WillSent(WillSent { session, epoch }),
                    5 => Command::Sweep(Sweep {
                        session,
                        incarnation: epoch,
                        filters,
                        limit,
                    }),
                    6 => Command::Unsubscribe(Unsubscribe {
                        session,
                        epoch,
                        stamp,
                        filters,
                    }),
                    7 => Command::ConfirmRoutes(ConfirmRoutes {
                        session,
                        incarnation: epoch,
                        changed_at: number,
                        gone: filters,
                    }),
                    8 => Command::Tidy(Tidy {
                        publishers: vec![session.client.clone()],
                        session,
                        incarnation: epoch,
                    }),
                    _ => Command::Detach(Box::new(Detach {
                        session,
                        epoch,
                        stamp,
                        will: if limit % 2 == 0 {
                            WillFate::Due
                        } else {
                            WillFate::Dropped
                        },
                        expiry_seconds: (limit % 3 == 0).then_some(limit),
                        sent_before: (limit % 5 == 0).then_some(number),
                        routed,
                    })),
                }
            },
        )
}

fn any_lists() -> impl Strategy<Value = Command> {
    let subscriptions = (any_filters(), 0u8..3, any::<bool>(), any::<u32>());
    let messages = proptest::collection::vec((any_header(), any_message()), 0..3);
    (
        any_session(),
        any::<u64>(),
        subscriptions,
        messages,
        any_bounds(),
        any::<bool>(),
    )
        .prop_map(
            |(session, epoch, (filters, level, no_local, id), messages, bounds, which)| {
                if which {
                    let messages = messages.into_iter();
                    return Command::InsertRetained(InsertRetained {
                        session,
                        epoch,
                        bounds,
                        messages: messages
                            .map(|(header, message)| (header, Body::new(Arc::new(message))))
                            .collect(),
                    });
                }
                let options = SubscriptionOptions {
                    qos: Qos::from_level(level).unwrap(),
                    no_local,
                    id: std::num::NonZeroU32::new(id),
                    ..SubscriptionOptions::default()
                };
                let filters = filters.into_iter();
                Command::Subscribe(Subscribe {
                    session,
                    epoch,
                    stamp: Hlc(epoch),
                    subscriptions: filters
                        .map(|filter| Subscription { filter, options })
                        .collect(),
                    max_filters: id,
                })
            },
        )
}

proptest! {
    #[test]
    fn commands_survive_the_log(
        command in prop_oneof![any_attach(), any_insert(), any_small(), any_lists()],
    ) {
        prop_assert_eq!(Command::decode(command.encode()).unwrap(), command);
    }

    #[test]
    fn any_bytes_are_answered(kind in 0u8..20, bytes: Vec<u8>) {
        let bytes = [&[VERSION, kind][..], &bytes].concat();
        let _ = Command::decode(bytes.into()); // no panic
    }

    #[test]
    fn steps_read_back(step: u64) {
        prop_assert_eq!(unzigzag(zigzag(step)), step);
    }
}
