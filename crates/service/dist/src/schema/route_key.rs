//! The key of a route.
//!
//! ```text
//! tenant 8 | filter levels | 1                           plain
//!                          | 2 or 3, length 2, group     share, oshare
//!                                                        | 1, node 16, incarnation 8     live
//!                                                        | 2, client, incarnation 8      inbox
//!                                                        | 3, node 16, incarnation 8,
//!                                                          shard 2, slot 4, generation 4 member
//! ```
//!
//! The incarnations are part of the key: what is said of one session or node never touches the route of
//! the next.

use bifrust_model::{
    ClientId, FilterScope, Incarnation, NodeId, NodeRef, TenantNumber, TopicFilter, levels,
};
use bytes::Bytes;

use crate::{LiveMember, Receiver};

/// Each receiver of the filter gets each message.
const PLAIN: u8 = 1;
const SHARE: u8 = 2;
const ORDERED_SHARE: u8 = 3;

const LIVE: u8 = 1;
const INBOX: u8 = 2;
const MEMBER: u8 = 3;

/// The receiver's part of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReceiverKey {
    /// Live sessions of a node.
    Live(NodeRef),
    /// A persistent session.
    Inbox { client: ClientId, incarnation: u64 },
    /// A live session as a member of a group.
    Member(LiveMember),
}

impl ReceiverKey {
    /// Of a route's end.
    pub(crate) fn of(receiver: &Receiver) -> Self {
        match receiver {
            Receiver::Live { node, .. } => Self::Live(*node),
            Receiver::Inbox {
                client,
                incarnation,
                ..
            } => Self::Inbox {
                client: client.clone(),
                incarnation: *incarnation,
            },
            Receiver::Member { session, .. } => Self::Member(*session),
        }
    }
}

/// A key, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RouteKey {
    pub(crate) tenant: TenantNumber,
    pub(crate) filter: TopicFilter,
    pub(crate) receiver: ReceiverKey,
}

/// The bytes of a key.
pub(crate) fn encode(tenant: TenantNumber, filter: &TopicFilter, receiver: &ReceiverKey) -> Bytes {
    let mut key = prefix(tenant, filter);
    match receiver {
        ReceiverKey::Live(node) => {
            key.push(LIVE);
            key.extend_from_slice(&node.id.0.to_be_bytes());
            key.extend_from_slice(&node.incarnation.0.to_be_bytes());
        }
        ReceiverKey::Inbox {
            client,
            incarnation,
        } => {
            key.push(INBOX);
            key.extend_from_slice(client.as_str().as_bytes());
            key.extend_from_slice(&incarnation.to_be_bytes());
        }
        ReceiverKey::Member(session) => {
            key.push(MEMBER);
            key.extend_from_slice(&session.node.id.0.to_be_bytes());
            key.extend_from_slice(&session.node.incarnation.0.to_be_bytes());
            key.extend_from_slice(&session.shard.to_be_bytes());
            key.extend_from_slice(&session.slot.to_be_bytes());
            key.extend_from_slice(&session.generation.to_be_bytes());
        }
    }
    key.into()
}

/// What the keys of all receivers of a filter begin with.
pub(crate) fn prefix(tenant: TenantNumber, filter: &TopicFilter) -> Vec<u8> {
    let mut key = Vec::with_capacity(filter.as_str().len() + 64);
    key.extend_from_slice(&tenant.key());
    levels::push_name(&mut key, filter.plain());
    match filter.scope() {
        FilterScope::Plain => key.push(PLAIN),
        FilterScope::Share(group) => push_group(&mut key, SHARE, group),
        FilterScope::OrderedShare(group) => push_group(&mut key, ORDERED_SHARE, group),
    }
    key
}

fn push_group(key: &mut Vec<u8>, kind: u8, group: &str) {
    key.push(kind);
    // A group's name comes out of one MQTT string, which a 2-byte length can always say. A longer one
    // makes a key that is too long for any row, and is refused for that.
    let length = u16::try_from(group.len()).unwrap_or(u16::MAX);
    key.extend_from_slice(&length.to_be_bytes());
    key.extend_from_slice(group.as_bytes());
}

/// Takes a key apart; `None` if it is none.
pub(crate) fn decode(key: &[u8]) -> Option<RouteKey> {
    let (tenant, rest) = key.split_first_chunk::<8>()?;
    let (plain, rest) = levels::split_name(rest)?;
    let (scope, receiver) = decode_end(rest)?;
    Some(RouteKey {
        tenant: TenantNumber(u64::from_be_bytes(*tenant)),
        filter: scoped(scope, plain)?,
        receiver,
    })
}

/// The filter as its client wrote it.
pub(crate) fn scoped(scope: FilterScope<'_>, plain: String) -> Option<TopicFilter> {
    let plain_len = plain.len();
    let filter = match scope {
        FilterScope::Plain => plain,
        FilterScope::Share(group) => format!("$share/{group}/{plain}"),
        FilterScope::OrderedShare(group) => format!("$oshare/{group}/{plain}"),
    };
    let filter = TopicFilter::new(filter.into()).ok()?;
    // It ends with its plain part; a longer or shorter one makes it the filter of another key.
    (filter.plain().len() == plain_len).then_some(filter)
}

/// Takes the part of a key behind the filter's levels apart.
pub(crate) fn decode_end(part: &[u8]) -> Option<(FilterScope<'_>, ReceiverKey)> {
    let (kind, rest) = part.split_first()?;
    let (scope, rest) = match *kind {
        PLAIN => (FilterScope::Plain, rest),
        SHARE | ORDERED_SHARE => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            let length = u16::from_be_bytes(*length).into();
            let (group, rest) = match cfg!(planted_bugs) {
                true => rest.split_at(length),
                false => rest.split_at_checked(length)?,
            };
            let group = std::str::from_utf8(group).ok()?;
            let scope = match *kind {
                SHARE => FilterScope::Share(group),
                _ => FilterScope::OrderedShare(group),
            };
            (scope, rest)
        }
        _ => return None,
    };
    Some((scope, decode_receiver(rest)?))
}

fn decode_receiver(part: &[u8]) -> Option<ReceiverKey> {
    let (kind, rest) = part.split_first()?;
    match *kind {
        LIVE => Some(ReceiverKey::Live(decode_node(rest)?)),
        INBOX => {
            let (client, incarnation) = rest.split_last_chunk::<8>()?;
            Some(ReceiverKey::Inbox {
                client: ClientId::new(std::str::from_utf8(client).ok()?).ok()?,
                incarnation: u64::from_be_bytes(*incarnation),
            })
        }
        MEMBER => {
            let (node, rest) = rest.split_first_chunk::<24>()?;
            let (shard, rest) = rest.split_first_chunk::<2>()?;
            let (slot, generation) = rest.split_first_chunk::<4>()?;
            Some(ReceiverKey::Member(LiveMember {
                node: decode_node(node)?,
                shard: u16::from_be_bytes(*shard),
                slot: u32::from_be_bytes(*slot),
                generation: u32::from_be_bytes(generation.try_into().ok()?),
            }))
        }
        _ => None,
    }
}

fn decode_node(part: &[u8]) -> Option<NodeRef> {
    let (id, incarnation) = part.split_first_chunk::<16>()?;
    Some(NodeRef {
        id: NodeId(u128::from_be_bytes(*id)),
        incarnation: Incarnation(u64::from_be_bytes(incarnation.try_into().ok()?)),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn receivers() -> impl Strategy<Value = ReceiverKey> {
        prop_oneof![
            (any::<u128>(), any::<u64>()).prop_map(|(id, incarnation)| {
                ReceiverKey::Live(NodeRef {
                    id: NodeId(id),
                    incarnation: Incarnation(incarnation),
                })
            }),
            ("[a-zü/\u{1}]{1,8}", any::<u64>()).prop_map(|(client, incarnation)| {
                ReceiverKey::Inbox {
                    client: ClientId::new(&client).unwrap(),
                    incarnation,
                }
            }),
            (any::<u128>(), any::<u64>(), any::<(u16, u32, u32)>()).prop_map(
                |(id, incarnation, (shard, slot, generation))| {
                    ReceiverKey::Member(LiveMember {
                        node: NodeRef {
                            id: NodeId(id),
                            incarnation: Incarnation(incarnation),
                        },
                        shard,
                        slot,
                        generation,
                    })
                }
            ),
        ]
    }

    fn filters() -> impl Strategy<Value = TopicFilter> {
        let scope = prop_oneof![Just(""), Just("$share/g ü/"), Just("$oshare/g/")];
        let levels = prop::collection::vec("[a-c+]|[a-c]{0,3}|\\$SYS", 1..5);
        (scope, levels, any::<bool>()).prop_filter_map("no filter", |(scope, levels, multi)| {
            let tail = if multi { "/#" } else { "" };
            TopicFilter::new(format!("{scope}{}{tail}", levels.join("/")).into()).ok()
        })
    }

    #[test]
    fn damaged_keys_are_not_read_as_others() {
        let receiver = [&[LIVE][..], &[0; 24]].concat();
        for middle in [
            &b"$share\0g\0a\0\0\x01"[..], // a plain filter that says it is shared
            b"a\0\0\x02\0\x03g/h",        // a group of two levels
            b"a/b\0\0\x01",               // a level of two levels
        ] {
            let key = [&[0; 8], middle, &receiver].concat();
            assert_eq!(decode(&key), None, "{middle:?}");
        }
    }

    proptest! {
        #[test]
        fn keys_read_back(tenant in any::<u64>(), filter in filters(), receiver in receivers()) {
            let tenant = TenantNumber(tenant);
            let key = encode(tenant, &filter, &receiver);
            prop_assert_eq!(decode(&key), Some(RouteKey { tenant, filter, receiver }));
        }

        #[test]
        fn any_bytes_are_a_key_or_not(bytes in any::<Vec<u8>>()) {
            if let Some(key) = decode(&bytes) {
                prop_assert_eq!(&encode(key.tenant, &key.filter, &key.receiver)[..], &bytes[..]);
            }
        }
    }
}
