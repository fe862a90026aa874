//! MQTT 3.1.1 and 5.0, statement by statement, against the real broker in raw bytes.
//!
//! ```text
//! data/*.txt     the statements of Appendix B, as numbers
//! v311, v5       rows: functions that show statements, named in the table above them
//! bytes, fields  packets written and taken apart by hand, apart from the broker's codec
//! peer           one connection of a row
//! suite          one broker, all rows at once, a tenant for each
//! catalogue      statements against rows -> docs/conformance.md
//! faults         planted faults, and the row that catches each
//! ```

pub mod bytes;
pub mod catalogue;
pub mod faults;
pub mod fields;
pub mod peer;
pub mod suite;
pub mod v311;
pub mod v5;

pub use peer::Peer;
pub use suite::{Row, Scene, Suite};
