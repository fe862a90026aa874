//! The last message of each topic.
//!
//! ```text
//! publisher --store--> range "retain": body row (tenant, topic levels -> message)
//!                             |         meta row (same key -> stamp, or "cleared")
//!                             v
//! subscriber --scan--> page by page: skip-scan over topics in level order
//! ```
//!
//! A message is kept if its stamp is newer than what is there; an older one is answered the same and
//! changes nothing. A clear leaves its stamp behind for a minute, so that an older publish that was on
//! its way cannot come back over it. Expired messages are never shown; they are removed when a scan meets
//! them, or by a sweep over the small rows, some thousands each second while there are any that expire.
//!
//! What it never does: keep messages in memory, decide who may see one, count down an expiry, or apply
//! `RetainMessageMatchLimit` (who scans does).

mod clears;
mod client;
mod error;
#[doc(hidden)]
pub mod fuzz;
mod page;
mod schema;
mod store;
mod sweeper;

pub use bifrust_kv::Then;
pub use client::Retain;
pub use error::{OpenError, RetainError};
pub use page::{Cursor, Page, PageLimit};

/// Where the rows are, for whoever opens the store.
pub fn keyspaces() -> &'static [bifrust_storage::Keyspace] {
    <store::Last as bifrust_kv::Coprocessor>::KEYSPACES
}
