//! Starting and stopping: listeners bound, an acceptor for each, a thread per shard.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bifrust_model::{ClientInfo, SessionKey};
use bifrust_plugin_api::{Counter, Meter};

use crate::barrier::Barrier;
use crate::config::{Config, Listener, ListenerKind};
use crate::error::StartError;
use crate::flapping::{Flapping, Takeover};
use crate::listener::{self, Acceptor};
use crate::mailbox::{Mail, Mailboxes};
use crate::services::Services;
use crate::shard;

/// A listener that is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// What is spoken there.
    pub kind: ListenerKind,
    /// Where, with the port that was given.
    pub address: SocketAddr,
}

/// Running listeners and shards. Dropping it without [`Server::stop`] stops nothing.
pub struct Server {
    addresses: Vec<Bound>,
    mailboxes: Arc<Mailboxes>,
    acceptors: Vec<Acceptor>,
    shards: Vec<JoinHandle<()>>,
}

/// What all shards and the acceptor share.
pub(crate) struct Edge {
    pub(crate) config: Config,
    pub(crate) services: Services,
    pub(crate) mailboxes: Arc<Mailboxes>,
    /// Retained copies on their way.
    pub(crate) copies: Barrier,
    pub(crate) listeners: Vec<Arc<Listener>>,
    /// Connections per listener.
    pub(crate) per_listener: Vec<AtomicUsize>,
    /// Sessions that were taken over lately, on whichever shard.
    flapping: Mutex<Flapping>,
    takeovers_flapping: Counter,
}

impl Edge {
    /// A session was taken over by another connection of its client.
    pub(crate) fn taken_over(&self, key: SessionKey, client: &ClientInfo) {
        let now_ms = self.services.clock.now_ms();
        let mut flapping = self.flapping.lock().unwrap_or_else(PoisonError::into_inner);
        let takeover = flapping.handle_takeover(key, now_ms);
        drop(flapping);
        if takeover != Takeover::Single {
            self.takeovers_flapping.add(1);
        }
        if let Takeover::Told { count, left_out } = takeover {
            tracing::warn!(
                tenant = client.tenant.as_str(),
                client = client.client.as_str(),
                peer = client.peer.map(tracing::field::display),
                takeovers = count,
                left_out,
                "a session is taken over again and again: do two devices use one client id?"
            );
        }
    }

    pub(crate) fn leave(&self, listener: usize) {
        if let Some(count) = self.per_listener.get(listener) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Binds all listeners and begins to serve.
pub fn start(
    config: Config,
    services: Services,
    mailboxes: Arc<Mailboxes>,
) -> Result<Server, StartError> {
    let mut sockets = Vec::new();
    let mut addresses = Vec::new();
    for listener in &config.listeners {
        if listener.kind.has_tls() && listener.tls.is_none() {
            return Err(StartError::NoCertificate(listener.address));
        }
        let socket = listener::bind(listener.address)?;
        addresses.push(Bound {
            kind: listener.kind,
            address: socket.local_addr()?,
        });
        sockets.push(socket);
    }
    let per_listener = sockets.iter().map(|_| AtomicUsize::new(0)).collect();
    let takeovers_flapping = services.meters.counter(Meter::new(
        "bifrust_takeovers_flapping",
        "Takeovers of sessions that were taken over at least three times within a minute.",
    ));
    let edge = Arc::new(Edge {
        listeners: config.listeners.iter().cloned().map(Arc::new).collect(),
        config,
        services,
        mailboxes: mailboxes.clone(),
        copies: Barrier::default(),
        per_listener,
        flapping: Mutex::default(),
        takeovers_flapping,
    });
    let mut shards = Vec::new();
    for id in 0..mailboxes.shards() {
        let runtime = event_loop()?;
        let edge = edge.clone();
        let run = move || shard::run(id, &edge, &runtime);
        shards.push(spawn(format!("mqtt-shard-{id}"), run)?);
    }
    let acceptors = sockets
        .into_iter()
        .enumerate()
        .map(|(index, socket)| Acceptor::start(edge.clone(), socket, index))
        .collect::<io::Result<_>>()?;
    Ok(Server {
        addresses,
        mailboxes,
        acceptors,
        shards,
    })
}

fn event_loop() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name).spawn(run)
}

impl Server {
    /// The bound listeners, in the order of the configuration.
    pub fn addresses(&self) -> &[Bound] {
        &self.addresses
    }

    /// Open connections.
    pub fn connections(&self) -> usize {
        self.mailboxes.connections()
    }

    /// Takes no more clients, tells those there are, detaches their sessions, and returns when
    /// all is done or `within` has passed.
    pub fn stop(self, within: Duration) {
        let deadline = Instant::now() + within;
        for acceptor in self.acceptors {
            join(acceptor.stop());
        }
        for shard in 0..self.mailboxes.shards() {
            self.mailboxes.post(shard, Mail::Stop { deadline });
        }
        for thread in self.shards {
            join(thread);
        }
    }
}

fn join(thread: JoinHandle<()>) {
    let name = thread.thread().name().unwrap_or_default().to_owned();
    if thread.join().is_err() {
        tracing::error!(thread = name, "thread ended with a panic");
    }
}
