//! The bytes of a link: frames of a common head, fixed fields of their kind, a header and a payload.
//!
//! ```text
//! length u32 | kind u8 | flags u8 | fixed u8 | 0 u8 | id u64 | fixed fields | header | payload
//! ```
//!
//! All integers are little-endian. `length` counts what follows it. `fixed` is the length of the
//! fixed fields: a newer version adds fields at their end, which an older reader steps over. It
//! also steps over frames of a kind that it does not know and that says it may be left out.
//! `docs/protocol-rpc.md` has the tables.

#[cfg(test)]
mod page;
mod read;
#[cfg(test)]
mod tests;
mod write;

use bytes::Bytes;

pub use read::read;

/// The newest version of the frames that this code speaks.
pub const VERSION: u16 = 1;

/// Bytes of the head that every frame has, its length included.
pub const HEAD: usize = 16;

/// Payload that one frame carries at most; what is longer follows in parts, so that a long message
/// is never in the way of others.
pub const PAYLOAD_MAX: usize = 64 << 10;

/// Header that one message has at most.
pub const HEADER_MAX: usize = u16::MAX as usize;

/// Bytes of the longest frame, its length field included.
pub const FRAME_MAX: usize = HEAD + u8::MAX as usize + HEADER_MAX + PAYLOAD_MAX;

/// A kind with this bit may be stepped over by who does not know it.
pub const MAY_SKIP: u8 = 0x80;

pub(crate) const PRIORITY_BITS: u8 = 0b11;
pub(crate) const ANSWERING: u8 = 0b100;

/// Kinds of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A message that wants one answer.
    Request = 1,
    /// A message that wants none.
    OneWay = 2,
    /// A message that opens a stream.
    Open = 3,
    /// What a request led to.
    Answer = 4,
    /// More of a payload that did not fit into one frame.
    Part = 5,
    /// One item of a stream.
    Item = 6,
    /// The last of one side of a stream.
    End = 7,
    /// Nobody waits any more for a request's answer or a stream.
    Cancel = 8,
    /// The other side may send that much more.
    Credit = 9,
    /// Asks for a `Pong`.
    Ping = 10,
    /// The answer to `Ping`.
    Pong = 11,
    /// The sender takes no more requests and closes once the open ones are answered.
    Leave = 12,
}

impl Kind {
    /// All kinds, by number.
    pub const ALL: [Self; 12] = [
        Self::Request,
        Self::OneWay,
        Self::Open,
        Self::Answer,
        Self::Part,
        Self::Item,
        Self::End,
        Self::Cancel,
        Self::Credit,
        Self::Ping,
        Self::Pong,
        Self::Leave,
    ];

    fn of(number: u8) -> Option<Self> {
        let index = usize::from(number).checked_sub(1)?;
        Self::ALL.get(index).copied()
    }

    /// Bytes of the fixed fields in this version.
    pub const fn fixed(self) -> usize {
        match self {
            Self::Request | Self::OneWay | Self::Open => 22,
            Self::Answer => 8,
            Self::Item => 2,
            Self::End => 4,
            Self::Cancel => 2,
            Self::Credit => 4,
            Self::Part | Self::Ping | Self::Pong | Self::Leave => 0,
        }
    }
}

/// Which messages go first where several wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Priority {
    /// What keeps the cluster together: consensus, leases, membership.
    Consensus = 0,
    /// What clients wait for.
    #[default]
    Data = 1,
    /// What nobody waits for: copies of ranges.
    Bulk = 2,
}

impl Priority {
    /// All priorities, the first one first.
    pub const ALL: [Self; 3] = [Self::Consensus, Self::Data, Self::Bulk];

    /// Its place in [`ALL`](Self::ALL).
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// What a message is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// Number of the service, the same on all nodes.
    pub service: u16,
    /// Which of the service's instances on that node.
    pub instance: u32,
    /// What the service shall do.
    pub method: u16,
}

/// How a message starts an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// One answer is wanted.
    Request,
    /// No answer is wanted.
    OneWay,
    /// A stream is opened.
    Open,
}

impl Start {
    fn kind(self) -> Kind {
        match self {
            Self::Request => Kind::Request,
            Self::OneWay => Kind::OneWay,
            Self::Open => Kind::Open,
        }
    }
}

/// The first frame of a message to a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// What is wanted.
    pub start: Start,
    /// Chosen by the sender; not 0, but for one-way messages in one frame.
    pub id: u64,
    /// Which messages it goes before.
    pub priority: Priority,
    /// Where it goes.
    pub target: Target,
    /// Milliseconds until nobody waits for the answer; 0: no limit.
    pub timeout_ms: u32,
    /// Messages of one lane reach the service in the order they were sent; 0: no lane.
    pub lane: u32,
    /// Bytes of the whole payload; parts follow if it is more than fits into one frame, and all but
    /// the last are full.
    pub total: u32,
    /// For the service.
    pub header: Bytes,
    /// For the service, as it came.
    pub payload: Bytes,
}

/// The first frame of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// That of the request.
    pub id: u64,
    /// That of the request.
    pub priority: Priority,
    /// 0: done; else why not.
    pub status: u16,
    /// As in [`Call`].
    pub total: u32,
    /// From the service.
    pub header: Bytes,
    /// From the service, as it came.
    pub payload: Bytes,
}

/// Whose id a frame speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// The sender of the frame began the exchange.
    Asking,
    /// The receiver of the frame began the exchange.
    Answering,
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A message to a service.
    Call(Call),
    /// What a request led to.
    Answer(Answer),
    /// More of a message's payload.
    Part {
        /// That of the message.
        id: u64,
        /// `Asking` if the message is a [`Call`].
        side: Side,
        /// What follows.
        payload: Bytes,
    },
    /// One item of a stream.
    Item {
        /// That of the stream.
        id: u64,
        /// Who sends it.
        side: Side,
        /// For the other end.
        header: Bytes,
        /// For the other end, as it came.
        payload: Bytes,
    },
    /// The last of one side of a stream.
    End {
        /// That of the stream.
        id: u64,
        /// Who sends it.
        side: Side,
        /// 0: complete; else why not.
        status: u16,
        /// For the other end.
        header: Bytes,
    },
    /// Nobody waits any more.
    Cancel {
        /// That of the request or stream.
        id: u64,
        /// Who gives it up.
        side: Side,
        /// Why.
        status: u16,
    },
    /// More may be sent.
    Credit {
        /// That of a stream; 0: all other messages of `priority` and `side`.
        id: u64,
        /// Who gives it. Without a stream: `Asking` for answers, `Answering` for calls.
        side: Side,
        /// Which messages it is for.
        priority: Priority,
        /// Bytes of whole frames.
        bytes: u32,
    },
    /// Asks for a `Pong` with the same id.
    Ping {
        /// Any.
        id: u64,
    },
    /// The answer to a `Ping`.
    Pong {
        /// That of the `Ping`.
        id: u64,
    },
    /// The sender takes no more requests.
    Leave,
}

impl Frame {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Call(call) => call.start.kind(),
            Self::Answer(_) => Kind::Answer,
            Self::Part { .. } => Kind::Part,
            Self::Item { .. } => Kind::Item,
            Self::End { .. } => Kind::End,
            Self::Cancel { .. } => Kind::Cancel,
            Self::Credit { .. } => Kind::Credit,
            Self::Ping { .. } => Kind::Ping,
            Self::Pong { .. } => Kind::Pong,
            Self::Leave => Kind::Leave,
        }
    }

    /// Its payload, if its kind has one.
    pub fn payload(&self) -> Option<&Bytes> {
        match self {
            Self::Call(call) => Some(&call.payload),
            Self::Answer(answer) => Some(&answer.payload),
            Self::Part { payload, .. } | Self::Item { payload, .. } => Some(payload),
            _ => None,
        }
    }
}

/// What is wrong with a frame. The link ends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Shorter than its head or longer than any frame.
    #[error("a frame of {0} bytes")]
    Length(u32),
    /// A kind that is not known and not to be skipped.
    #[error("a frame of unknown kind {0}")]
    Kind(u8),
    /// A flag that the kind does not have, or the reserved byte.
    #[error("a reserved flag is set in a frame of kind {0}")]
    Flags(u8),
    /// A priority that is none.
    #[error("a priority that is none")]
    Priority,
    /// The fixed fields or the header do not fit.
    #[error("the fields of a frame of kind {0} do not fit into it")]
    Short(u8),
    /// Bytes behind the end of a frame that has no payload.
    #[error("bytes behind a frame of kind {0}")]
    Long(u8),
    /// More payload than one frame carries.
    #[error("{0} bytes of payload in one frame")]
    Payload(usize),
    /// A frame that parts follow, and has room for more.
    #[error("a frame of kind {0} that parts follow has room left")]
    Room(u8),
    /// More payload than the frame says there is.
    #[error("a payload of {0} bytes that is said to have {1}")]
    Total(usize, u32),
    /// An id that is 0 where it names something.
    #[error("a frame of kind {0} without an id")]
    Id(u8),
    /// A part, or credit, of nothing.
    #[error("a frame of kind {0} that brings nothing")]
    Empty(u8),
}
