//! The secret that the nodes of a cluster share.

use std::fmt;

/// Fewer bytes than this could be guessed.
const KEY_BYTES_MIN: usize = 16;

/// The cluster key. What crosses the network is proven with keys derived from it, never itself sent.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterKey([u8; 32]);

/// A cluster key that is too short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a cluster key has at least {KEY_BYTES_MIN} bytes")]
pub struct WeakKey;

impl ClusterKey {
    /// The key that an operator wrote, of any form, 16 bytes or more; white space around it does not
    /// count.
    pub fn new(secret: &str) -> Result<Self, WeakKey> {
        let secret = secret.trim();
        if secret.len() < KEY_BYTES_MIN {
            return Err(WeakKey);
        }
        Ok(Self(blake3::derive_key(
            "bifrust cluster key v1",
            secret.as_bytes(),
        )))
    }

    /// A key for one purpose. The context is a constant text that names it, used nowhere else.
    pub fn derive(&self, context: &'static str) -> [u8; 32] {
        blake3::derive_key(context, &self.0)
    }
}

impl fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterKey(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purposes_have_different_keys_and_nothing_is_shown() {
        let key = ClusterKey::new(" a key of sixteen or more \n").unwrap();
        assert_eq!(Ok(key.clone()), ClusterKey::new("a key of sixteen or more"));
        assert_ne!(key.derive("one"), key.derive("two"));
        assert_eq!(format!("{key:?}"), "ClusterKey(secret)");
        assert_eq!(ClusterKey::new("too short"), Err(WeakKey));
    }
}
