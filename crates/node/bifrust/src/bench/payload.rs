//! What a payload says of itself: who sent it, which of its messages it is, when.

use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};

/// Bytes that every payload carries.
pub(super) const BYTES_MIN: usize = 20;

/// The head of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Index of the publisher.
    pub(super) publisher: u32,
    /// Its messages are numbered from 0.
    pub(super) sequence: u64,
    /// Nanoseconds since the run began.
    pub(super) sent_ns: u64,
}

impl Stamp {
    /// A payload of `size` bytes that begins with this stamp.
    pub(super) fn payload(self, size: usize) -> Bytes {
        let mut bytes = BytesMut::with_capacity(size);
        bytes.put_u32(self.publisher);
        bytes.put_u64(self.sequence);
        bytes.put_u64(self.sent_ns);
        bytes.resize(size.max(BYTES_MIN), b'x');
        bytes.freeze()
    }

    /// The stamp of a payload that this program made.
    pub(super) fn of(payload: &[u8]) -> Option<Self> {
        let (publisher, rest) = payload.split_first_chunk::<4>()?;
        let (sequence, rest) = rest.split_first_chunk::<8>()?;
        let (sent_ns, _) = rest.split_first_chunk::<8>()?;
        Some(Self {
            publisher: u32::from_be_bytes(*publisher),
            sequence: u64::from_be_bytes(*sequence),
            sent_ns: u64::from_be_bytes(*sent_ns),
        })
    }

    /// How long it was under way.
    pub(super) fn age(self, start: Instant) -> Duration {
        start
            .elapsed()
            .saturating_sub(Duration::from_nanos(self.sent_ns))
    }
}

/// Nanoseconds since `start`.
pub(super) fn nanos_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_survives_its_payload() {
        let stamp = Stamp {
            publisher: 7,
            sequence: 1 << 40,
            sent_ns: 9,
        };
        let payload = stamp.payload(64);
        assert_eq!(payload.len(), 64);
        assert_eq!(Stamp::of(&payload), Some(stamp));
        assert_eq!(Stamp::of(&payload[..19]), None);
    }
}
