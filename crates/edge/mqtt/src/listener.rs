//! Sockets that listen: a thread for each, which does nothing but accept and hand over to the
//! emptiest shard.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bifrust_model::{Event, EventKind};
use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::error::StartError;
use crate::mailbox::{Arrival, Mail};
use crate::metrics::{Refused, refused_counter};
use crate::server::Edge;

/// Connections the system may hold for us before we accept them.
const BACKLOG: i32 = 4096;

/// How long to wait after an error that will not go away at once, such as no free file handle.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

pub(crate) fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    let listen = || -> io::Result<TcpListener> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        // Accepted sockets inherit it.
        socket.set_tcp_nodelay(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    listen().map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => StartError::AddressInUse(address),
        _ => StartError::Listen { address, source },
    })
}

/// A listener that accepts.
pub(crate) struct Acceptor {
    socket: Arc<TcpListener>,
    is_stopped: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Acceptor {
    pub(crate) fn start(edge: Arc<Edge>, socket: TcpListener, index: usize) -> io::Result<Self> {
        let socket = Arc::new(socket);
        let is_stopped = Arc::new(AtomicBool::new(false));
        let (listener, stopped) = (socket.clone(), is_stopped.clone());
        let thread = std::thread::Builder::new()
            .name(format!("mqtt-accept-{index}"))
            .spawn(move || accept_all(&edge, &listener, index, &stopped))?;
        Ok(Self {
            socket,
            is_stopped,
            thread,
        })
    }

    /// Ends it; who waits to be accepted is refused by the system.
    pub(crate) fn stop(self) -> JoinHandle<()> {
        self.is_stopped.store(true, Ordering::Relaxed);
        // Wakes the thread from its accept. If it fails, the socket is dead and the thread awake.
        let _ = SockRef::from(&*self.socket).shutdown(Shutdown::Both);
        self.thread
    }
}

fn accept_all(edge: &Edge, listener: &TcpListener, index: usize, is_stopped: &AtomicBool) {
    // The shards' event loops need sockets that do not block.
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    while !is_stopped.load(Ordering::Relaxed) {
        match acceptfrom_with(listener, flags) {
            Ok((socket, peer)) => {
                let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
                if let Some(peer) = peer {
                    hand_over(edge, socket.into(), peer, index);
                }
            }
            Err(error) if is_of_one_connection(error.kind()) => {}
            Err(_) if is_stopped.load(Ordering::Relaxed) => return,
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                std::thread::sleep(ACCEPT_PAUSE);
            }
        }
    }
}

fn is_of_one_connection(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

fn hand_over(edge: &Edge, stream: TcpStream, peer: SocketAddr, index: usize) {
    let listener = &edge.listeners[index];
    let proxies = &listener.proxies;
    if proxies.has_header && !proxies.trusted.iter().any(|n| n.contains(peer.ip())) {
        let event = EventKind::NotAuthorizedClient;
        return turn_away(
            edge,
            peer,
            Refused::UntrustedProxy,
            event,
            "no trusted proxy",
        );
    }
    if edge.per_listener[index].fetch_add(1, Ordering::Relaxed) >= listener.max_connections {
        edge.leave(index);
        let event = EventKind::ServerBusy;
        return turn_away(edge, peer, Refused::Full, event, "the listener is full");
    }
    let shard = edge.mailboxes.emptiest();
    edge.mailboxes.count_connections(shard, 1);
    let arrival = Arrival {
        stream,
        peer,
        listener: index,
    };
    edge.mailboxes.post(shard, Mail::Arrived(arrival));
}

fn turn_away(edge: &Edge, peer: SocketAddr, why: Refused, kind: EventKind, detail: &str) {
    let services = &edge.services;
    refused_counter(&*services.meters, why).add(1);
    services.events.emit(kind, || {
        let mut event = Event::new(kind, services.clock.stamp());
        event.peer = Some(peer);
        event.detail(detail)
    });
}
