//! The port itself.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use bifrust_plugin_api::Events;
use tokio::sync::oneshot;

use crate::health::{Health, Readiness};
use crate::listener::Bounded;
use crate::process::Process;
use crate::registry::MeterRegistry;
use crate::text;

/// How long requests under way may take when the port closes.
const STOP_WITHIN: Duration = Duration::from_secs(1);

/// What there is, for who looks around.
const ENDPOINTS: &str = "\
BifRust
/healthz   the process lives
/readyz    clients are served
/metrics   Prometheus text
";

/// What the port shows, and where.
pub struct Config {
    /// Where it listens; port 0 is any free one.
    pub address: SocketAddr,
    /// The meters.
    pub meters: Arc<MeterRegistry>,
    /// Whose counts are shown.
    pub events: Events,
    /// How far the node is.
    pub health: Health,
    /// Called before each scrape, to set gauges that are read rather than kept.
    pub before_scrape: Box<dyn Fn() + Send + Sync>,
}

/// Why the port did not open.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Somebody else listens there.
    #[error("API address {0} is in use")]
    AddressInUse(SocketAddr),
    /// The system said no.
    #[error("API address {address}: {cause}")]
    Io {
        /// Where it should listen.
        address: SocketAddr,
        /// What it said.
        cause: io::Error,
    },
}

/// The open port.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Opens the port.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let asked = config.address;
        let io = |cause: io::Error| match cause.kind() {
            io::ErrorKind::AddrInUse => StartError::AddressInUse(asked),
            _ => StartError::Io {
                address: asked,
                cause,
            },
        };
        let listener = TcpListener::bind(asked).map_err(io)?;
        listener.set_nonblocking(true).map_err(io)?;
        let address = listener.local_addr().map_err(io)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(io)?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("api".to_owned())
            .spawn(move || {
                runtime.block_on(serve(listener, config, stopped));
                runtime.shutdown_timeout(STOP_WITHIN);
            })
            .map_err(io)?;
        Ok(Self {
            address,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the port.
    pub fn stop(mut self) {
        self.close();
    }

    fn close(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic was printed where it happened
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.close();
    }
}

async fn serve(listener: TcpListener, config: Config, stopped: oneshot::Receiver<()>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => Bounded::new(listener),
        Err(error) => {
            tracing::error!(%error, "the API port cannot be served");
            return;
        }
    };
    let router = Router::new()
        .route("/", get(|| async { ENDPOINTS }))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(Arc::new(config));
    let serve = axum::serve(listener, router);
    tokio::select! {
        _ = serve => {}
        _ = stopped => {}
    }
}

async fn ready(State(config): State<Arc<Config>>) -> impl IntoResponse {
    match config.health.readiness() {
        Readiness::Ready => (StatusCode::OK, "ready\n"),
        Readiness::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        Readiness::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
    }
}

async fn metrics(State(config): State<Arc<Config>>) -> impl IntoResponse {
    (config.before_scrape)();
    let text = text::render(&config.meters, &config.events, Process::read());
    let format = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, format)], text)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    use bifrust_plugin_api::{Meter, Meters as _};

    use super::*;

    fn start() -> (Server, Health, Arc<MeterRegistry>) {
        let meters = Arc::new(MeterRegistry::new());
        let health = Health::new();
        let gauge = meters.gauge(Meter::new("bifrust_scrapes", "Scrapes."));
        let server = Server::start(Config {
            address: ([127, 0, 0, 1], 0).into(),
            meters: meters.clone(),
            events: Events::new(Vec::new()),
            health: health.clone(),
            before_scrape: Box::new(move || gauge.add(1)),
        })
        .unwrap();
        (server, health, meters)
    }

    fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn health_follows_the_node() {
        let (server, health, _) = start();
        let address = server.address();
        let endpoints = ask(address, "/");
        assert!(endpoints.starts_with("HTTP/1.1 200"));
        for path in ["/healthz", "/readyz", "/metrics"] {
            assert!(endpoints.contains(path), "{endpoints}");
            assert!(!ask(address, path).starts_with("HTTP/1.1 404"));
        }
        assert!(ask(address, "/healthz").starts_with("HTTP/1.1 200"));
        assert!(ask(address, "/readyz").starts_with("HTTP/1.1 503"));
        health.set(Readiness::Ready);
        assert!(ask(address, "/readyz").starts_with("HTTP/1.1 200"));
        health.set(Readiness::Stopping);
        assert!(ask(address, "/readyz").contains("stopping"));
        assert!(ask(address, "/nothing").starts_with("HTTP/1.1 404"));
        server.stop();
        assert!(TcpStream::connect(address).is_err());
    }

    #[test]
    fn metrics_are_read_at_the_scrape() {
        let (server, _, meters) = start();
        meters
            .counter(Meter::new("bifrust_things", "Things."))
            .add(4);
        let answer = ask(server.address(), "/metrics");
        assert!(answer.contains("text/plain; version=0.0.4"));
        assert!(answer.contains("\nbifrust_things_total 4\n"));
        assert!(answer.contains("\nbifrust_scrapes 1\n"));
        assert!(answer.contains("process_resident_memory_bytes "));
    }

    #[test]
    fn a_taken_port_is_named() {
        let (server, _, _) = start();
        let second = Server::start(Config {
            address: server.address(),
            meters: Arc::default(),
            events: Events::new(Vec::new()),
            health: Health::new(),
            before_scrape: Box::new(|| {}),
        });
        assert!(matches!(second, Err(StartError::AddressInUse(_))));
    }
}
