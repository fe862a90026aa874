//! A whole server on loopback, over stores in memory, driven by raw packets.

mod harness;
mod persistent;
mod protocol;
mod retained;
mod transient;
mod websocket;
