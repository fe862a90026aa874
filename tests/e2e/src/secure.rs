//! A TLS client that a test drives.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};

use crate::authority::{Authority, Issued};
use crate::client::Transport;

/// How long a handshake may take.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(20);

/// What a client shows and believes.
#[derive(Clone, Default)]
pub struct Options<'a> {
    /// Protocols offered; none if empty.
    pub alpn: &'a [&'a str],
    /// The certificate shown.
    pub identity: Option<&'a Issued>,
    /// The host asked for; `localhost` if not set.
    pub host: Option<&'a str>,
    /// Offers nothing newer than TLS 1.2.
    pub is_old: bool,
}

/// A TLS connection.
pub struct Secure {
    stream: TcpStream,
    connection: ClientConnection,
}

impl Secure {
    /// A connection that is expected to come about.
    pub fn open(stream: TcpStream, alpn: &[&str]) -> Self {
        let options = Options {
            alpn,
            ..Options::default()
        };
        Self::try_open(stream, &options).expect("the handshake succeeds")
    }

    /// A connection, or why there is none. In TLS 1.3 the refusal of a client's certificate comes
    /// only with the first read.
    pub fn try_open(stream: TcpStream, options: &Options<'_>) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots
            .add(Authority::of_servers().der())
            .map_err(io::Error::other)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions: &[&'static SupportedProtocolVersion] = match options.is_old {
            true => &[&rustls::version::TLS12],
            false => rustls::ALL_VERSIONS,
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(io::Error::other)?
            .with_root_certificates(roots);
        let mut config = match options.identity {
            None => builder.with_no_client_auth(),
            Some(issued) => {
                let (chain, key) = issued.identity();
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(io::Error::other)?
            }
        };
        config.alpn_protocols = options
            .alpn
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        let host = options.host.unwrap_or("localhost").to_owned();
        let host = ServerName::try_from(host).map_err(io::Error::other)?;
        let mut connection =
            ClientConnection::new(Arc::new(config), host).map_err(io::Error::other)?;
        connection.set_buffer_limit(None);
        let mut secure = Self { stream, connection };
        let deadline = Instant::now() + HANDSHAKE_WITHIN;
        while secure.connection.is_handshaking() {
            secure.flush()?;
            if secure.connection.is_handshaking() && secure.read_records(deadline)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        secure.flush()?;
        Ok(secure)
    }

    /// The protocol that was agreed on.
    pub fn alpn(&self) -> Option<String> {
        let agreed = self.connection.alpn_protocol()?;
        Some(String::from_utf8_lossy(agreed).into_owned())
    }

    /// The certificate that the server showed.
    pub fn server_certificate(&self) -> Vec<u8> {
        let chain = self.connection.peer_certificates().unwrap_or_default();
        chain.first().map(|leaf| leaf.to_vec()).unwrap_or_default()
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(&mut self.stream)?;
        }
        Ok(())
    }

    fn read_records(&mut self, deadline: Instant) -> io::Result<usize> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        let read = self.connection.read_tls(&mut self.stream);
        let count = read.map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => ErrorKind::TimedOut.into(),
            _ => error,
        })?;
        let processed = self.connection.process_new_packets();
        processed.map_err(io::Error::other)?;
        Ok(count)
    }
}

impl Transport for Secure {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.connection.writer().write_all(bytes)?;
        self.flush()
    }

    fn receive(&mut self, into: &mut [u8], deadline: Instant) -> io::Result<usize> {
        loop {
            match self.connection.reader().read(into) {
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            self.read_records(deadline)?;
            self.flush()?;
        }
    }

    fn socket(&self) -> &TcpStream {
        &self.stream
    }
}
