//! Development mode: everybody may do everything, in the tenant they name.

use std::sync::Arc;

use bifrust_model::{ClientInfo, TenantName};
use bifrust_plugin_api::{Access, Action, Answer, Auth, AuthAnswer, AuthRequest, Granted};

/// Lets every client in. A user name `TENANT/USER` chooses the tenant; any other client, also one
/// without a user name, is in tenant `dev`. For loopback only.
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
    fn grant(&self, request: &AuthRequest) -> Granted {
        let name = request.credentials.user_name.as_deref().unwrap_or_default();
        let chosen = name
            .split_once('/')
            .and_then(|(tenant, user)| Some((TenantName::new(tenant).ok()?, user)));
        let (tenant, user) = match (&request.listener_tenant, chosen) {
            (Some(tenant), _) => (tenant.clone(), name),
            (None, Some(chosen)) => chosen,
            (None, None) => (self.tenant.clone(), name),
        };
        Granted {
            tenant,
            user: (!user.is_empty()).then(|| user.into()),
        }
    }
}

impl Auth for DevAuth {
    fn authenticate(&self, request: AuthRequest) -> Answer<AuthAnswer> {
        Answer::Now(Ok(Ok(self.grant(&request))))
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

    fn granted(user_name: Option<&str>) -> (String, Option<String>) {
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
        let granted = DevAuth::default().grant(&request);
        (
            granted.tenant.to_string(),
            granted.user.map(|user| user.to_string()),
        )
    }

    #[test]
    fn a_name_may_choose_the_tenant() {
        let dev = "dev".to_owned();
        assert_eq!(granted(None), (dev.clone(), None));
        assert_eq!(granted(Some("bob")), (dev.clone(), Some("bob".into())));
        assert_eq!(
            granted(Some("acme/bob")),
            ("acme".into(), Some("bob".into()))
        );
        assert_eq!(granted(Some("a b/bob")), (dev, Some("a b/bob".into())));
    }
}
