//! The HTTP port: health and metrics.
//!
//! ```text
//! GET /          these paths
//! GET /healthz   the process lives           200
//! GET /readyz    clients are served          200, else 503 and why
//! GET /metrics   Prometheus text             meters, event counts, the process itself
//! ```
//!
//! It runs on a thread of its own, so that a scrape delays no client. It takes a bounded number of
//! connections, each for a bounded time, reads no request body and changes nothing.

mod health;
mod listener;
mod process;
mod registry;
mod server;
mod text;

pub use health::{Health, Readiness};
pub use registry::MeterRegistry;
pub use server::{Config, Server, StartError};
