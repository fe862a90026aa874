//! Whether the node serves clients.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// How far the node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Not yet serving.
    Starting,
    /// Serving.
    Ready,
    /// Not serving any more.
    Stopping,
}

/// Shared between the node, which says it, and the port, which tells it. Clones are one.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<AtomicU8>);

impl Health {
    /// Starting.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says how far the node is.
    pub fn set(&self, readiness: Readiness) {
        self.0.store(readiness as u8, Ordering::Release);
    }

    /// How far the node is.
    pub fn readiness(&self) -> Readiness {
        match self.0.load(Ordering::Acquire) {
            0 => Readiness::Starting,
            1 => Readiness::Ready,
            _ => Readiness::Stopping,
        }
    }
}
