//! Nodes that call each other over real sockets.

#![allow(clippy::unwrap_used)] // helpers of tests

mod calls;
mod failures;
mod harness;
mod hello;
mod streams;
