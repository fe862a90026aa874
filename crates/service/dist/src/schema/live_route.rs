//! The value of a live route: the connection shards of the node that have sessions for the filter.
//!
//! Each shard stands with the stamp of the command that put it there, so that a command which comes
//! again late is told from a new one.

use bifrust_model::Hlc;
use bifrust_model::record::{self, RecordError};
use bytes::Bytes;
use smallvec::SmallVec;

const VERSION: u8 = 1;

/// Shards that a mask can tell apart.
pub(crate) const SHARDS_MAX: u16 = 64;

/// Shards, each once, with the stamp of the command that put them there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LiveRoute(SmallVec<[(u16, Hlc); 2]>);

#[derive(Clone, PartialEq, prost::Message)]
struct Record {
    #[prost(uint32, repeated, tag = "1")]
    shards: Vec<u32>,
    #[prost(fixed64, repeated, tag = "2")]
    stamps: Vec<u64>,
}

impl LiveRoute {
    /// Adds a shard; whether that changed anything.
    pub(crate) fn set(&mut self, shard: u16, stamp: Hlc) -> bool {
        match self.0.iter_mut().find(|(known, _)| *known == shard) {
            None => self.0.push((shard, stamp)),
            Some((_, known)) if *known < stamp => *known = stamp,
            Some(_) => return false,
        }
        true
    }

    /// Takes a shard off unless it was put there later; whether that changed anything.
    pub(crate) fn clear(&mut self, shard: u16, stamp: Hlc) -> bool {
        let before = self.0.len();
        self.0
            .retain(|(known, since)| *known != shard || *since > stamp);
        self.0.len() < before
    }

    /// Whether no shard is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bit `n`: shard `n`.
    pub(crate) fn mask(&self) -> u64 {
        let bits = self.0.iter().map(|(shard, _)| 1u64 << (shard % SHARDS_MAX));
        bits.fold(0, |mask, bit| mask | bit)
    }

    /// The latest stamp in it.
    pub(crate) fn latest(&self) -> Hlc {
        let stamps = self.0.iter().map(|(_, stamp)| *stamp);
        stamps.max().unwrap_or_default()
    }

    pub(crate) fn encode(&self) -> Bytes {
        let record = Record {
            shards: self.0.iter().map(|(shard, _)| u32::from(*shard)).collect(),
            stamps: self.0.iter().map(|(_, stamp)| stamp.0).collect(),
        };
        record::encode(VERSION, &record)
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<Self, RecordError> {
        let record: Record = record::decode(bytes, VERSION)?;
        if record.shards.len() != record.stamps.len() {
            return Err(RecordError::Invalid("shards without stamps"));
        }
        let mut route = Self::default();
        for (shard, stamp) in record.shards.into_iter().zip(record.stamps) {
            let shard = u16::try_from(shard).ok().filter(|n| *n < SHARDS_MAX);
            route.set(shard.ok_or(RecordError::Invalid("shard"))?, Hlc(stamp));
        }
        Ok(route)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_late_command_does_not_undo_a_newer_one() {
        let mut route = LiveRoute::default();
        assert!(route.set(3, Hlc(10)));
        assert!(!route.set(3, Hlc(10)));
        assert!(route.set(3, Hlc(30)));
        assert!(!route.clear(3, Hlc(20)));
        assert!(!route.set(3, Hlc(10)));
        assert_eq!(route.mask(), 8);
        assert!(route.clear(3, Hlc(40)));
        assert!(!route.clear(3, Hlc(40)));
        assert!(route.is_empty());
    }

    proptest! {
        #[test]
        fn values_read_back(shards in prop::collection::vec((0..SHARDS_MAX, any::<u64>()), 0..8)) {
            let mut route = LiveRoute::default();
            for (shard, stamp) in &shards {
                route.set(*shard, Hlc(*stamp));
                prop_assert!(route.mask() & 1 << shard != 0);
                prop_assert!(route.latest() >= Hlc(*stamp));
            }
            prop_assert_eq!(LiveRoute::decode(route.encode()).unwrap(), route);
        }

        #[test]
        fn any_bytes_are_a_value_or_an_error(bytes in any::<Vec<u8>>()) {
            let _ = LiveRoute::decode(bytes.into());
        }
    }
}
