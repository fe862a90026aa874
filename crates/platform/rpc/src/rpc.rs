//! A node's links to all others, and the services that it offers them.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bifrust_cluster::{ClusterId, NodeRef};
use bifrust_plugin_api::Meters;
use hashbrown::HashMap;
use slab::Slab;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::config::{Config, Encryption};
use crate::error::CallError;
use crate::event::{Event, Observer};
use crate::hello::{Identity, Refusal};
use crate::metrics::Metrics;
use crate::node::Node;
use crate::service::Service;
use crate::shell::{self, Clock, Shared, Surroundings};
use crate::tls::{Tls, TlsError};

/// What a node's links are made from.
pub struct Setup {
    /// How they behave. Its limits replace those of the identity.
    pub config: Config,
    /// Who this node is.
    pub identity: Identity,
    /// Where their numbers go.
    pub meters: Arc<dyn Meters>,
    /// Who is told what happens to them.
    pub observer: Arc<dyn Observer>,
    /// Where their tasks run.
    pub runtime: Handle,
}

/// Why a node can have no links.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The limits leave no room for a frame, or for nothing at all.
    #[error("the limits of links are too low")]
    Limits,
}

/// A node's links. Clones are the same ones.
#[derive(Clone)]
pub struct Rpc {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) around: Surroundings,
    pub(crate) own: NodeRef,
    identity: ArcSwap<Identity>,
    tls: Option<Tls>,
    observer: Arc<dyn Observer>,
    runtime: Handle,
    peers: Mutex<HashMap<NodeRef, Arc<PeerLinks>>>,
    accepted: Mutex<Slab<Arc<Shared>>>,
    tasks: Mutex<JoinSet<()>>,
    told: Mutex<Told>,
    is_stopping: AtomicBool,
}

/// Refusals that were told lately.
struct Told {
    since: Instant,
    refusals: HashMap<(std::net::IpAddr, crate::hello::Reason), ()>,
}

/// For so long, and so many, one refusal of an address is not told again.
const TOLD_AGAIN: Duration = Duration::from_secs(10);
const TOLD_MAX: usize = 256;

/// The links to one peer: one for consensus, the others for everything else.
pub(crate) struct PeerLinks {
    pub(crate) node: NodeRef,
    address: Mutex<SocketAddr>,
    pub(crate) links: Vec<Arc<Shared>>,
}

impl PeerLinks {
    pub(crate) fn address(&self) -> SocketAddr {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Rpc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rpc")
            .field("node", &self.inner.own)
            .finish_non_exhaustive()
    }
}

impl Rpc {
    /// Links of a node; none yet.
    pub fn new(setup: Setup) -> Result<Self, SetupError> {
        let Setup {
            config,
            mut identity,
            meters,
            observer,
            runtime,
        } = setup;
        if !config.bounds.limits.are_usable() || config.bounds.waiting_messages == 0 {
            return Err(SetupError::Limits);
        }
        identity.limits = config.bounds.limits;
        let tls = match config.encryption {
            Encryption::Never => None,
            _ => Some(Tls::new(config.certificates.as_ref())?),
        };
        let inner = Inner {
            clock: Clock::new(),
            around: Surroundings {
                services: ArcSwap::default(),
                metrics: Metrics::new(&*meters),
            },
            own: identity.node,
            identity: ArcSwap::from_pointee(identity),
            tls,
            observer,
            runtime,
            peers: Mutex::default(),
            accepted: Mutex::default(),
            tasks: Mutex::default(),
            told: Mutex::new(Told {
                since: Instant::now(),
                refusals: HashMap::new(),
            }),
            is_stopping: AtomicBool::new(false),
            config,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Takes links of others; the address, with the port that the system chose if none was given.
    pub async fn listen(&self, address: SocketAddr) -> io::Result<SocketAddr> {
        let runtime = self.inner.runtime.clone();
        let _guard = runtime.enter();
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        self.inner
            .spawn(shell::accept(self.inner.clone(), listener));
        Ok(address)
    }

    /// The node has a cluster now. Later hellos say so.
    pub fn set_cluster(&self, cluster: ClusterId) {
        self.inner.identity.rcu(|identity| {
            let mut identity = Identity::clone(identity);
            identity.cluster = Some(cluster);
            identity
        });
    }

    /// Offers a service to all nodes, this one among them. A later one takes the place of an earlier.
    pub fn register(&self, service: u16, instance: u32, server: Arc<dyn Service>) {
        self.inner.around.services.rcu(|services| {
            let mut services = HashMap::clone(services);
            services.insert((service, instance), server.clone());
            services
        });
    }

    /// Offers a service no more. What it was asked before it may still answer.
    pub fn unregister(&self, service: u16, instance: u32) {
        self.inner.around.services.rcu(|services| {
            let mut services = HashMap::clone(services);
            services.remove(&(service, instance));
            services
        });
    }

    /// This node, as one that can be called.
    pub fn here(&self) -> Node {
        Node::here(self.inner.clone())
    }

    /// A node that can be called; its links are made when they are needed. A new address is for the
    /// next connection. An error if there are links to as many peers as there may be.
    pub fn node(&self, node: NodeRef, address: SocketAddr) -> Result<Node, CallError> {
        if node == self.inner.own {
            return Ok(self.here());
        }
        let peer = self.inner.peer(node, address)?;
        Ok(Node::there(peer, self.inner.clock))
    }

    /// Closes all links to a node, once what is under way on them is through. Calls that wait fail.
    pub fn forget(&self, node: NodeRef) {
        let peer = self.inner.peers().remove(&node);
        for link in peer.iter().flat_map(|peer| &peer.links) {
            link.close();
        }
    }

    /// Closes all links, once what is under way on them is through, or when `within` is over.
    pub async fn stop(&self, within: Duration) {
        let inner = &self.inner;
        inner.is_stopping.store(true, Ordering::SeqCst);
        let peers = std::mem::take(&mut *inner.peers());
        for link in peers.values().flat_map(|peer| &peer.links) {
            link.close();
        }
        let until = tokio::time::Instant::now() + within;
        loop {
            let is_open = inner.close_accepted();
            let links = peers.values().flat_map(|peer| &peer.links);
            // The task of each link holds it too.
            let is_dialled = links.into_iter().any(|link| Arc::strong_count(link) > 1);
            if !(is_open || is_dialled) || tokio::time::Instant::now() >= until {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut tasks = std::mem::take(&mut *lock(&inner.tasks));
        tasks.shutdown().await;
    }
}

impl Inner {
    fn peers(&self) -> MutexGuard<'_, HashMap<NodeRef, Arc<PeerLinks>>> {
        lock(&self.peers)
    }

    fn peer(
        self: &Arc<Self>,
        node: NodeRef,
        address: SocketAddr,
    ) -> Result<Arc<PeerLinks>, CallError> {
        let mut peers = self.peers();
        if let Some(peer) = peers.get(&node) {
            *lock(&peer.address) = address;
            return Ok(peer.clone());
        }
        if self.is_stopping.load(Ordering::SeqCst) {
            return Err(CallError::Unreachable);
        }
        if peers.len() >= self.config.peers_max.get() as usize {
            return Err(CallError::Full);
        }
        let count = 1 + usize::from(self.config.data_links.get()).min(8);
        let link = |_| Shared::new(self.clock, self.config.bounds);
        let peer = Arc::new(PeerLinks {
            node,
            address: Mutex::new(address),
            links: (0..count).map(link).collect(),
        });
        peers.insert(node, peer.clone());
        drop(peers);
        for link in &peer.links {
            self.spawn(shell::dial(self.clone(), peer.clone(), link.clone()));
        }
        Ok(peer)
    }

    /// A task that ends with the node.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(task, &self.runtime);
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity::clone(&self.identity.load())
    }

    /// TLS for links to this address, if they are encrypted.
    pub(crate) fn tls_for(&self, address: SocketAddr) -> Option<&Tls> {
        let is_plain = match self.config.encryption {
            Encryption::Never => true,
            Encryption::Always => false,
            Encryption::BeyondLoopback => address.ip().to_canonical().is_loopback(),
        };
        self.tls.as_ref().filter(|_| !is_plain)
    }

    /// Remembers a link that another node has here; `None` if this node stops.
    pub(crate) fn admit(&self, shared: &Arc<Shared>) -> Option<usize> {
        if self.is_stopping.load(Ordering::SeqCst) {
            return None;
        }
        Some(lock(&self.accepted).insert(shared.clone()))
    }

    pub(crate) fn dismiss(&self, key: usize) {
        lock(&self.accepted).try_remove(key);
    }

    /// Closes what others have here; false once there is nothing.
    fn close_accepted(&self) -> bool {
        let accepted = lock(&self.accepted);
        accepted.iter().for_each(|(_, link)| link.close());
        !accepted.is_empty()
    }

    pub(crate) fn observe(&self, event: &Event) {
        self.observer.observe(event);
    }

    /// Counts a refusal, and tells it unless it was told lately.
    pub(crate) fn refused(&self, address: SocketAddr, refusal: &Refusal) {
        self.around.metrics.count(refusal);
        let mut told = lock(&self.told);
        if told.since.elapsed() >= TOLD_AGAIN {
            told.since = Instant::now();
            told.refusals.clear();
        }
        let key = (address.ip(), refusal.reason());
        if told.refusals.len() >= TOLD_MAX || told.refusals.insert(key, ()).is_some() {
            return;
        }
        drop(told);
        self.observe(&Event::Refused {
            address,
            refusal: refusal.clone(),
        });
    }

    pub(crate) fn ended(&self, node: NodeRef, address: SocketAddr, ended: &shell::Ended) {
        let why = match ended {
            shell::Ended::Closed => None,
            shell::Ended::Lost(error) => {
                self.around.metrics.lost.add(1);
                Some(error.to_string())
            }
            shell::Ended::Fault(error) => {
                self.around.metrics.faults.add(1);
                Some(error.to_string())
            }
        };
        self.observe(&Event::Ended { node, address, why });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
