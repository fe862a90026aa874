//! MQTT 3.1.1.

pub mod connack;
pub mod connect;
pub mod format;
pub mod operation;
pub mod publish;
pub mod session;
pub mod subscribe;
pub mod topics;

use crate::Row;

/// All rows, by file.
pub const FILES: &[(&str, &[Row])] = &[
    ("format", format::ROWS),
    ("connect", connect::ROWS),
    ("connack", connack::ROWS),
    ("session", session::ROWS),
    ("publish", publish::ROWS),
    ("subscribe", subscribe::ROWS),
    ("operation", operation::ROWS),
    ("topics", topics::ROWS),
];

/// All rows.
pub fn rows() -> Vec<Row> {
    crate::suite::rows_of(FILES)
}
