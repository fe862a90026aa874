//! Keys. All rows of a session start with its tenant, its client id and a zero byte: client ids hold
//! no zero, so no session's rows lie between those of another.

use std::ops::Bound;

use bifrust_kv::prefix_end;
use bifrust_model::{ClientId, SessionKey, TenantNumber, TopicFilter};
use bifrust_storage::Keyspace;
use bytes::{BufMut, Bytes};

/// Queued messages.
pub(crate) const BODY: Keyspace = Keyspace("inbox_body");
/// Subscriptions.
pub(crate) const SUB: Keyspace = Keyspace("inbox_sub");
/// Everything else of a session, wills included.
pub(crate) const META: Keyspace = Keyspace("inbox_meta");
/// Small rows that timers are rebuilt from.
pub(crate) const DEADLINE: Keyspace = Keyspace("inbox_deadline");

const TENANT_BYTES: usize = 8;

mod kind {
    pub(super) const META: u8 = 1;
    pub(super) const CURSOR: u8 = 2;
    pub(super) const RECEIVED: u8 = 3;
    pub(super) const INBOUND: u8 = 4;
    pub(super) const SEEN: u8 = 5;
    pub(super) const WILL: u8 = 6;

    pub(super) const DUE_SESSION: u8 = 1;
    pub(super) const DUE_WILL: u8 = 2;
    pub(super) const DUE_SWEEP: u8 = 3;
}

/// What all keys of a session start with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prefix(Box<[u8]>);

/// The keys between two bounds.
pub(crate) struct KeyRange {
    pub(crate) start: Vec<u8>,
    end: Bound<Vec<u8>>,
}

impl KeyRange {
    fn of(prefix: Vec<u8>) -> Self {
        let end = prefix_end(&prefix);
        Self { start: prefix, end }
    }

    pub(crate) fn start(&self) -> Bound<&[u8]> {
        Bound::Included(&self.start)
    }

    pub(crate) fn end(&self) -> Bound<&[u8]> {
        self.end.as_ref().map(Vec::as_slice)
    }
}

impl Prefix {
    pub(crate) fn new(session: &SessionKey) -> Self {
        let client = session.client.as_str().as_bytes();
        let mut prefix = Vec::with_capacity(TENANT_BYTES + client.len() + 1);
        prefix.put_slice(&session.tenant.key());
        prefix.put_slice(client);
        prefix.put_u8(0);
        Self(prefix.into())
    }

    fn key(&self, tail: usize) -> Vec<u8> {
        let mut key = Vec::with_capacity(self.0.len() + tail);
        key.extend_from_slice(&self.0);
        key
    }

    fn numbered(&self, kind: u8, number: u64, tail: usize) -> Vec<u8> {
        let mut key = self.key(9 + tail);
        key.put_u8(kind);
        key.put_u64(number);
        key
    }

    /// The bytes themselves.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn meta(&self) -> Bytes {
        let mut key = self.key(1);
        key.put_u8(kind::META);
        key.into()
    }

    pub(crate) fn cursor(&self, incarnation: u64) -> Bytes {
        self.numbered(kind::CURSOR, incarnation, 0).into()
    }

    pub(crate) fn received(&self, incarnation: u64, seq: u64) -> Bytes {
        let mut key = self.numbered(kind::RECEIVED, incarnation, 8);
        key.put_u64(seq);
        key.into()
    }

    pub(crate) fn all_received(&self, incarnation: u64) -> KeyRange {
        KeyRange::of(self.numbered(kind::RECEIVED, incarnation, 0))
    }

    pub(crate) fn inbound(&self, incarnation: u64, packet_id: u16) -> Bytes {
        let mut key = self.numbered(kind::INBOUND, incarnation, 2);
        key.put_u16(packet_id);
        key.into()
    }

    pub(crate) fn all_inbound(&self, incarnation: u64) -> KeyRange {
        KeyRange::of(self.numbered(kind::INBOUND, incarnation, 0))
    }

    pub(crate) fn seen(&self, incarnation: u64, publisher: &ClientId) -> Bytes {
        let publisher = publisher.as_str().as_bytes();
        let mut key = self.numbered(kind::SEEN, incarnation, publisher.len());
        key.put_slice(publisher);
        key.into()
    }

    /// Right behind [`Self::seen`], since no client id holds a zero.
    pub(crate) fn seen_wills(&self, incarnation: u64, publisher: &ClientId) -> Bytes {
        [&self.seen(incarnation, publisher)[..], &[0]]
            .concat()
            .into()
    }

    /// The publisher that a key of [`Self::seen`] or [`Self::seen_wills`] names.
    pub(crate) fn publisher_of(&self, key: &[u8]) -> Option<ClientId> {
        let name = key.get(self.0.len() + 9..)?;
        let name = name.strip_suffix(&[0]).unwrap_or(name);
        ClientId::new(std::str::from_utf8(name).ok()?).ok()
    }

    pub(crate) fn all_seen(&self, incarnation: u64) -> KeyRange {
        KeyRange::of(self.numbered(kind::SEEN, incarnation, 0))
    }

    pub(crate) fn will(&self, epoch: u64) -> Bytes {
        self.numbered(kind::WILL, epoch, 0).into()
    }

    pub(crate) fn subscription(&self, incarnation: u64, filter: &TopicFilter) -> Bytes {
        let filter = filter.as_str().as_bytes();
        let mut key = self.key(8 + filter.len());
        key.put_u64(incarnation);
        key.put_slice(filter);
        key.into()
    }

    pub(crate) fn all_subscriptions(&self, incarnation: u64) -> KeyRange {
        let mut key = self.key(8);
        key.put_u64(incarnation);
        KeyRange::of(key)
    }

    /// The filter that a key of [`Self::subscription`] names.
    pub(crate) fn filter_of(&self, key: &Bytes) -> Option<TopicFilter> {
        let at = self.0.len() + 8;
        if key.len() < at {
            return None;
        }
        let text = bytestring::ByteString::try_from(key.slice(at..)).ok()?;
        TopicFilter::new(text).ok()
    }

    pub(crate) fn entry(&self, incarnation: u64, seq: u64) -> Bytes {
        let mut key = self.key(16);
        key.put_u64(incarnation);
        key.put_u64(seq);
        key.into()
    }

    pub(crate) fn all_entries(&self, incarnation: u64) -> KeyRange {
        let mut key = self.key(8);
        key.put_u64(incarnation);
        KeyRange::of(key)
    }

    /// Entries from `seq` on.
    pub(crate) fn entries_from(&self, incarnation: u64, seq: u64) -> KeyRange {
        let mut range = self.all_entries(incarnation);
        range.start.put_u64(seq);
        range
    }

    pub(crate) fn due_session(&self) -> Bytes {
        let mut key = self.key(1);
        key.put_u8(kind::DUE_SESSION);
        key.into()
    }

    pub(crate) fn due_will(&self, epoch: u64) -> Bytes {
        self.numbered(kind::DUE_WILL, epoch, 0).into()
    }

    pub(crate) fn all_due_wills(&self) -> KeyRange {
        let mut key = self.key(1);
        key.put_u8(kind::DUE_WILL);
        KeyRange::of(key)
    }

    pub(crate) fn due_sweep(&self, incarnation: u64) -> Bytes {
        self.numbered(kind::DUE_SWEEP, incarnation, 0).into()
    }
}

/// What a row of `inbox_deadline` is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum DeadlineKey {
    Session,
    Will { epoch: u64 },
    Sweep { incarnation: u64 },
}

/// Reads a key of `inbox_deadline`.
pub(crate) fn parse_deadline(key: &[u8]) -> Option<(SessionKey, DeadlineKey)> {
    let (tenant, rest) = key.split_first_chunk::<TENANT_BYTES>()?;
    let zero = rest.iter().position(|byte| *byte == 0)?;
    let client = ClientId::new(std::str::from_utf8(&rest[..zero]).ok()?).ok()?;
    let (kind, number) = rest[zero + 1..].split_first()?;
    let number = || Some(u64::from_be_bytes(number.try_into().ok()?));
    let what = match *kind {
        kind::DUE_SESSION => DeadlineKey::Session,
        kind::DUE_WILL => DeadlineKey::Will { epoch: number()? },
        kind::DUE_SWEEP => DeadlineKey::Sweep {
            incarnation: number()?,
        },
        _ => return None,
    };
    let tenant = TenantNumber(u64::from_be_bytes(*tenant));
    Some((SessionKey { tenant, client }, what))
}

/// The number in the last eight bytes of a key.
pub(crate) fn number_at_end(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(*key.last_chunk::<8>()?))
}

/// The largest key at or below `key` between two sessions.
pub(crate) fn align_split(key: &[u8]) -> Vec<u8> {
    let zero = key.iter().skip(TENANT_BYTES).position(|byte| *byte == 0);
    // Without a zero it names no row, only a place between sessions.
    let end = zero.map_or(key.len(), |zero| TENANT_BYTES + zero + 1);
    key[..end].to_vec()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn session(tenant: u64, client: &str) -> SessionKey {
        SessionKey {
            tenant: TenantNumber(tenant),
            client: ClientId::new(client).unwrap(),
        }
    }

    proptest! {
        #[test]
        fn deadline_keys_read_back(tenant: u64, client in "\\PC{1,30}", number: u64) {
            let session = session(tenant, &client);
            let prefix = Prefix::new(&session);
            for (key, what) in [
                (prefix.due_session(), DeadlineKey::Session),
                (prefix.due_will(number), DeadlineKey::Will { epoch: number }),
                (prefix.due_sweep(number), DeadlineKey::Sweep { incarnation: number }),
            ] {
                prop_assert_eq!(parse_deadline(&key), Some((session.clone(), what)));
            }
        }

        #[test]
        fn sessions_are_contiguous_and_in_order(
            a in "[a-c\u{1}]{1,6}", b in "[a-c\u{1}]{1,6}", tail: Vec<u8>, other: Vec<u8>,
        ) {
            prop_assume!(a != b);
            let (a, b) = if a < b { (a, b) } else { (b, a) };
            let (a, b) = (Prefix::new(&session(7, &a)), Prefix::new(&session(7, &b)));
            let low = [a.as_bytes(), &tail].concat();
            let high = [b.as_bytes(), &other].concat();
            prop_assert!(low < high);
            prop_assert_eq!(align_split(&low), a.as_bytes());
        }

        #[test]
        fn any_key_is_answered(key: Vec<u8>) {
            let _ = parse_deadline(&key); // no panic
            prop_assert!(align_split(&key) <= key);
        }

        #[test]
        fn filters_and_numbers_read_back(client in "[a-z]{1,5}", seq: u64, filter in "[a-z/]{1,20}") {
            let prefix = Prefix::new(&session(1, &client));
            let filter = TopicFilter::new(filter.into()).unwrap();
            let key = prefix.subscription(3, &filter);
            prop_assert_eq!(prefix.filter_of(&key), Some(filter));
            prop_assert_eq!(number_at_end(&prefix.entry(3, seq)), Some(seq));
            let publisher = ClientId::new(&client).unwrap();
            for row in [prefix.seen(3, &publisher), prefix.seen_wills(3, &publisher)] {
                prop_assert_eq!(prefix.publisher_of(&row), Some(publisher.clone()));
            }
            let range = prefix.entries_from(3, seq);
            prop_assert_eq!(&range.start[..], &prefix.entry(3, seq)[..]);
        }
    }
}
