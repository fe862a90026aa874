//! The core with a socket, a clock and a disk: one task that does what the core says.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bifrust_model::{NodeId, NodeRef};
use bytes::Bytes;
use tokio::{
    net::UdpSocket,
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::Instant,
};

use crate::{
    ClusterId, Core, CoreConfig, Counters, Departure, Effect, Event, EvictError, Landscape,
    LandscapeWriter, LinkSender, RowError, RowKey, ServiceName, Status,
};

/// How many calls and link messages wait for the task; calls wait for room, messages are dropped.
const MAILBOX_MAX: usize = 1_024;

/// How many packets are taken before anything else has a turn.
const PACKETS_PER_TURN: usize = 64;

/// How often names of seeds are resolved anew.
const RESOLVE_EVERY: Duration = Duration::from_secs(10);

/// What the task needs of the node around it.
pub trait Surroundings: Send + Sync + 'static {
    /// Writes the cluster's id into the data folder, durably; runs on a thread that may wait.
    /// `founders` are the first nodes if this node has just formed the cluster.
    fn persist(&self, cluster: ClusterId, founders: &[NodeId]) -> io::Result<()>;

    /// Takes note of what happened; must not wait.
    fn told(&self, event: &Event);

    /// This start has ended: it left or was evicted. Must not wait.
    fn stopped(&self, how: Departure);
}

/// Why a call was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this node takes no part in the cluster any more")]
pub struct Gone;

enum Mail {
    Link(NodeRef, Bytes),
    LinkReset(NodeRef),
    PutRow(RowKey, Bytes, oneshot::Sender<Result<(), RowError>>),
    RemoveRow(RowKey, oneshot::Sender<()>),
    AnnounceAgent(
        ServiceName,
        u32,
        Bytes,
        oneshot::Sender<Result<(), RowError>>,
    ),
    LeaveAgent(ServiceName, u32, oneshot::Sender<()>),
    Addresses(SocketAddr, SocketAddr),
    Leave(oneshot::Sender<()>),
    Evict(NodeId, oneshot::Sender<Result<(), EvictError>>),
    Status(oneshot::Sender<(Status, Counters)>),
    Seeds(Vec<SocketAddr>),
    Persisted(ClusterId, io::Result<()>),
}

/// A node's part in its cluster; cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    mailbox: mpsc::Sender<Mail>,
    landscape: Landscape,
}

impl Cluster {
    /// Starts on a socket that is bound already. `seeds` are host names or addresses with ports, and
    /// are resolved now and then. The task ends when this node has left or was evicted, when the
    /// last handle is dropped, or with the error of a cluster id that could not be written.
    pub fn start(
        config: CoreConfig,
        socket: UdpSocket,
        seeds: Vec<String>,
        links: Arc<dyn LinkSender>,
        surroundings: Arc<dyn Surroundings>,
    ) -> (Self, JoinHandle<io::Result<()>>) {
        let (mailbox, mails) = mpsc::channel(MAILBOX_MAX);
        let (writer, landscape) = Landscape::new();
        let seed = seed_of(&config.secret);
        let shell = Shell {
            core: Core::new(config, Duration::ZERO, seed),
            socket,
            links,
            surroundings,
            writer,
            mailbox: mailbox.downgrade(),
            begun: Instant::now(),
            unsent: 0,
        };
        if !seeds.is_empty() {
            tokio::spawn(resolve(seeds, mailbox.downgrade()));
        }
        let task = tokio::spawn(shell.run(mails));
        (Self { mailbox, landscape }, task)
    }

    /// The hosts, agents and rows in sight.
    pub fn landscape(&self) -> &Landscape {
        &self.landscape
    }

    /// A message came over the link of a peer that the link's hello has proven. Dropped if too many
    /// wait: all that is told is told again.
    pub fn link_message(&self, from: NodeRef, message: Bytes) {
        let _ = self.mailbox.try_send(Mail::Link(from, message)); // as said above
    }

    /// The link to a peer broke, rather than being closed in order.
    pub fn link_reset(&self, peer: NodeRef) {
        let _ = self.mailbox.try_send(Mail::LinkReset(peer)); // probes find out as well
    }

    /// Writes a row of this host; `None` in the outer result if this node is gone.
    pub async fn put_row(&self, key: RowKey, value: Bytes) -> Result<Result<(), RowError>, Gone> {
        self.call(|done| Mail::PutRow(key, value, done)).await
    }

    /// Removes a row of this host.
    pub async fn remove_row(&self, key: RowKey) -> Result<(), Gone> {
        self.call(|done| Mail::RemoveRow(key, done)).await
    }

    /// Announces an instance of a service on this host, or tells something else about it.
    pub async fn announce_agent(
        &self,
        service: ServiceName,
        instance: u32,
        detail: Bytes,
    ) -> Result<Result<(), RowError>, Gone> {
        self.call(|done| Mail::AnnounceAgent(service, instance, detail, done))
            .await
    }

    /// An instance of a service on this host goes; the host and its other agents stay.
    pub async fn leave_agent(&self, service: ServiceName, instance: u32) -> Result<(), Gone> {
        self.call(|done| Mail::LeaveAgent(service, instance, done))
            .await
    }

    /// This node is reached at other addresses from now on.
    pub async fn set_addresses(&self, udp: SocketAddr, rpc: SocketAddr) -> Result<(), Gone> {
        let sent = self.mailbox.send(Mail::Addresses(udp, rpc)).await;
        sent.map_err(|_| Gone)
    }

    /// Leaves the cluster; the task ends.
    pub async fn leave(&self) -> Result<(), Gone> {
        self.call(Mail::Leave).await
    }

    /// Puts another node out of the cluster, in the start that is known.
    pub async fn evict(&self, node: NodeId) -> Result<Result<(), EvictError>, Gone> {
        self.call(|done| Mail::Evict(node, done)).await
    }

    /// How things stand.
    pub async fn status(&self) -> Result<(Status, Counters), Gone> {
        self.call(Mail::Status).await
    }

    async fn call<T>(&self, mail: impl FnOnce(oneshot::Sender<T>) -> Mail) -> Result<T, Gone> {
        let (done, answer) = oneshot::channel();
        self.mailbox.send(mail(done)).await.map_err(|_| Gone)?;
        answer.await.map_err(|_| Gone)
    }
}

struct Shell {
    core: Core,
    socket: UdpSocket,
    links: Arc<dyn LinkSender>,
    surroundings: Arc<dyn Surroundings>,
    writer: LandscapeWriter,
    mailbox: mpsc::WeakSender<Mail>,
    begun: Instant,
    unsent: u64,
}

impl Shell {
    async fn run(mut self, mut mails: mpsc::Receiver<Mail>) -> io::Result<()> {
        let mut effects = Vec::new();
        while let Some(due) = self.core.next_timeout() {
            tokio::select! {
                readable = self.socket.readable() => {
                    readable?;
                    self.take_packets(&mut effects).await;
                }
                mail = mails.recv() => match mail {
                    None => return Ok(()),
                    Some(mail) => self.take_mail(mail, &mut effects)?,
                },
                () = tokio::time::sleep_until(self.begun + due) => {
                    let now = self.now();
                    self.core.handle_timeout(now, &mut effects);
                }
            }
            self.perform(&mut effects);
        }
        Ok(())
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    async fn take_packets(&mut self, effects: &mut Vec<Effect>) {
        // One byte more than a packet may have tells one that is too long.
        let mut packet = [0; crate::packet::PACKET_BYTES_MAX + 1];
        for _ in 0..PACKETS_PER_TURN {
            match self.socket.try_recv_from(&mut packet) {
                Ok((len, from)) => {
                    let now = self.now();
                    self.core.handle_packet(now, from, &packet[..len], effects);
                }
                // Some systems report here that an earlier packet did not arrive.
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
        tokio::task::yield_now().await;
    }

    fn take_mail(&mut self, mail: Mail, effects: &mut Vec<Effect>) -> io::Result<()> {
        let now = self.now();
        let core = &mut self.core;
        // A caller that no longer waits does not matter.
        match mail {
            Mail::Link(from, message) => core.handle_link(now, from, &message, effects),
            Mail::LinkReset(peer) => core.handle_link_reset(now, peer, effects),
            Mail::PutRow(key, value, done) => {
                let _ = done.send(core.put_row(now, key, value, effects));
            }
            Mail::RemoveRow(key, done) => {
                core.remove_row(now, key, effects);
                let _ = done.send(());
            }
            Mail::AnnounceAgent(service, instance, detail, done) => {
                let result = core.announce_agent(now, &service, instance, detail, effects);
                let _ = done.send(result);
            }
            Mail::LeaveAgent(service, instance, done) => {
                core.leave_agent(now, &service, instance, effects);
                let _ = done.send(());
            }
            Mail::Addresses(udp, rpc) => core.handle_addresses(now, udp, rpc, effects),
            Mail::Leave(done) => {
                core.leave(now, effects);
                let _ = done.send(());
            }
            Mail::Evict(node, done) => {
                let _ = done.send(core.evict(now, node, effects));
            }
            Mail::Status(done) => {
                let mut counters = core.counters();
                counters.packets_unsent = self.unsent;
                let _ = done.send((core.status(), counters));
            }
            Mail::Seeds(seeds) => core.handle_seeds(now, seeds),
            Mail::Persisted(cluster, result) => {
                result?;
                core.handle_persisted(now, cluster, effects);
            }
        }
        Ok(())
    }

    fn perform(&mut self, effects: &mut Vec<Effect>) {
        for effect in effects.drain(..) {
            match effect {
                Effect::SendUdp { to, packet } => {
                    // A full socket buffer loses a packet, as a network does.
                    if self.socket.try_send_to(&packet, to).is_err() {
                        self.unsent += 1;
                    }
                }
                Effect::SendLink { to, message } => self.links.send(&to, message),
                Effect::Persist { cluster, founders } => self.persist(cluster, founders),
                Effect::Topology(snapshot) => self.writer.publish_topology(snapshot),
                Effect::Load(snapshot) => self.writer.publish_load(snapshot),
                Effect::Event(event) => self.surroundings.told(&event),
                Effect::Stopped(how) => self.surroundings.stopped(how),
            }
        }
    }

    fn persist(&self, cluster: ClusterId, founders: Vec<NodeId>) {
        let (surroundings, mailbox) = (Arc::clone(&self.surroundings), self.mailbox.clone());
        tokio::task::spawn_blocking(move || {
            let result = surroundings.persist(cluster, &founders);
            if let Some(mailbox) = mailbox.upgrade() {
                let _ = mailbox.blocking_send(Mail::Persisted(cluster, result)); // gone: nobody waits
            }
        });
    }
}

/// Resolves the seeds' names again and again, for as long as somebody holds the cluster.
async fn resolve(seeds: Vec<String>, mailbox: mpsc::WeakSender<Mail>) {
    loop {
        let mut addresses = Vec::new();
        for seed in &seeds {
            // A name that does not resolve now may later.
            if let Ok(found) = tokio::net::lookup_host(seed).await {
                addresses.extend(found);
            }
        }
        addresses.sort_unstable();
        addresses.dedup();
        let Some(mailbox) = mailbox.upgrade() else {
            return;
        };
        if mailbox.send(Mail::Seeds(addresses)).await.is_err() {
            return;
        }
        drop(mailbox);
        tokio::time::sleep(RESOLVE_EVERY).await;
    }
}

/// The secret itself stays secret: what the seed decides can be observed.
fn seed_of(secret: &[u8; 32]) -> u64 {
    let seed = blake3::derive_key("bifrust cluster seed v1", secret);
    let mut first = [0; 8];
    first.copy_from_slice(&seed[..8]);
    u64::from_be_bytes(first)
}

#[cfg(test)]
mod tests;
