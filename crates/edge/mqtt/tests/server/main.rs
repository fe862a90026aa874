//! A whole server on loopback, over stores in memory, driven by raw packets.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod fairness;
mod harness;
mod leaving;
mod limits;
mod persistent;
mod protocol;
mod redirect;
mod retained;
mod transient;
mod websocket;
