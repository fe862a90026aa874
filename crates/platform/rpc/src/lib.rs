//! Links between nodes: requests, one-way messages and streams over few connections.
//!
//! ```text
//! bytes of a connection -> frame (strict, bounded) -> what a peer asks, answers or lets us send
//! ```
//!
//! What it never does: know what a message means, allocate what a peer only announces, or panic on
//! a peer's bytes.

pub mod error;
pub mod frame;
#[doc(hidden)]
pub mod fuzz;
pub mod hello;
pub mod link;
