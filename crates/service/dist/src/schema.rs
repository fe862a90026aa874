//! What rows and log entries look like. One file per record kind.
//!
//! Key of a route: tenant (8 bytes), filter levels, kind (plain, share, oshare), receiver.

pub(crate) mod command;
pub(crate) mod inbox_route;
pub(crate) mod live_route;
pub(crate) mod route_key;
