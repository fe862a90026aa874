//! Whether this node may serve.

/// The lease of this node's incarnation. Without it the node stops matching, acknowledging and
/// delivering.
pub trait NodeLease: Send + Sync {
    /// Whether it is held now.
    fn is_held(&self) -> bool;
}

/// The lease of a node that is alone: nobody could take its place.
#[derive(Clone, Copy, Debug, Default)]
pub struct AlwaysHeld;

impl NodeLease for AlwaysHeld {
    fn is_held(&self) -> bool {
        true
    }
}
