//! The users in force, as a snapshot.

use std::sync::{Arc, LazyLock, OnceLock};

use ahash::RandomState;
use argon2::password_hash::phc::PasswordHash;
use bifrust_model::{ClientInfo, TenantName};
use bifrust_plugin_api::Action;
use hashbrown::HashMap;

use crate::rules::AccessRule;
use crate::scram::ScramVerifier;
use crate::user_file::User;

/// What unknown users are checked against while there is no user at all. Nobody knows its password.
static NOBODY: LazyLock<PasswordHash> = LazyLock::new(|| {
    PasswordHash::new(
        "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5a25vd3NpdA$\
         AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    )
    .expect("the literal is a PHC string")
});

/// All users by tenant and name.
#[derive(Debug, Default)]
pub(super) struct Table {
    tenants: HashMap<TenantName, HashMap<Box<str>, Arc<Account>, RandomState>, RandomState>,
    any_hash: Option<PasswordHash>,
    len: usize,
}

/// One user.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) tenant: TenantName,
    pub(super) hash: PasswordHash,
    text: String,
    /// The keyed hash of the one password that was found right.
    verified: OnceLock<blake3::Hash>,
    /// `None`: no enhanced authentication for this user.
    pub(super) scram: Option<ScramVerifier>,
    publish: Option<Vec<AccessRule>>,
    subscribe: Option<Vec<AccessRule>>,
}

impl Table {
    /// A table of checked users. A user whose stored hash is as in `before` keeps its remembered
    /// password.
    pub(super) fn new(users: &[User], before: Option<&Self>) -> Self {
        let mut table = Self::default();
        for user in users {
            // The file was checked as it was read; what fails here is left out and so refused.
            let (Ok(tenant), Ok(hash)) = (
                TenantName::new(&user.tenant),
                super::check_hash(&user.password),
            ) else {
                continue;
            };
            let (Ok(publish), Ok(subscribe)) = (rules(&user.publish), rules(&user.subscribe))
            else {
                continue;
            };
            let Ok(scram) = user.scram.as_deref().map(str::parse).transpose() else {
                continue;
            };
            let verified = before
                .and_then(|before| before.find(&tenant, &user.name))
                .filter(|old| old.text == user.password)
                .map_or_else(OnceLock::new, |old| old.verified.clone());
            table.any_hash.get_or_insert_with(|| hash.clone());
            let account = Arc::new(Account {
                tenant: tenant.clone(),
                hash,
                text: user.password.clone(),
                verified,
                scram,
                publish,
                subscribe,
            });
            let names = table.tenants.entry(tenant).or_default();
            if names.insert(user.name.as_str().into(), account).is_none() {
                table.len += 1;
            }
        }
        table
    }

    pub(super) fn find(&self, tenant: &TenantName, user: &str) -> Option<&Arc<Account>> {
        self.tenants.get(tenant)?.get(user)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// A hash whose check costs what the check of a user costs.
    pub(super) fn any_hash(&self) -> PasswordHash {
        self.any_hash.as_ref().unwrap_or(&NOBODY).clone()
    }
}

fn rules(texts: &Option<Vec<String>>) -> Result<Option<Vec<AccessRule>>, ()> {
    texts
        .as_ref()
        .map(|texts| texts.iter().map(|text| text.parse()).collect())
        .transpose()
        .map_err(|_: crate::rules::AccessRuleError| ())
}

impl Account {
    /// Whether this password was found right before. Compared in constant time.
    pub(super) fn is_verified(&self, fingerprint: &blake3::Hash) -> bool {
        self.verified.get() == Some(fingerprint)
    }

    /// This password was found right.
    pub(super) fn set_verified(&self, fingerprint: blake3::Hash) {
        let _ = self.verified.set(fingerprint); // there already: only one password is right
    }

    /// Whether the user may do this.
    pub(super) fn allows(&self, client: &ClientInfo, action: Action<'_>) -> bool {
        match action {
            Action::Publish { topic, .. } => self
                .publish
                .as_ref()
                .is_none_or(|rules| rules.iter().any(|rule| rule.allows_topic(client, topic))),
            Action::Subscribe { filter, .. } => self
                .subscribe
                .as_ref()
                .is_none_or(|rules| rules.iter().any(|rule| rule.allows_filter(client, filter))),
            Action::Unsubscribe { .. } => true,
        }
    }
}
