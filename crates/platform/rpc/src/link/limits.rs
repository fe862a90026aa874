//! What one side of a link takes from the other, told in the hello.

use crate::frame::{Call, FRAME_MAX, HEAD, HEADER_MAX, Kind, PAYLOAD_MAX, Priority};

/// What one side of a link takes from the other at most. Whoever sends more loses the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of calls that are not done with, by priority; as much again of answers. One message has at
    /// most half of it, so that one can always go while the other half is being given back.
    pub windows: [u32; 3],
    /// Requests that are not answered.
    pub requests: u32,
    /// Streams that are open.
    pub streams: u32,
    /// Bytes of items that one stream holds in one direction.
    pub stream_window: u32,
}

/// Below it not even one full frame could go.
pub(crate) const WINDOW_MIN: u32 = 4 * (FRAME_MAX as u32);

impl Default for Limits {
    fn default() -> Self {
        Self {
            windows: [8 << 20, 36 << 20, 8 << 20],
            requests: 1024,
            streams: 64,
            stream_window: 1 << 20,
        }
    }
}

impl Limits {
    /// Whether every bound leaves room for work.
    pub fn are_usable(&self) -> bool {
        let windows = self.windows.iter().all(|window| *window >= WINDOW_MIN);
        windows && self.requests > 0 && self.streams > 0 && self.stream_window >= WINDOW_MIN
    }

    /// The lower of each bound.
    pub fn lower(&self, other: &Self) -> Self {
        let mut windows = self.windows;
        for (own, other) in windows.iter_mut().zip(other.windows) {
            *own = (*own).min(other);
        }
        Self {
            windows,
            requests: self.requests.min(other.requests),
            streams: self.streams.min(other.streams),
            stream_window: self.stream_window.min(other.stream_window),
        }
    }

    /// The most that one message of this priority may cost.
    pub fn message_max(&self, priority: Priority) -> u32 {
        self.windows[priority.index()] / 2
    }

    /// The most memory that a peer can make one link hold: windows of calls and answers, what
    /// streams hold in both directions, a read buffer, and what is kept of each open request. A
    /// message that is not copied keeps the read buffer it came in, which is at most
    /// `READ / COPY_MAX` times its size.
    pub fn memory_max(&self) -> u64 {
        let windows: u64 = self.windows.iter().map(|window| u64::from(*window)).sum();
        let streams = u64::from(self.streams) * u64::from(self.stream_window) * 2;
        let open = u64::from(self.requests) * REQUEST_OVERHEAD;
        (2 * windows + streams) * (READ / COPY_MAX) as u64 + open + (READ + FRAME_MAX) as u64
    }
}

/// Bytes of a read buffer.
pub(crate) const READ: usize = FRAME_MAX + (64 << 10);

/// Messages up to this size are copied out of the read buffer if they outlive the turn, so that they
/// do not keep all of it.
pub(crate) const COPY_MAX: usize = 48 << 10;

/// What is remembered of an open request, generously.
const REQUEST_OVERHEAD: u64 = 512;

impl Call {
    pub(super) fn cost(&self) -> u32 {
        cost(Kind::Request, self.header.len(), self.payload.len())
    }
}

/// What a message counts: its frames without the heads of further parts and without what a newer
/// version adds, so that both sides count the same.
pub(crate) fn cost(kind: Kind, header: usize, payload: usize) -> u32 {
    let bytes = HEAD + kind.fixed() + header + payload;
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// The most that one item of a stream costs.
pub(crate) const ITEM_COST_MAX: u32 = (HEAD + Kind::Item.fixed() + HEADER_MAX + PAYLOAD_MAX) as u32;
