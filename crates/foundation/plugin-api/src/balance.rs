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

/// Decides at CONNECT whether a client is sent elsewhere.
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
