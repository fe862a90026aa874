//! What a scan gives, piece by piece.

use bifrust_model::Message;
use bytes::Bytes;

/// How much one page may hold. A page holds at least one message if there is one, however large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageLimit {
    /// Messages.
    pub messages: usize,
    /// Bytes of topics, payloads and properties.
    pub bytes: usize,
}

/// Where a scan goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(pub(crate) Bytes);

/// A part of what a filter matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Messages that have not expired. There may be none although more follow.
    pub messages: Vec<Message>,
    /// Where to go on; `None`: that was all.
    pub next: Option<Cursor>,
}
