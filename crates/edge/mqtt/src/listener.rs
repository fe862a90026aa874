//! Sockets that listen, and the acceptor that hands what comes in to the emptiest shard.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::error::StartError;
use crate::mailbox::{Arrival, Mail};
use crate::server::Edge;

/// Connections the system may hold for us before we accept them.
const BACKLOG: i32 = 4096;

/// How long to wait after an error that will not go away at once, such as no free file handle.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

pub(crate) fn bind(address: SocketAddr) -> Result<std::net::TcpListener, StartError> {
    let listen = || -> io::Result<std::net::TcpListener> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    listen().map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => StartError::AddressInUse(address),
        _ => StartError::Listen { address, source },
    })
}

/// Accepts on all listeners until told to stop.
pub(crate) async fn accept_all(
    edge: Arc<Edge>,
    sockets: Vec<std::net::TcpListener>,
    stopped: watch::Receiver<bool>,
) {
    let mut tasks = tokio::task::JoinSet::new();
    for (index, socket) in sockets.into_iter().enumerate() {
        match TcpListener::from_std(socket) {
            Ok(listener) => {
                tasks.spawn(accept(edge.clone(), listener, index, stopped.clone()));
            }
            Err(error) => tracing::error!(%error, "listener lost"),
        }
    }
    while tasks.join_next().await.is_some() {}
}

async fn accept(
    edge: Arc<Edge>,
    listener: TcpListener,
    index: usize,
    mut stopped: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => hand_over(&edge, stream, peer, index),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

fn hand_over(edge: &Edge, stream: tokio::net::TcpStream, peer: SocketAddr, index: usize) {
    let count = &edge.per_listener[index];
    let max = edge.config.listeners[index].max_connections;
    if count.fetch_add(1, Ordering::Relaxed) >= max {
        edge.leave(index);
        tracing::debug!(%peer, max, "listener is full");
        return;
    }
    let _ = stream.set_nodelay(true); // only costs latency if it fails
    let stream = match stream.into_std() {
        Ok(stream) => stream,
        Err(error) => {
            edge.leave(index);
            tracing::warn!(%error, "cannot hand a connection over");
            return;
        }
    };
    let shard = edge.mailboxes.emptiest();
    edge.mailboxes.count_connections(shard, 1);
    let arrival = Arrival {
        stream,
        peer,
        listener: index,
    };
    edge.mailboxes.post(shard, Mail::Arrived(arrival));
}
