//! Which QoS 2 publishes of one publisher a session has already taken.

use bifrust_model::record::{self, RecordError};
use bytes::Bytes;

const VERSION: u8 = 1;

/// Generations of one publisher session. What the publisher has released is below `floor` and
/// forgotten: it never comes again. What is left is bounded by what it may have unreleased, 65,535.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The publisher's session.
    session: u64,
    floor: u64,
    /// Generations taken, as runs `start..end` in order, apart from each other.
    runs: Vec<(u64, u64)>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Record {
    #[prost(uint64, tag = "1")]
    session: u64,
    #[prost(uint64, tag = "2")]
    floor: u64,
    /// Distances: from the floor to the first start, its end, the next start ...
    #[prost(uint64, repeated, tag = "3")]
    steps: Vec<u64>,
}

impl Seen {
    pub(crate) fn new(session: u64) -> Self {
        Self {
            session,
            ..Self::default()
        }
    }

    /// Whether nothing was taken yet.
    pub(crate) fn is_new(&self) -> bool {
        self.floor == 0 && self.runs.is_empty()
    }

    pub(crate) fn session(&self) -> u64 {
        self.session
    }

    /// Whether this generation was taken before.
    pub(crate) fn contains(&self, generation: u64) -> bool {
        if generation < self.floor {
            return true;
        }
        let after = self.runs.partition_point(|(start, _)| *start <= generation);
        after > 0 && generation < self.runs[after - 1].1
    }

    /// Takes note of a generation that was not taken before.
    pub(crate) fn note(&mut self, generation: u64) {
        if self.contains(generation) {
            return;
        }
        let at = self.runs.partition_point(|(start, _)| *start <= generation);
        let joins_left = at > 0 && self.runs[at - 1].1 == generation;
        let joins_right = self
            .runs
            .get(at)
            .is_some_and(|(start, _)| *start == generation + 1);
        match (joins_left, joins_right) {
            (true, true) => {
                let (_, end) = self.runs.remove(at);
                self.runs[at - 1].1 = end;
            }
            (true, false) => self.runs[at - 1].1 = generation + 1,
            (false, true) => self.runs[at].0 = generation,
            (false, false) => self.runs.insert(at, (generation, generation + 1)),
        }
    }

    /// The publisher has released everything below `floor`.
    pub(crate) fn raise_floor(&mut self, floor: u64) {
        if floor <= self.floor {
            return;
        }
        self.floor = floor;
        let gone = self.runs.partition_point(|(_, end)| *end <= floor);
        self.runs.drain(..gone);
        if let Some(first) = self.runs.first_mut() {
            first.0 = first.0.max(floor);
        }
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut last = self.floor;
        let edges = self.runs.iter().flat_map(|(start, end)| [*start, *end]);
        let steps = edges.map(|edge| edge - std::mem::replace(&mut last, edge));
        let record = Record {
            session: self.session,
            floor: self.floor,
            steps: steps.collect(),
        };
        record::encode(VERSION, &record)
    }

    pub(crate) fn decode(value: Bytes) -> Result<Self, RecordError> {
        let record: Record = record::decode(value, VERSION)?;
        if !record.steps.len().is_multiple_of(2) {
            return Err(RecordError::Invalid("runs"));
        }
        let mut last = record.floor;
        let mut step = |by: u64| -> Result<u64, RecordError> {
            last = last.checked_add(by).ok_or(RecordError::Invalid("runs"))?;
            Ok(last)
        };
        let mut runs = Vec::with_capacity(record.steps.len() / 2);
        for pair in record.steps.chunks_exact(2) {
            runs.push((step(pair[0])?, step(pair[1])?));
        }
        Ok(Self {
            session: record.session,
            floor: record.floor,
            runs,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set_with_a_floor(
            steps in proptest::collection::vec((1u64..60, proptest::option::weighted(0.2, 0u64..40)), 0..80),
        ) {
            let mut seen = Seen::new(9);
            let mut model = BTreeSet::new();
            let mut floor = 0;
            for (generation, raise) in steps {
                prop_assert_eq!(seen.contains(generation), generation < floor || model.contains(&generation));
                if generation >= floor {
                    seen.note(generation);
                    model.insert(generation);
                }
                if let Some(to) = raise {
                    seen.raise_floor(to);
                    floor = floor.max(to);
                }
                prop_assert!(seen.runs.windows(2).all(|pair| pair[0].1 < pair[1].0));
                prop_assert_eq!(Seen::decode(seen.encode()).unwrap(), seen.clone());
            }
            for generation in 0..70 {
                prop_assert_eq!(seen.contains(generation), generation < floor || model.contains(&generation));
            }
        }

        #[test]
        fn any_bytes_are_answered(bytes: Vec<u8>) {
            let _ = Seen::decode(bytes.into()); // no panic
        }
    }
}
