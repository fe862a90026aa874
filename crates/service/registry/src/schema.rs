//! What rows and log entries look like. One file per record kind. Keys are a kind byte and a name.

pub(crate) mod command;
pub(crate) mod sequence;
pub(crate) mod tenant;

/// Kind bytes.
const TENANT: u8 = 1;
const SEQUENCE: u8 = 2;
