//! Connections that this node makes: when something waits for one, with rests between failures.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::net::TcpStream;

use super::Shared;
use super::connection::{Connection, meanwhile};
use crate::error::CallError;
use crate::event::Event;
use crate::hello::{Peer, Reason, Refusal, Role};
use crate::rpc::{Inner, PeerLinks};

/// Keeps one link to a peer until it is closed.
pub(crate) async fn dial(inner: Arc<Inner>, peer: Arc<PeerLinks>, shared: Arc<Shared>) {
    let node = peer.node;
    let mut failures = 0;
    loop {
        let is_wanted = meanwhile(&shared, &inner.around, node, wanted(&shared)).await;
        if !is_wanted {
            break;
        }
        let made = connect(&inner, &peer);
        let made = meanwhile(&shared, &inner.around, node, made).await;
        match made {
            Ok((connection, found)) => {
                failures = 0;
                serve(&inner, &peer, &shared, connection, &found).await;
            }
            Err(refusal) => {
                inner.refused(peer.address(), &refusal);
                let rest = rest(&inner, failures);
                failures += 1;
                shared.fail(&inner, node, rest);
                meanwhile(&shared, &inner.around, node, tokio::time::sleep(rest)).await;
            }
        }
    }
    shared.fail(&inner, node, Duration::ZERO);
}

/// Whether a connection is wanted: false once the link is closed.
async fn wanted(shared: &Shared) -> bool {
    poll_fn(|context| {
        shared.within(|core| {
            if core.is_closing {
                return Poll::Ready(false);
            }
            if core.link.has_waiting() {
                return Poll::Ready(true);
            }
            core.sleep(context.waker());
            Poll::Pending
        })
    })
    .await
}

async fn connect(inner: &Inner, peer: &PeerLinks) -> Result<(Connection, Peer), Refusal> {
    let address = peer.address();
    let made = async {
        let stream = TcpStream::connect(address).await;
        let stream = stream.map_err(|error| {
            Refusal::own(
                Reason::Timeout,
                format!("no connection to {address}: {error}"),
            )
        })?;
        let _ = stream.set_nodelay(true); // slower without it, not wrong
        let tls = inner.tls_for(address).map(|tls| tls.dial()).transpose();
        let tls = tls.map_err(|error| Refusal::own(Reason::Tls, error.to_string()))?;
        let mut connection = Connection::new(stream, tls);
        let role = Role::Dialler(Some(peer.node));
        match connection.shake(role, inner.identity()).await {
            Ok(found) => Ok((connection, found)),
            Err(refusal) => {
                connection.close().await;
                Err(refusal)
            }
        }
    };
    let timeout = inner.config.hello_timeout;
    match tokio::time::timeout(timeout, made).await {
        Ok(made) => made,
        Err(_) => Err(Refusal::own(
            Reason::Timeout,
            format!("{address} did not answer in time"),
        )),
    }
}

async fn serve(
    inner: &Arc<Inner>,
    peer: &PeerLinks,
    shared: &Arc<Shared>,
    mut connection: Connection,
    found: &Peer,
) {
    let (node, address) = (found.node, peer.address());
    inner.around.metrics.dialled.add(1);
    inner.observe(&Event::Connected {
        node,
        address,
        is_dialled: true,
    });
    let mut effects = Vec::new();
    let now_ms = shared.clock.now_ms();
    shared.within(|core| core.link.connect(now_ms, &found.limits, &mut effects));
    inner
        .around
        .perform(shared, node, &mut effects, &mut [0; 3]);
    let ended = connection.serve(shared, &inner.around, node).await;
    shared.end(inner, node);
    inner.around.metrics.dialled.add(-1);
    inner.ended(node, address, &ended);
    connection.close().await;
}

/// Twice as long after each failure, and a random part of it, so that nodes do not come all at once.
fn rest(inner: &Inner, failures: u32) -> Duration {
    let config = &inner.config;
    let longest = config.rest_min.saturating_mul(1 << failures.min(16));
    let longest = longest.min(config.rest_max);
    longest.mul_f64(fastrand::f64().mul_add(0.5, 0.5))
}

impl Shared {
    /// The connection has ended.
    pub(super) fn end(self: &Arc<Self>, inner: &Inner, node: bifrust_cluster::NodeRef) {
        let mut effects = Vec::new();
        self.within(|core| core.link.disconnect(&mut effects));
        inner.around.perform(self, node, &mut effects, &mut [0; 3]);
    }

    /// No connection can be had: what waits fails, and what comes during the rest.
    fn fail(self: &Arc<Self>, inner: &Inner, node: bifrust_cluster::NodeRef, rest: Duration) {
        let mut effects = Vec::new();
        let until = self.clock.now_ms() + u64::try_from(rest.as_millis()).unwrap_or(u64::MAX);
        self.within(|core| {
            core.rests_until_ms = until;
            core.link
                .refuse_waiting(&CallError::Unreachable, &mut effects);
        });
        inner.around.perform(self, node, &mut effects, &mut [0; 3]);
    }
}
