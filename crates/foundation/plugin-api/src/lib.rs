//! What an operator may supply: authentication, permission, settings, quotas, event sinks,
//! balancing, meters.
//!
//! Types are owned and plain, so that HTTP or WebAssembly can carry them. A provider answers at
//! once or later; the caller bounds the time and treats an error as a refusal. Nothing here
//! performs I/O.

mod auth;
mod balance;
mod events;
mod exchange;
mod meters;
mod quota;
mod settings;

pub use auth::{
    Access, Action, Auth, AuthAnswer, AuthError, AuthMethod, AuthRequest, Credentials, Granted,
    PeerCertificate, PeerTls, Refusal,
};
pub use balance::{Balancer, NoRedirect, Redirect};
pub use events::{EventSet, EventSink, Events};
pub use exchange::{ExchangeAnswer, ExchangeRequest, Exchanged};
pub use meters::{BUCKET_BOUNDS, Counter, Gauge, Histogram, Meter, Meters, NoMeters};
pub use quota::{Quotas, Resource, Unlimited};
pub use settings::{DefaultSettings, SettingsSource};

use std::future::Future;
use std::pin::Pin;

/// An answer that comes later.
pub type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// An answer that is there, or one that comes later.
pub enum Answer<T> {
    /// Known without waiting: no allocation, no task.
    Now(T),
    /// Still being found out.
    Later(Later<T>),
}
