//! What carries MQTT between a test and the broker: `BIFRUST_E2E_TRANSPORT` is `tcp` (if not set),
//! `tls`, `ws` or `wss`, for whole suites.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::OnceLock;
use std::time::Instant;

use crate::client::{PATIENCE, Transport};
use crate::secure::{self, Secure};
use crate::websocket::WebSocket;

static ASKED: OnceLock<Carrier> = OnceLock::new();

/// A transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the transports' own names")]
pub enum Carrier {
    Tcp,
    Tls,
    Ws,
    Wss,
}

impl Carrier {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Tcp, Self::Tls, Self::Ws, Self::Wss];

    /// Tests of transports themselves are asked for none.
    pub fn none_is_asked_for() {
        let _ = ASKED.set(Self::Tcp); // by another test before
    }

    /// The one that suites use.
    pub fn under_test() -> Self {
        *ASKED.get_or_init(|| match std::env::var("BIFRUST_E2E_TRANSPORT") {
            Ok(name) => Self::ALL
                .into_iter()
                .find(|carrier| carrier.name() == name)
                .unwrap_or_else(|| panic!("BIFRUST_E2E_TRANSPORT is no transport: {name}")),
            Err(_) => Self::Tcp,
        })
    }

    /// Its name in flags and in the ready file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }

    /// Whether it needs a certificate.
    pub fn has_tls(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }

    /// A connection over it, ready for CONNECT.
    pub fn dial(self, address: SocketAddr) -> Box<dyn Transport> {
        self.try_dial(address).expect("the broker accepts")
    }

    /// As [`dial`](Self::dial), or why there is none.
    pub fn try_dial(self, address: SocketAddr) -> io::Result<Box<dyn Transport>> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let secure = |stream, protocol| {
            let options = secure::Options {
                alpn: &[protocol],
                ..secure::Options::default()
            };
            Secure::try_open(stream, &options)
        };
        let below: Box<dyn Transport> = match self {
            Self::Tcp | Self::Ws => Box::new(stream),
            Self::Tls => Box::new(secure(stream, "mqtt")?),
            Self::Wss => Box::new(secure(stream, "http/1.1")?),
        };
        match self {
            Self::Tcp | Self::Tls => Ok(below),
            Self::Ws | Self::Wss => {
                let (socket, upgrade) = WebSocket::try_over(below, address, "/mqtt", Some("mqtt"))?;
                match upgrade.status {
                    101 => Ok(Box::new(socket)),
                    _ => Err(io::Error::other(upgrade.head)),
                }
            }
        }
    }
}

/// Bytes to and from a broker over the transport under test, for tests that read them one by one.
pub struct Stream(Box<dyn Transport>);

impl Stream {
    /// A connection, ready for CONNECT.
    pub fn dial(address: SocketAddr) -> Self {
        Self(Carrier::under_test().dial(address))
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.receive(into, Instant::now() + PATIENCE)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
