//! Where clients should go instead.

use bifrust_model::ClientInfo;

/// Another server to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// For good (0x9D) or for now (0x9C).
    pub is_permanent: bool,
    /// The Server Reference, if there is an address to name.
    pub reference: Option<String>,
}

impl Redirect {
    /// The Server Reference as it can be told: not empty, and no longer than its length field says.
    pub fn told_reference(&self) -> Option<&str> {
        let reference = self.reference.as_deref()?;
        (!reference.is_empty() && reference.len() <= usize::from(u16::MAX)).then_some(reference)
    }
}

/// Decides at CONNECT, from time to time after it, and when the server stops, whether a client is
/// sent elsewhere. Must not block.
pub trait Balancer: Send + Sync {
    /// Where this client should go, `None` to stay.
    fn redirect(&self, client: &ClientInfo) -> Option<Redirect>;
}

/// Everybody stays.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoRedirect;

impl Balancer for NoRedirect {
    fn redirect(&self, _client: &ClientInfo) -> Option<Redirect> {
        None
    }
}
