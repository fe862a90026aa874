//! Who is online where: at most one connection per session (contract C4).
//!
//! ```text
//! new connection --claim--> Dict --kick--> connection that owns the session now
//!                            ^                          |
//!      Granted <-------------+---------release----------+
//! ```
//!
//! A claim of a free session is granted at once. A claim of an owned one kicks the owner and waits
//! for its release. The claim that the owner was kicked for comes next, whoever else comes; behind it
//! one more waits, the newest, so per session there is one owner and at most two claimants. Whoever shows another user name than the owner is refused and
//! disturbs nobody.
//!
//! What it never does: touch a disk, wait for anything, call out while it holds a lock, or know what
//! a session contains.

mod connection;
mod dict;

pub use connection::{ConnectionRef, Connections};
pub use dict::{Claim, Dict, Then};
