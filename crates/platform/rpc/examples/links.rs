//! What links cost: CPU time of both ends together, on loopback.
//!
//! ```text
//! cargo run --release -p bifrust-rpc --example links
//! ```
//!
//! Both ends are threads of this process, each bound to a core of its own if there are two, then both
//! to the same one. What they use is what the kernel accounts for all threads.

#![allow(clippy::unwrap_used)] // a measurement that fails is none

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use bifrust_cluster::{ClusterId, ClusterKey, Incarnation, NodeId, NodeRef};
use bifrust_plugin_api::NoMeters;
use bifrust_rpc::hello::{Identity, Versions};
use bifrust_rpc::{
    Body, CallError, Config, Encryption, Hold, Limits, Logged, Node, Outgoing, Reply, Request, Rpc,
    Service, Setup, Target,
};
use bytes::Bytes;
use rustix::event::epoll;
use rustix::thread::CpuSet;
use tokio::runtime::{Builder, Handle};

const PAYLOAD: usize = 256;
/// Frames of a request and its answer around that payload.
const REQUEST: usize = 16 + 22 + PAYLOAD;
const ANSWER: usize = 16 + 8 + PAYLOAD;
const ROUNDS: usize = 5;
const ECHO: u16 = 1;
const SLOW: u16 = 2;

/// Nanoseconds of CPU time that all threads of this process have used.
fn cpu_ns() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let used = tasks.map(|task| {
        let text = std::fs::read_to_string(task.unwrap().path().join("schedstat"));
        let text = text.unwrap_or_default();
        let first = text.split_whitespace().next().unwrap_or("0").to_owned();
        first.parse::<u64>().unwrap()
    });
    used.sum()
}

fn bind_to(core: usize) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut set = CpuSet::new();
    set.set(core % cores);
    rustix::thread::sched_setaffinity(None, &set).unwrap();
}

/// The server's end: counts what it is told, answers what it is asked.
#[derive(Default)]
struct Server {
    told: AtomicU64,
}

impl Service for Server {
    fn request(&self, request: Request, reply: Reply) {
        match request.target.method {
            SLOW => {
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_secs(2)).await;
                    reply.done(Body::default());
                });
            }
            _ => reply.done(request.body),
        }
    }

    fn one_way(&self, message: Request, _hold: &mut Hold<'_>) {
        assert_eq!(message.body.payload.len(), PAYLOAD);
        self.told.fetch_add(1, Ordering::Relaxed);
    }
}

fn rpc(id: u128, encryption: Encryption) -> Rpc {
    let identity = Identity {
        node: NodeRef {
            id: NodeId(id),
            incarnation: Incarnation(1),
        },
        cluster: ClusterId::new(1),
        versions: Versions::OWN,
        limits: Limits::default(),
        key: ClusterKey::new("a key for a measurement").unwrap(),
    };
    let config = Config {
        encryption,
        ..Config::default()
    };
    Rpc::new(Setup {
        config,
        identity,
        meters: Arc::new(NoMeters),
        observer: Arc::new(Logged),
        runtime: Handle::current(),
    })
    .unwrap()
}

/// A server on a thread of its own; its address and what it counts.
fn serve(core: usize, encryption: Encryption) -> (SocketAddr, Arc<Server>) {
    let server = Arc::new(Server::default());
    let (tell, told) = mpsc::channel();
    let own = server.clone();
    std::thread::spawn(move || {
        bind_to(core);
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let rpc = rpc(2, encryption);
            rpc.register(7, 0, own);
            let at = rpc.listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
            tell.send(at).unwrap();
            std::future::pending::<()>().await
        })
    });
    (told.recv().unwrap(), server)
}

fn outgoing(method: u16) -> Outgoing {
    Outgoing {
        target: Target {
            service: 7,
            instance: 0,
            method,
        },
        body: Body::payload(Bytes::from_static(&[7; PAYLOAD])),
        ..Outgoing::default()
    }
}

async fn connect(address: SocketAddr, encryption: Encryption) -> (Rpc, Node) {
    let rpc = rpc(1, encryption);
    let id = NodeRef {
        id: NodeId(2),
        incarnation: Incarnation(1),
    };
    let node = rpc.node(id, address).unwrap();
    node.call(outgoing(ECHO), Duration::from_secs(5))
        .await
        .unwrap();
    (rpc, node)
}

/// CPU nanoseconds per one-way message, in batches of 64.
async fn one_way(node: &Node, server: &Server, count: u64) -> f64 {
    let before = (server.told.load(Ordering::Relaxed), cpu_ns());
    let mut batch = VecDeque::new();
    let mut sent = 0;
    while sent < count {
        while batch.len() < 64 {
            batch.push_back(outgoing(0));
            sent += 1;
        }
        match node.one_way_batch(&mut batch) {
            Ok(()) => tokio::task::yield_now().await,
            Err(CallError::Full) => tokio::time::sleep(Duration::from_millis(1)).await,
            Err(error) => panic!("{error}"),
        }
    }
    while server.told.load(Ordering::Relaxed) - before.0 < count {
        if node.one_way_batch(&mut batch).is_ok() {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
    }
    (cpu_ns() - before.1) as f64 / count as f64
}

/// One request after another, each sent by the answer before it.
struct Chain {
    node: Node,
    left: AtomicU64,
    done: std::sync::Mutex<Option<tokio::sync::oneshot::Sender<()>>>,
}

fn next(chain: Arc<Chain>) {
    if chain.left.fetch_sub(1, Ordering::Relaxed) == 0 {
        let done = chain.done.lock().unwrap().take();
        done.unwrap().send(()).unwrap();
        return;
    }
    let node = chain.node.clone();
    let deadline = Instant::now() + Duration::from_secs(5);
    node.request(outgoing(ECHO), deadline, move |answer| {
        assert_eq!(answer.unwrap().payload.len(), PAYLOAD);
        next(chain);
    });
}

/// CPU nanoseconds per lone request and answer.
async fn lone(node: &Node, count: u64) -> f64 {
    let (done, is_done) = tokio::sync::oneshot::channel();
    let before = cpu_ns();
    next(Arc::new(Chain {
        node: node.clone(),
        left: AtomicU64::new(count),
        done: std::sync::Mutex::new(Some(done)),
    }));
    is_done.await.unwrap();
    (cpu_ns() - before) as f64 / count as f64
}

/// One end of the bare ping-pong: waits, reads `takes` bytes, writes `gives`.
fn bare_end(stream: TcpStream, takes: usize, gives: usize, starts: bool, count: u64) {
    stream.set_nodelay(true).unwrap();
    stream.set_nonblocking(true).unwrap();
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
    epoll::add(&poll, &stream, epoll::EventData::new_u64(1), flags).unwrap();
    let (mut input, output) = (vec![0; takes], vec![7; gives]);
    let mut stream = stream;
    if starts {
        stream.write_all(&output).unwrap();
    }
    let mut events = Vec::with_capacity(8);
    let mut read = 0;
    for turn in 0..count {
        while read < takes {
            match stream.read(&mut input[read..]) {
                Ok(n) => read += n,
                Err(_) => {
                    events.clear();
                    let spare = rustix::buffer::spare_capacity(&mut events);
                    epoll::wait(&poll, spare, None).unwrap();
                }
            }
        }
        read = 0;
        // As a reader that knows: after a full read it waits before it reads again.
        if !(starts && turn + 1 == count) {
            stream.write_all(&output).unwrap();
        }
        if turn + 1 < count {
            events.clear();
            let spare = rustix::buffer::spare_capacity(&mut events);
            epoll::wait(&poll, spare, None).unwrap();
        }
    }
}

/// CPU nanoseconds per turn of the bare ping-pong.
fn bare(cores: (usize, usize), count: u64) -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = mpsc::channel();
    let (go, gone) = mpsc::channel::<()>();
    let other = std::thread::spawn(move || {
        bind_to(cores.1);
        let (stream, _) = listener.accept().unwrap();
        bare_end(stream, REQUEST, ANSWER, false, count);
        // A thread that has ended counts no more.
        tell.send(()).unwrap();
        let _ = gone.recv();
    });
    let stream = TcpStream::connect(address).unwrap();
    let before = cpu_ns();
    bare_end(stream, ANSWER, REQUEST, true, count);
    told.recv().unwrap();
    let used = cpu_ns() - before;
    drop(go);
    other.join().unwrap();
    used as f64 / count as f64
}

/// Milliseconds of the slowest of 2,000 requests, with `slow` others under way.
async fn slowest(node: &Node, slow: usize) -> f64 {
    let (tell, told) = mpsc::channel();
    for _ in 0..slow {
        let tell = tell.clone();
        let deadline = Instant::now() + Duration::from_secs(10);
        node.request(outgoing(SLOW), deadline, move |answer| {
            answer.unwrap();
            tell.send(()).unwrap();
        });
    }
    let mut slowest = Duration::ZERO;
    for _ in 0..2000 {
        let began = Instant::now();
        node.call(outgoing(ECHO), Duration::from_secs(5))
            .await
            .unwrap();
        slowest = slowest.max(began.elapsed());
        tokio::time::sleep(Duration::from_micros(100)).await;
    }
    drop(tell);
    for _ in 0..slow {
        while told.try_recv().is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    slowest.as_secs_f64() * 1000.0
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let count: u64 = std::env::args()
        .nth(1)
        .map_or(40_000, |text| text.parse().unwrap());
    for cores in [(0, 1), (0, 0)] {
        bind_to(cores.0);
        let place = if cores.0 == cores.1 {
            "one core"
        } else {
            "two cores"
        };
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        for (encryption, name) in [(Encryption::Never, "plain"), (Encryption::Always, "TLS")] {
            let (address, server) = serve(cores.1, encryption);
            let (_rpc, node) = runtime.block_on(connect(address, encryption));
            let (mut ways, mut lones, mut bares) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                ways.push(runtime.block_on(one_way(&node, &server, count * 20)));
                bares.push(bare(cores, count));
                lones.push(runtime.block_on(lone(&node, count)));
            }
            let ratios = lones.iter().zip(&bares).map(|(lone, bare)| lone / bare);
            println!(
                "{place}, {name}: one-way {:.0} ns; lone {:.0} ns, bare {:.0} ns, ratio {:.2}",
                median(ways),
                median(lones.clone()),
                median(bares.clone()),
                median(ratios.collect()),
            );
            let alone = runtime.block_on(slowest(&node, 0));
            let beside = runtime.block_on(slowest(&node, 100));
            println!(
                "{place}, {name}: slowest of 2000 {alone:.2} ms, beside 100 slow {beside:.2} ms"
            );
        }
    }
}
