//! Tenants: a customer's closed world.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::Settings;

/// The tenant of clients that name none.
pub const DEFAULT_TENANT: &str = "default";

/// A tenant's name: `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`. Holding one proves the check was done.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantName(Arc<str>);

/// Why a text is no tenant name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no tenant name: 1 to 64 of A-Z a-z 0-9 . _ - are allowed, the first a letter or digit"
)]
pub struct TenantNameError(String);

impl TenantName {
    /// Checks `name`.
    pub fn new(name: &str) -> Result<Self, TenantNameError> {
        let mut bytes = name.bytes();
        let first_is_fine = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
        let rest_is_fine =
            bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if first_is_fine && rest_is_fine && name.len() <= 64 {
            Ok(Self(name.into()))
        } else {
            Err(TenantNameError(name.chars().take(80).collect()))
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TenantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// A tenant's number: given by the registry at first sight, never reused; the head of every key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantNumber(pub u64);

impl TenantNumber {
    /// The first eight bytes of every key of this tenant.
    pub fn key(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }
}

/// A tenant as the running node knows it: looked up once per connection, then shared.
#[derive(Debug)]
pub struct Tenant {
    /// Its number.
    pub number: TenantNumber,
    /// Its name.
    pub name: TenantName,
    /// Its settings in force; a change swaps the snapshot.
    pub settings: ArcSwap<Settings>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_pattern() {
        for good in ["a", "A9", "acme.eu-west_1", &"x".repeat(64)] {
            assert_eq!(TenantName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", ".a", "-", "a/b", "a b", "ä", "a\0", &"x".repeat(65)] {
            assert!(TenantName::new(bad).is_err(), "{bad:?}");
        }
    }
}
