//! Users with passwords, from a users file.
//!
//! The table of users is a snapshot that the watcher swaps when the file changes. A password that
//! was found right is remembered as a keyed hash with its user, for as long as the user's stored
//! hash stays the same; the key is drawn at each start and never leaves memory. All other
//! passwords wait in a bounded queue for a few threads that hash. An unknown user costs the same.

mod enhanced;
mod pool;
mod table;
mod watch;

#[cfg(test)]
pub(crate) mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use argon2::password_hash::PasswordHasher as _;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params};
use bifrust_model::ClientInfo;
use bifrust_plugin_api::{
    Access, Action, Answer, Auth, AuthAnswer, AuthError, AuthMethod, AuthRequest, ExchangeAnswer,
    ExchangeRequest, Granted, Refusal,
};

use self::pool::{Job, Pool};
use self::table::Table;
use self::watch::Watch;
use crate::tenant_of::tenant_of;
use crate::user_file::{UserFile, UserFileError};

/// Memory that one check may take, in KiB: what a hash in the users file may ask for.
const MEMORY_KIB_MAX: u32 = 1 << 20;
/// Whom clients count as that show nothing, where that is enough.
const ANONYMOUS: &str = "anonymous";
const REFUSED: AuthAnswer = Ok(Err(Refusal::BadUserOrPassword));
/// Passes that one check may take.
const PASSES_MAX: u32 = 100;

/// How passwords are checked.
#[derive(Clone, Debug)]
pub struct PasswordConfig {
    /// The users file. It need not exist.
    pub file: PathBuf,
    /// Threads that hash. More make a cold reconnect storm shorter and take more CPU from the
    /// connections. At least 1.
    pub threads: usize,
    /// Checks that may wait; beyond it clients are refused as busy.
    pub queue_max: usize,
}

/// [`Auth`] by a users file.
#[derive(Debug)]
pub struct PasswordAuth {
    shared: Arc<Shared>,
    pool: Pool,
    watch: Watch,
}

#[derive(Debug)]
struct Shared {
    file: UserFile,
    table: ArcSwap<Table>,
    version: AtomicU64,
    cache_key: [u8; 32],
}

impl PasswordAuth {
    /// Reads the users, starts the threads. A broken file is an error here; later it only keeps
    /// the last good users in force.
    pub fn open(config: &PasswordConfig) -> Result<Self, UserFileError> {
        let file = UserFile::new(&config.file);
        let mut cache_key = [0; 32];
        getrandom::fill(&mut cache_key).map_err(|error| UserFileError::Io {
            path: config.file.clone(),
            cause: std::io::Error::other(error.to_string()),
        })?;
        // The stamp is taken first: an edit in between is read twice rather than missed.
        let stamp = watch::stamp(file.path());
        let table = Table::new(&file.read()?, None);
        let shared = Arc::new(Shared {
            file,
            table: ArcSwap::from_pointee(table),
            version: AtomicU64::new(1),
            cache_key,
        });
        let io = |cause| UserFileError::Io {
            path: config.file.clone(),
            cause,
        };
        let pool = Pool::start(config.threads.max(1), config.queue_max).map_err(io)?;
        let watch = Watch::start(shared.clone(), stamp).map_err(io)?;
        Ok(Self {
            shared,
            pool,
            watch,
        })
    }

    /// Users known now.
    pub fn user_count(&self) -> usize {
        self.shared.table.load().len()
    }

    /// Checks that wait for a thread.
    pub fn waiting(&self) -> usize {
        self.pool.waiting()
    }

    /// Stops the threads and waits for them; whoever still waits is refused.
    pub fn stop(&self) {
        self.watch.stop();
        self.pool.stop();
    }

    /// The first way to prove oneself that the client tries decides.
    fn check(&self, request: AuthRequest) -> Answer<AuthAnswer> {
        let credentials = &request.credentials;
        for method in &request.methods {
            let name = match method {
                AuthMethod::Password if credentials.user_name.is_some() => {
                    return self.check_password(request);
                }
                AuthMethod::Certificate => request
                    .tls
                    .as_ref()
                    .and_then(|tls| tls.certificate.as_ref())
                    .and_then(|certificate| certificate.common_name.as_deref()),
                AuthMethod::Anonymous if credentials.user_name.is_none() => Some(ANONYMOUS),
                AuthMethod::Password | AuthMethod::Anonymous => None,
            };
            if let Some(name) = name {
                return Answer::Now(Ok(self.known(name, &request)));
            }
        }
        Answer::Now(REFUSED)
    }

    /// A user that need not show a password. It has to be in the file all the same, which says
    /// what it may do.
    fn known(&self, name: &str, request: &AuthRequest) -> Result<Granted, Refusal> {
        let named = tenant_of(name, request.listener_tenant.as_ref());
        let named = named.ok_or(Refusal::NotAuthorized)?;
        match self.shared.table.load().find(&named.tenant, named.user) {
            Some(_) => Ok(Granted {
                tenant: named.tenant,
                user: Some(named.user.into()),
            }),
            None => Err(Refusal::NotAuthorized),
        }
    }

    fn check_password(&self, request: AuthRequest) -> Answer<AuthAnswer> {
        let credentials = &request.credentials;
        let (Some(user_name), Some(password)) = (&credentials.user_name, &credentials.password)
        else {
            return Answer::Now(REFUSED);
        };
        let table = self.shared.table.load();
        let named = tenant_of(user_name, request.listener_tenant.as_ref());
        let found = named
            .as_ref()
            .and_then(|named| table.find(&named.tenant, named.user));
        let (Some(named), Some(account)) = (&named, found) else {
            // The same work as for a wrong password, in a lane of its own: names that nobody has
            // say nothing about a tenant.
            let job = Job::for_nobody(table.any_hash(), password.clone());
            return self.enqueue(job);
        };
        let granted = Granted {
            tenant: named.tenant.clone(),
            user: Some(named.user.into()),
        };
        let fingerprint = blake3::keyed_hash(&self.shared.cache_key, password);
        if account.is_verified(&fingerprint) {
            return Answer::Now(Ok(Ok(granted)));
        }
        self.enqueue(Job::new(
            account.clone(),
            password.clone(),
            fingerprint,
            granted,
        ))
    }

    fn enqueue(&self, job: Job) -> Answer<AuthAnswer> {
        match self.pool.submit(job) {
            Some(waiting) => Answer::Later(Box::pin(waiting)),
            None => Answer::Now(Err(AuthError::Busy)),
        }
    }
}

impl Drop for PasswordAuth {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Auth for PasswordAuth {
    fn authenticate(&self, request: AuthRequest) -> Answer<AuthAnswer> {
        self.check(request)
    }

    fn exchange(&self, request: ExchangeRequest) -> Answer<ExchangeAnswer> {
        if !request.connect.methods.contains(&AuthMethod::Password) {
            return Answer::Now(Ok(Err(Refusal::BadMethod)));
        }
        Answer::Now(self.shared.exchange(&request))
    }

    fn access(&self, client: &Arc<ClientInfo>, action: Action<'_>) -> Answer<Access> {
        let allowed = match action {
            // Whoever was allowed to subscribe may take it back.
            Action::Unsubscribe { .. } => true,
            action => {
                let table = self.shared.table.load();
                let account = client
                    .user
                    .as_deref()
                    .and_then(|user| table.find(&client.tenant, user));
                account.is_some_and(|account| account.allows(client, action))
            }
        };
        Answer::Now(Ok(allowed))
    }

    fn version(&self) -> u64 {
        self.shared.version.load(Ordering::Acquire)
    }
}

/// Hashes a password for the users file (argon2id, 19 MiB, 2 passes).
pub fn hash_password(password: &[u8]) -> Result<String, AuthError> {
    Argon2::default()
        .hash_password(password)
        .map(|hash| hash.to_string())
        .map_err(|error| AuthError::Failed(error.to_string()))
}

/// Whether this is a hash that a check can be made against at a bounded cost.
pub(crate) fn check_hash(text: &str) -> Result<PasswordHash, String> {
    let told = "the password must be a $argon2id$ hash, as `bifrust user add` makes it";
    let hash = PasswordHash::new(text).map_err(|error| format!("{told} ({error})"))?;
    if Algorithm::try_from(hash.algorithm.as_str()) != Ok(Algorithm::Argon2id) {
        return Err(told.to_owned());
    }
    let params = Params::try_from(&hash).map_err(|error| format!("{told} ({error})"))?;
    if params.m_cost() > MEMORY_KIB_MAX || params.t_cost() > PASSES_MAX {
        return Err(format!(
            "the password's hash asks for {} KiB and {} passes, up to {MEMORY_KIB_MAX} and \
             {PASSES_MAX} are served",
            params.m_cost(),
            params.t_cost()
        ));
    }
    if hash.salt.is_none() || hash.hash.is_none() {
        return Err(told.to_owned());
    }
    Ok(hash)
}
