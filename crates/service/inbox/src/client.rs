//! What others call.

mod attach;
mod deliver;
mod inbound;
mod queue;
mod subscribe;

use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};

use bifrust_dist::{Deliverer, Dist};
use bifrust_kv::{Ack, Client, Clock, ExecuteError, Node, Then};
use bifrust_model::{Durability, SessionKey, Tenant};
use bifrust_plugin_api::{Events, Meters};
use bifrust_registry::Registry;

use crate::gather::{Start, gather};
use crate::metrics::Metrics;
use crate::schema::Prefix;
use crate::server::{
    Chore, Chores, Hub, Mender, Online, Presence, Reporting, RouteEnd, Routes, Tenants, Timer,
    Turns,
};
use crate::store::{Bounds, Command, Reply, Store};
use crate::{Config, InboxError, Owner, WillSender};

/// Longest client id that a session can be kept for; the tenant's setting allows at most half.
const CLIENT_BYTES_MAX: usize = 16 * 1024;

/// Persistent sessions and wills; cheap to clone.
#[derive(Clone)]
pub struct Inbox {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client<Store>,
    hub: Arc<Hub>,
    mender: Mender,
    /// Sessions whose routes are to agree with their subscriptions before anyone is served.
    in_doubt: Mutex<Vec<RouteEnd>>,
    wills: Arc<OnceLock<Arc<dyn WillSender>>>,
    config: Config,
}

/// Why the inbox did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The range that holds them did not open.
    #[error("sessions: {0}")]
    Range(#[from] bifrust_kv::OpenError),
    /// The system refused a thread.
    #[error("sessions: a thread could not be started: {0}")]
    Thread(#[from] std::io::Error),
}

impl Inbox {
    /// Opens the sessions of this node. Nothing happens by itself before [`Self::start`].
    pub fn open(
        node: &Node,
        dist: Dist,
        registry: Registry,
        clock: Clock,
        events: Events,
        meters: &dyn Meters,
        config: Config,
    ) -> Result<Self, OpenError> {
        let (routes, tenants) = (Arc::new(dist), Arc::new(registry));
        let reporting = Reporting {
            events,
            metrics: Metrics::new(meters),
        };
        Self::open_with(node, routes, tenants, clock, reporting, config)
    }

    pub(crate) fn open_with(
        node: &Node,
        routes: Arc<dyn Routes>,
        tenants: Arc<dyn Tenants>,
        clock: Clock,
        reporting: Reporting,
        config: Config,
    ) -> Result<Self, OpenError> {
        let hub = Arc::new(Hub {
            online: Online::new(),
            presence: Presence::new(),
            timer: Timer::new(clock.clone(), &config),
            clock,
            reporting,
            tenants,
            owner: OnceLock::new(),
            node: OnceLock::new(),
        });
        let handler = hub.clone();
        let client = node.host(Store::within(config.heads_bytes_max), move |effects| {
            handler.handle(effects);
        })?;
        let counted = hub.presence.count(node.store().read());
        let in_doubt = counted.map_err(bifrust_kv::OpenError::from)?;
        let mender = Mender {
            client: client.clone(),
            routes,
            turns: Turns::default(),
        };
        let inner = Inner {
            client,
            hub,
            mender,
            in_doubt: Mutex::new(in_doubt),
            wills: Arc::default(),
            config,
        };
        let chores = Chores {
            hub: inner.hub.clone(),
            client: inner.client.clone(),
            mender: inner.mender.clone(),
            wills: inner.wills.clone(),
        };
        inner.hub.timer.spawn(move |chore| chores.begin(chore))?;
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Says where pushes and wills go. Only the first call counts.
    pub fn bind(&self, owner: Arc<dyn Owner>, wills: Arc<dyn WillSender>) {
        let _ = self.inner.hub.owner.set(owner);
        let _ = self.inner.wills.set(wills);
    }

    /// Settles what an earlier end of the process left in doubt of subscriptions, and waits for it;
    /// then counts the sessions of ended incarnations as just disconnected, and from now on lets
    /// expiry and wills run, for which it does not wait. To be called before clients are served.
    pub fn start(&self) {
        self.settle_routes();
        let timer = &self.inner.hub.timer;
        timer.add_now(Chore::Scan { after: None });
        timer.start();
    }

    /// Only sessions whose subscriptions were being changed are looked at.
    fn settle_routes(&self) {
        let mut in_doubt = {
            let mut waiting = (self.inner.in_doubt.lock()).unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *waiting)
        };
        while !in_doubt.is_empty() {
            let before = in_doubt.len();
            let (tell, told) = mpsc::channel();
            let mender = self.inner.mender.clone();
            let mend: Start<RouteEnd, Option<RouteEnd>> = Arc::new(move |end, done| {
                let left = end.clone();
                mender.mend(end, Box::new(move |agrees| done((!agrees).then_some(left))));
            });
            let ended = Box::new(move |left: Vec<Option<RouteEnd>>| {
                let _ = tell.send(left); // Waited for below.
            });
            gather(std::mem::take(&mut in_doubt), mend, ended);
            // An error: the store has stopped, which whoever asks it next will hear.
            in_doubt = told
                .recv()
                .unwrap_or_default()
                .into_iter()
                .flatten()
                .collect();
            if in_doubt.len() == before {
                break;
            }
        }
        if !in_doubt.is_empty() {
            let sessions = in_doubt.len();
            tracing::warn!(
                sessions,
                "subscriptions stay in doubt and are settled later"
            );
        }
        for end in in_doubt {
            let (session, incarnation) = (end.session(), end.incarnation);
            self.hub().timer.add_now(Chore::Route {
                session,
                incarnation,
            });
        }
    }

    /// Ends expiry and wills; the next start goes on where this one ended.
    pub fn stop(&self) {
        self.inner.hub.timer.stop();
    }

    /// Hands publications to persistent sessions.
    pub fn deliverer(&self) -> Arc<dyn Deliverer> {
        Arc::new(self.clone())
    }

    fn hub(&self) -> &Hub {
        &self.inner.hub
    }

    /// Proposes a durable command about one session.
    fn execute(
        &self,
        session: &SessionKey,
        command: Command,
        done: Then<Result<Reply, ExecuteError>>,
    ) {
        let key = Prefix::new(session);
        let (lane, key) = (session.tenant, key.as_bytes());
        (self.inner.client).execute(lane, key, command, Ack::Durable, done);
    }
}

/// What every refusing reply means to a caller.
fn refusal(reply: &Reply) -> InboxError {
    match reply {
        Reply::Fenced => InboxError::Fenced,
        Reply::OtherUser => InboxError::OtherUser,
        Reply::Refused => InboxError::Refused,
        _ => {
            tracing::error!(
                ?reply,
                "a command of the inbox was answered with another's reply"
            );
            InboxError::Unknown
        }
    }
}

/// The tenant's bounds of one session's queue.
fn bounds(tenant: &Tenant) -> Bounds {
    let settings = tenant.settings.load();
    Bounds {
        messages: settings.session_inbox_size,
        bytes: settings.session_inbox_bytes,
        queues_qos0: settings.qos0_offline_queue,
        drops_oldest_qos0: settings.qos0_drop_oldest,
    }
}

/// When a publisher hears of its message: on one node, memory is the quorum's memory.
fn acknowledged(durability: Durability) -> Ack {
    match durability {
        Durability::QuorumFsync => Ack::Durable,
        Durability::QuorumMemory | Durability::LeaderMemory => Ack::Applied,
    }
}

#[cfg(test)]
mod tests;
