//! Connections that others make.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use super::Shared;
use super::connection::Connection;
use crate::event::Event;
use crate::hello::{Peer, Reason, Refusal, Role};
use crate::rpc::Inner;

/// A rest after the system could not give a connection, which is mostly for want of descriptors.
const REST: Duration = Duration::from_millis(100);

/// One of a bounded number of places.
struct Place(Arc<AtomicU32>);

impl Place {
    fn take(places: &Arc<AtomicU32>, max: u32) -> Option<Self> {
        let taken = places.fetch_add(1, Ordering::Relaxed);
        let place = Self(places.clone());
        (taken < max).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Takes connections until the task is ended.
pub(crate) async fn accept(inner: Arc<Inner>, listener: TcpListener) {
    let handshakes = Arc::new(AtomicU32::new(0));
    let links = Arc::new(AtomicU32::new(0));
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "no connection can be taken");
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        let Some(place) = Place::take(&handshakes, inner.config.handshakes_max.get()) else {
            // Not even a word for each: they may be very many.
            let text = "too many connections have not said who they are";
            inner.refused(address, &Refusal::own(Reason::Full, text));
            continue;
        };
        let served = serve(inner.clone(), stream, address, place, links.clone());
        inner.spawn(served);
    }
}

async fn serve(
    inner: Arc<Inner>,
    stream: TcpStream,
    address: SocketAddr,
    handshake: Place,
    links: Arc<AtomicU32>,
) {
    let tls = match inner.tls_for(address).map(|tls| tls.accept()).transpose() {
        Ok(tls) => tls,
        Err(error) => return inner.refused(address, &Refusal::own(Reason::Tls, error.to_string())),
    };
    let _ = stream.set_nodelay(true); // slower without it, not wrong
    let mut connection = Connection::new(stream, tls);
    let link = Place::take(&links, inner.config.accepted_max.get());
    let (timeout, identity) = (inner.config.hello_timeout, inner.identity());
    let shaken = async {
        match &link {
            Some(_) => connection.shake(Role::Listener, identity).await,
            None => {
                connection
                    .refuse_all("this node has as many links as it may")
                    .await
            }
        }
    };
    let shaken = tokio::time::timeout(timeout, shaken).await;
    drop(handshake);
    let refusal = match shaken {
        Ok(Ok(peer)) => return serve_link(&inner, connection, peer, address).await,
        Ok(Err(refusal)) => refusal,
        Err(_) => {
            let refusal = Refusal::own(Reason::Timeout, "the hello took too long");
            let said = connection.refuse(refusal.reason(), "the hello took too long");
            let _ = tokio::time::timeout(timeout, said).await;
            refusal
        }
    };
    inner.refused(address, &refusal);
    let _ = tokio::time::timeout(timeout, connection.close()).await;
}

async fn serve_link(
    inner: &Arc<Inner>,
    mut connection: Connection,
    peer: Peer,
    address: SocketAddr,
) {
    let shared = Shared::new(inner.clock, inner.config.bounds);
    let Some(key) = inner.admit(&shared) else {
        return; // this node stops
    };
    inner.around.metrics.accepted.add(1);
    inner.observe(&Event::Connected {
        node: peer.node,
        address,
        is_dialled: false,
    });
    let mut effects = Vec::new();
    let now_ms = shared.clock.now_ms();
    shared.within(|core| core.link.connect(now_ms, &peer.limits, &mut effects));
    let ended = connection.serve(&shared, &inner.around, peer.node).await;
    shared.end(inner, peer.node);
    inner.around.metrics.accepted.add(-1);
    inner.dismiss(key);
    inner.ended(peer.node, address, &ended);
    let _ = tokio::time::timeout(inner.config.hello_timeout, connection.close()).await;
}
