//! Services assembled by role, started and stopped in order.
//!
//! ```text
//! start: API port -> users, certificates -> data folder -> ranges -> registry, dist, retain, inbox
//!                 -> connection shards -> ready
//! stop:  not ready -> clients told and detached -> inbox timers -> ranges -> last sync -> users, API
//! ```
//!
//! Holds no rules of MQTT: it only knows who needs whom. Callbacks upwards (`Deliverer`s into dist,
//! owners into inbox, connections into session-dict) are bound here.

mod bridge;
mod certificates;
pub mod config;
mod error;
pub mod memory;
mod running;
mod start;

pub use certificates::{CertificateError, check_certificates};
pub use config::Config;
pub use error::StartError;
pub use running::RunningNode;
pub use start::start;
