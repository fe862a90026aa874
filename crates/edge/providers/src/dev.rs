//! Development mode: everybody may do everything, in the tenant they name.

use std::sync::Arc;

use bifrust_model::{ClientInfo, TenantName};
use bifrust_plugin_api::{Access, Action, Answer, Auth, AuthAnswer, AuthRequest, Granted, Refusal};

/// Lets every client in. A user name `TENANT/USER` chooses the tenant; one with a `/` behind what is no
/// tenant is refused. Any other client, also one without a user name, is in tenant `dev`. For
/// loopback only.
#[derive(Debug)]
pub struct DevAuth {
    tenant: TenantName,
}

impl Default for DevAuth {
    fn default() -> Self {
        Self {
            tenant: TenantName::new("dev").expect("the literal follows the pattern"),
        }
    }
}

impl DevAuth {
    fn grant(&self, request: &AuthRequest) -> Result<Granted, Refusal> {
        let name = request.credentials.user_name.as_deref().unwrap_or_default();
        let (tenant, user) = match (&request.listener_tenant, name.split_once('/')) {
            (Some(tenant), _) => (tenant.clone(), name),
            (None, Some((tenant, user))) => {
                let tenant = TenantName::new(tenant).map_err(|_| Refusal::BadUserOrPassword)?;
                (tenant, user)
            }
            (None, None) => (self.tenant.clone(), name),
        };
        Ok(Granted {
            tenant,
            user: (!user.is_empty()).then(|| user.into()),
        })
    }
}

impl Auth for DevAuth {
    fn authenticate(&self, request: AuthRequest) -> Answer<AuthAnswer> {
        Answer::Now(Ok(self.grant(&request)))
    }

    fn access(&self, _client: &Arc<ClientInfo>, _action: Action<'_>) -> Answer<Access> {
        Answer::Now(Ok(true))
    }

    fn version(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use bifrust_model::Protocol;
    use bifrust_plugin_api::Credentials;

    use super::*;

    fn granted(user_name: Option<&str>) -> Result<(String, Option<String>), Refusal> {
        let request = AuthRequest {
            credentials: Credentials {
                user_name: user_name.map(str::to_owned),
                password: None,
            },
            client_id: "c".to_owned(),
            peer: ([127, 0, 0, 1], 1).into(),
            protocol: Protocol::V5,
            listener_tenant: None,
            tls: None,
            methods: Vec::new(),
        };
        let granted = DevAuth::default().grant(&request)?;
        let user = granted.user.map(|user| user.to_string());
        Ok((granted.tenant.to_string(), user))
    }

    #[test]
    fn a_name_may_choose_the_tenant() {
        let named =
            |tenant: &str, user: Option<&str>| Ok((tenant.to_owned(), user.map(str::to_owned)));
        assert_eq!(granted(None), named("dev", None));
        assert_eq!(granted(Some("bob")), named("dev", Some("bob")));
        assert_eq!(granted(Some("acme/bob")), named("acme", Some("bob")));
        for none in ["a b/bob", "/bob", "-/bob"] {
            assert_eq!(granted(Some(none)), Err(Refusal::BadUserOrPassword));
        }
    }
}
