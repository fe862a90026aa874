use std::{
    collections::BTreeMap,
    sync::{Mutex, OnceLock},
};

use bifrust_model::Incarnation;

use super::*;
use crate::{ClusterKey, Host, PROTOCOL_VERSION};

/// Links that are function calls.
#[derive(Default)]
struct Links(Mutex<BTreeMap<NodeId, Cluster>>);

struct LinksOf(Arc<Links>, NodeRef);

impl LinkSender for LinksOf {
    fn send(&self, to: &Host, message: Bytes) {
        let links = self.0.0.lock().unwrap();
        if let Some(cluster) = links.get(&to.node.id) {
            cluster.link_message(self.1, message);
        }
    }
}

#[derive(Default)]
struct Disk {
    cluster: OnceLock<ClusterId>,
    stopped: OnceLock<Departure>,
}

impl Surroundings for Disk {
    fn persist(&self, cluster: ClusterId, _: &[NodeId]) -> io::Result<()> {
        let _ = self.cluster.set(cluster);
        Ok(())
    }

    fn told(&self, _: &Event) {}

    fn stopped(&self, how: Departure) {
        let _ = self.stopped.set(how);
    }
}

struct Node {
    cluster: Cluster,
    disk: Arc<Disk>,
    task: JoinHandle<io::Result<()>>,
}

async fn nodes(count: u8) -> Vec<Node> {
    let links = Arc::new(Links::default());
    let mut sockets = Vec::new();
    for _ in 0..count {
        sockets.push(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    }
    let seeds: Vec<String> = sockets
        .iter()
        .map(|socket| socket.local_addr().unwrap().to_string())
        .collect();
    let mut nodes = Vec::new();
    for (index, socket) in (1..).zip(sockets) {
        let udp = socket.local_addr().unwrap();
        let node = NodeRef {
            id: NodeId(index),
            incarnation: Incarnation(1),
        };
        let own = Host {
            node,
            revision: 0,
            udp,
            rpc: udp,
            protocol: PROTOCOL_VERSION,
        };
        let key = ClusterKey::new("the key of these tests").unwrap();
        let config = CoreConfig {
            expect: Some(count.into()),
            ..CoreConfig::new(own, key, [index as u8; 32])
        };
        let disk = Arc::new(Disk::default());
        let (cluster, task) = Cluster::start(
            config,
            socket,
            seeds.clone(),
            Arc::new(LinksOf(Arc::clone(&links), node)),
            Arc::clone(&disk) as _,
        );
        links.0.lock().unwrap().insert(node.id, cluster.clone());
        nodes.push(Node {
            cluster,
            disk,
            task,
        });
    }
    nodes
}

async fn until(node: &Node, mut holds: impl FnMut(&crate::Snapshot) -> bool) {
    let mut watcher = node.cluster.landscape().watch_topology();
    let met = watcher.wait_for(|snapshot| holds(snapshot));
    let waited = tokio::time::timeout(Duration::from_secs(60), met).await;
    assert!(
        waited.is_ok_and(|met| met.is_ok()),
        "it did not come to that"
    );
}

#[tokio::test]
async fn three_nodes_on_real_sockets_form_a_cluster_and_one_leaves() {
    let mut nodes = nodes(3).await;
    let service = ServiceName::new("dist").unwrap();
    let announced = nodes[0]
        .cluster
        .announce_agent(service.clone(), 0, Bytes::new());
    assert_eq!(announced.await, Ok(Ok(())));
    for node in &nodes {
        until(node, |shown| {
            shown.hosts.len() == 3 && shown.agents(&service).count() == 1
        })
        .await;
    }
    let ids: Vec<_> = nodes.iter().map(|node| node.disk.cluster.get()).collect();
    assert!(ids[0].is_some() && ids.iter().all(|id| *id == ids[0]));

    nodes[0]
        .cluster
        .leave_agent(service.clone(), 0)
        .await
        .unwrap();
    until(&nodes[1], |shown| {
        shown.hosts.len() == 3 && shown.agents(&service).count() == 0
    })
    .await;

    let left = nodes.remove(2);
    left.cluster.leave().await.unwrap();
    assert!(left.task.await.unwrap().is_ok());
    assert_eq!(left.disk.stopped.get(), Some(&Departure::Left));
    for node in &nodes {
        until(node, |shown| shown.hosts.len() == 2).await;
    }

    // Garbage is counted and does no harm.
    let (status, _) = nodes[0].cluster.status().await.unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(b"garbage", status.own.udp).await.unwrap();
    while nodes[0].cluster.status().await.unwrap().1.unauthentic == 0 {
        tokio::task::yield_now().await;
    }
}
