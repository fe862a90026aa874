//! Built-in plugins: the password file, settings from the config, the event log, development mode.
//!
//! ```text
//! CONNECT -> password::PasswordAuth -> cached: Answer::Now
//!                                   -> else a bounded queue -> argon2id threads -> Answer::Later
//! users file <- `bifrust user` (user_file)    users file -> watcher thread -> table swapped
//! ```
//!
//! Nothing here runs on a connection shard for longer than a map look-up and one short hash. An
//! error refuses.

mod dev;
mod event_log;
#[doc(hidden)]
pub mod fuzz;
mod later;
mod password;
mod rules;
mod scram;
mod settings;
mod tenant_of;
mod user_file;

pub use dev::DevAuth;
pub use event_log::EventLog;
pub use password::{PasswordAuth, PasswordConfig, hash_password};
pub use rules::{AccessRule, AccessRuleError};
pub use scram::{ScramVerifier, VerifierError};
pub use settings::ConfigSettings;
pub use tenant_of::{TenantAndUser, tenant_of};
pub use user_file::{User, UserFile, UserFileError};
