//! Which tenant a connection belongs to.

use bifrust_model::{DEFAULT_TENANT, TenantName};

/// A user name taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantAndUser<'a> {
    /// The tenant.
    pub tenant: TenantName,
    /// The user's name within it.
    pub user: &'a str,
}

/// The listener's tenant, else `TENANT/USER` split at the first `/`, else `default`. `None` if what
/// stands before the `/` is no tenant name.
pub fn tenant_of<'a>(
    user_name: &'a str,
    listener_tenant: Option<&TenantName>,
) -> Option<TenantAndUser<'a>> {
    if let Some(tenant) = listener_tenant {
        return Some(TenantAndUser {
            tenant: tenant.clone(),
            user: user_name,
        });
    }
    let (tenant, user) = user_name
        .split_once('/')
        .unwrap_or((DEFAULT_TENANT, user_name));
    let tenant = TenantName::new(tenant).ok()?;
    Some(TenantAndUser { tenant, user })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(name: &str, listener: Option<&str>) -> Option<(String, String)> {
        let listener = listener.map(|name| TenantName::new(name).unwrap());
        tenant_of(name, listener.as_ref()).map(|t| (t.tenant.to_string(), t.user.to_owned()))
    }

    #[test]
    fn the_listener_decides_then_the_name_then_the_default() {
        let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(split("acme/bob", Some("fixed")), pair("fixed", "acme/bob"));
        assert_eq!(split("acme/bob", None), pair("acme", "bob"));
        assert_eq!(split("acme/bob/x", None), pair("acme", "bob/x"));
        assert_eq!(split("bob", None), pair("default", "bob"));
        assert_eq!(split("not a tenant/bob", None), None);
    }
}
