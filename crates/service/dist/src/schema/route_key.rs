//! The key of a route.
//!
//! ```text
//! tenant 8 | filter levels | 1                           plain
//!                          | 2 or 3, length 2, group     share, oshare
//!                                                        | 1, node 16, incarnation 8     live
//!                                                        | 2, client, incarnation 8      inbox
//! ```
//!
//! The incarnations are part of the key: what is said of one session or node never touches the route of
//! the next.

use bifrust_model::{
    ClientId, FilterScope, Incarnation, NodeId, NodeRef, TenantNumber, TopicFilter, levels,
};
use bytes::Bytes;

/// Each receiver of the filter gets each message.
pub(crate) const PLAIN: u8 = 1;
const SHARE: u8 = 2;
const ORDERED_SHARE: u8 = 3;

const LIVE: u8 = 1;
const INBOX: u8 = 2;

/// The receiver's part of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReceiverKey {
    /// Live sessions of a node.
    Live(NodeRef),
    /// A persistent session.
    Inbox { client: ClientId, incarnation: u64 },
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
    let mut key = Vec::with_capacity(filter.as_str().len() + 64);
    key.extend_from_slice(&tenant.key());
    levels::push_name(&mut key, filter.plain());
    match filter.scope() {
        FilterScope::Plain => key.push(PLAIN),
        FilterScope::Share(group) => push_group(&mut key, SHARE, group),
        FilterScope::OrderedShare(group) => push_group(&mut key, ORDERED_SHARE, group),
    }
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
    }
    key.into()
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
    let (kind, rest) = rest.split_first()?;
    let (prefix, rest) = match *kind {
        PLAIN => (None, rest),
        SHARE => (Some("$share"), rest),
        ORDERED_SHARE => (Some("$oshare"), rest),
        _ => return None,
    };
    let (filter, rest) = match prefix {
        None => (plain, rest),
        Some(prefix) => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            let (group, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
            let group = std::str::from_utf8(group).ok()?;
            (format!("{prefix}/{group}/{plain}"), rest)
        }
    };
    Some(RouteKey {
        tenant: TenantNumber(u64::from_be_bytes(*tenant)),
        filter: TopicFilter::new(filter.into()).ok()?,
        receiver: decode_receiver(rest)?,
    })
}

/// Takes the receiver's part apart.
pub(crate) fn decode_receiver(part: &[u8]) -> Option<ReceiverKey> {
    let (kind, rest) = part.split_first()?;
    let (head, incarnation) = rest.split_last_chunk::<8>()?;
    let incarnation = u64::from_be_bytes(*incarnation);
    match *kind {
        LIVE => Some(ReceiverKey::Live(NodeRef {
            id: NodeId(u128::from_be_bytes(head.try_into().ok()?)),
            incarnation: Incarnation(incarnation),
        })),
        INBOX => Some(ReceiverKey::Inbox {
            client: ClientId::new(std::str::from_utf8(head).ok()?).ok()?,
            incarnation,
        }),
        _ => None,
    }
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
