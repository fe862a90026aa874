//! What a node knows about its ranges: rows of `kv_meta`, each a versioned record.

use bifrust_model::fuzz::check_record;
use bifrust_model::record;
use bifrust_storage::{Read, WriteBatch};
use bytes::Bytes;

use crate::{KV_META, OpenError};

const VERSION: u8 = 1;

const NEXT_RANGE_KEY: &[u8] = b"next-range";

/// A range's identity; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RangeId(pub(crate) u64);

/// A range: which keys, and who holds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub(crate) id: RangeId,
    /// First key.
    pub(crate) start: Bytes,
    /// First key behind it; none: no end.
    pub(crate) end: Option<Bytes>,
    /// Rises when start or end change.
    pub(crate) boundary: u64,
    /// Rises when replicas change.
    pub(crate) configuration: u64,
    pub(crate) replicas: Vec<Replica>,
}

/// One copy of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Replica {
    pub(crate) id: u64,
    pub(crate) node: u128,
}

impl Descriptor {
    /// The range over all keys that a service starts with.
    pub(crate) fn whole(id: RangeId, node: u128) -> Self {
        Self {
            id,
            start: Bytes::new(),
            end: None,
            boundary: 1,
            configuration: 1,
            replicas: vec![Replica { id: 1, node }],
        }
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct DescriptorRecord {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(bytes = "bytes", tag = "2")]
    start: Bytes,
    #[prost(bytes = "bytes", optional, tag = "3")]
    end: Option<Bytes>,
    #[prost(uint64, tag = "4")]
    boundary: u64,
    #[prost(uint64, tag = "5")]
    configuration: u64,
    #[prost(message, repeated, tag = "6")]
    replicas: Vec<ReplicaRecord>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ReplicaRecord {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(bytes = "bytes", tag = "2")]
    node: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ServiceRecord {
    #[prost(uint64, repeated, tag = "1")]
    ranges: Vec<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct NextRangeRecord {
    #[prost(uint64, tag = "1")]
    id: u64,
}

/// How far a range has come; stored with every batch.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Progress {
    /// Index of the last entry whose changes are in the rows.
    #[prost(uint64, tag = "1")]
    pub(crate) applied: u64,
    /// The range's term.
    #[prost(uint64, tag = "2")]
    pub(crate) term: u64,
    /// Index of the first log entry that is kept.
    #[prost(uint64, tag = "3")]
    pub(crate) log_first: u64,
}

impl Progress {
    pub(crate) fn encode(&self) -> Bytes {
        record::encode(VERSION, self)
    }
}

impl From<&Descriptor> for DescriptorRecord {
    fn from(descriptor: &Descriptor) -> Self {
        let replica = |replica: &Replica| ReplicaRecord {
            id: replica.id,
            node: Bytes::copy_from_slice(&replica.node.to_be_bytes()),
        };
        Self {
            id: descriptor.id.0,
            start: descriptor.start.clone(),
            end: descriptor.end.clone(),
            boundary: descriptor.boundary,
            configuration: descriptor.configuration,
            replicas: descriptor.replicas.iter().map(replica).collect(),
        }
    }
}

impl TryFrom<DescriptorRecord> for Descriptor {
    type Error = record::RecordError;

    fn try_from(found: DescriptorRecord) -> Result<Self, Self::Error> {
        let replica = |found: ReplicaRecord| {
            let id = match cfg!(planted_bugs) {
                true => &found.node[..16],
                false => &found.node[..],
            };
            let node =
                <[u8; 16]>::try_from(id).map_err(|_| record::RecordError::Invalid("node id"))?;
            Ok(Replica {
                id: found.id,
                node: u128::from_be_bytes(node),
            })
        };
        if found.end.as_ref().is_some_and(|end| *end <= found.start) {
            return Err(record::RecordError::Invalid("range ends before it starts"));
        }
        Ok(Self {
            id: RangeId(found.id),
            start: found.start,
            end: found.end,
            boundary: found.boundary,
            configuration: found.configuration,
            replicas: found
                .replicas
                .into_iter()
                .map(replica)
                .collect::<Result<_, Self::Error>>()?,
        })
    }
}

/// Key of a range's progress row.
pub(crate) fn progress_key(range: RangeId) -> Bytes {
    key(b"progress/", &range.0.to_be_bytes())
}

/// How far the range has come.
pub(crate) fn progress(read: &dyn Read, range: RangeId) -> Result<Progress, OpenError> {
    let found = load(read, &progress_key(range), "progress of a range")?;
    found.ok_or_else(|| OpenError::Damaged(format!("range {} has no progress row", range.0)))
}

/// The ranges of a service in the order of their keys; made if it has none: one over all keys.
pub(crate) fn ranges_of(
    read: &dyn Read,
    service: &str,
    node: u128,
    batch: &mut WriteBatch,
) -> Result<Vec<Descriptor>, OpenError> {
    let service_key = key(b"service/", service.as_bytes());
    let Some(ServiceRecord { ranges }) = load(read, &service_key, "ranges of a service")? else {
        return Ok(vec![create(read, service_key, node, batch)?]);
    };
    let mut descriptors = ranges
        .into_iter()
        .map(|id| {
            let found: Option<DescriptorRecord> =
                load(read, &descriptor_key(RangeId(id)), "range descriptor")?;
            let found =
                found.ok_or_else(|| OpenError::Damaged(format!("range {id} has no descriptor")))?;
            Descriptor::try_from(found).map_err(|source| OpenError::Record {
                what: format!("descriptor of range {id}"),
                source,
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    descriptors.sort_by(|a, b| a.start.cmp(&b.start));
    check_cover(service, &descriptors)?;
    Ok(descriptors)
}

/// The ranges of a service follow each other without gap or overlap, from the first key to the last.
fn check_cover(service: &str, descriptors: &[Descriptor]) -> Result<(), OpenError> {
    let mut expected = Some(Bytes::new());
    for descriptor in descriptors {
        if expected.as_ref() != Some(&descriptor.start) {
            break;
        }
        expected = descriptor.end.clone();
    }
    let is_covered = expected.is_none()
        && descriptors
            .iter()
            .filter(|range| range.end.is_none())
            .count()
            == 1;
    is_covered.then_some(()).ok_or_else(|| {
        OpenError::Damaged(format!(
            "the ranges of service {service:?} have a gap or overlap"
        ))
    })
}

fn create(
    read: &dyn Read,
    service_key: Bytes,
    node: u128,
    batch: &mut WriteBatch,
) -> Result<Descriptor, OpenError> {
    let next: Option<NextRangeRecord> = load(read, NEXT_RANGE_KEY, "next range id")?;
    let id = next.map_or(1, |next| next.id);
    let next = NextRangeRecord { id: id + 1 };
    let descriptor = Descriptor::whole(RangeId(id), node);
    let service = ServiceRecord { ranges: vec![id] };
    let progress = Progress {
        applied: 0,
        term: 1,
        log_first: 1,
    };
    batch.put(KV_META, NEXT_RANGE_KEY, record::encode(VERSION, &next));
    batch.put(KV_META, service_key, record::encode(VERSION, &service));
    batch.put(
        KV_META,
        descriptor_key(descriptor.id),
        record::encode(VERSION, &DescriptorRecord::from(&descriptor)),
    );
    batch.put(KV_META, progress_key(descriptor.id), progress.encode());
    Ok(descriptor)
}

fn descriptor_key(range: RangeId) -> Bytes {
    key(b"range/", &range.0.to_be_bytes())
}

fn key(kind: &[u8], name: &[u8]) -> Bytes {
    [kind, name].concat().into()
}

fn load<T: prost::Message + Default>(
    read: &dyn Read,
    key: &[u8],
    what: &str,
) -> Result<Option<T>, OpenError> {
    let Some(bytes) = read.get(KV_META, key)? else {
        return Ok(None);
    };
    let found = record::decode(bytes, VERSION).map_err(|source| OpenError::Record {
        what: what.to_owned(),
        source,
    })?;
    Ok(Some(found))
}

/// For the fuzzer.
pub(crate) fn check_rows(bytes: &Bytes) {
    check_record(
        bytes,
        |bytes| Descriptor::try_from(record::decode::<DescriptorRecord>(bytes, VERSION)?),
        |descriptor| record::encode(VERSION, &DescriptorRecord::from(descriptor)),
    );
    check_plain::<ServiceRecord>(bytes);
    check_plain::<NextRangeRecord>(bytes);
    check_plain::<Progress>(bytes);
}

fn check_plain<T: prost::Message + std::fmt::Debug + Default + PartialEq>(bytes: &Bytes) {
    check_record(
        bytes,
        |bytes| record::decode::<T>(bytes, VERSION),
        |row| record::encode(VERSION, row),
    );
}

#[cfg(test)]
mod tests {
    use bifrust_storage::{Engine, open_memory};
    use proptest::prelude::*;

    use super::*;

    fn descriptor(id: u64, start: &'static str, end: Option<&'static str>) -> Descriptor {
        Descriptor {
            start: start.into(),
            end: end.map(Bytes::from),
            ..Descriptor::whole(RangeId(id), 5)
        }
    }

    #[test]
    fn a_service_keeps_its_range_and_ids_rise() {
        let engine = open_memory(crate::keyspaces());
        let open = |service| {
            let mut batch = WriteBatch::new();
            let found = ranges_of(&engine, service, 5, &mut batch).unwrap();
            engine.write(batch).unwrap();
            found
        };
        assert_eq!(open("dist"), [Descriptor::whole(RangeId(1), 5)]);
        assert_eq!(open("inbox"), [Descriptor::whole(RangeId(2), 5)]);
        assert_eq!(open("dist"), [Descriptor::whole(RangeId(1), 5)]);
        assert_eq!(progress(&engine, RangeId(2)).unwrap().applied, 0);
    }

    #[test]
    fn gaps_and_overlaps_are_damage() {
        let whole = |ranges: &[Descriptor]| check_cover("x", ranges).is_ok();
        assert!(whole(&[
            descriptor(1, "", Some("m")),
            descriptor(2, "m", None)
        ]));
        assert!(!whole(&[]));
        assert!(!whole(&[descriptor(1, "", Some("m"))]));
        assert!(!whole(&[
            descriptor(1, "", Some("m")),
            descriptor(2, "n", None)
        ]));
        assert!(!whole(&[descriptor(1, "", None), descriptor(2, "n", None)]));
    }

    proptest! {
        #[test]
        fn a_descriptor_survives_its_record(
            id: u64, start: Vec<u8>, more in proptest::option::of(1u8..), boundary: u64,
            configuration: u64, replicas: Vec<(u64, u128)>,
        ) {
            let end = more.map(|more| [&start[..], &[more]].concat().into());
            let replicas = replicas.into_iter().map(|(id, node)| Replica { id, node }).collect();
            let descriptor =
                Descriptor { id: RangeId(id), start: start.into(), end, boundary, configuration, replicas };
            let bytes = record::encode(VERSION, &DescriptorRecord::from(&descriptor));
            let found: DescriptorRecord = record::decode(bytes, VERSION).unwrap();
            prop_assert_eq!(Descriptor::try_from(found).unwrap(), descriptor);
        }

        #[test]
        fn progress_survives_its_record(applied: u64, term: u64, log_first: u64) {
            let progress = Progress { applied, term, log_first };
            prop_assert_eq!(record::decode::<Progress>(progress.encode(), VERSION).unwrap(), progress);
        }
    }
}
