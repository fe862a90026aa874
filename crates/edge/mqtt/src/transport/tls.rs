//! One TLS session, without its socket.

use std::io::{self, BufRead as _, IoSlice, Write as _};
use std::sync::Arc;

use bifrust_plugin_api::PeerTls;
use bytes::BytesMut;
use rustls::{ServerConfig, ServerConnection};
use tokio::net::TcpStream;

use super::certificate;

/// Bytes encrypted ahead of the socket; the rest waits where it is.
const AHEAD: usize = 64 << 10;

pub(super) struct Tls {
    connection: ServerConnection,
}

impl Tls {
    pub(super) fn new(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        let mut connection = ServerConnection::new(config)?;
        connection.set_buffer_limit(Some(AHEAD));
        Ok(Self { connection })
    }

    /// Bytes of the socket in, plain ones out. False once the peer has said that it will send no
    /// more.
    pub(super) fn feed(&mut self, mut wire: &[u8], plain: &mut BytesMut) -> io::Result<bool> {
        while !wire.is_empty() {
            let n = self.connection.read_tls(&mut wire)?;
            let state = self.connection.process_new_packets();
            let state = state.map_err(io::Error::other)?;
            if state.plaintext_bytes_to_read() > 0 {
                let mut reader = self.connection.reader();
                // An error says that there is no more for now.
                while let Ok(chunk) = reader.fill_buf()
                    && !chunk.is_empty()
                {
                    plain.extend_from_slice(chunk);
                    let taken = chunk.len();
                    reader.consume(taken);
                }
            }
            if n == 0 || state.peer_has_closed() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    pub(super) fn has_output(&self) -> bool {
        self.connection.wants_write()
    }

    /// Encrypts as much as may be ahead of the socket.
    pub(super) fn encrypt(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.connection.writer().write_vectored(slices)
    }

    /// Writes what is encrypted; an error of kind `WouldBlock` leaves the rest here.
    pub(super) fn write_to(&mut self, stream: &TcpStream) -> io::Result<()> {
        while self.connection.wants_write() {
            if self.connection.write_tls(&mut Socket(stream))? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }

    pub(super) fn close(&mut self) {
        self.connection.send_close_notify();
    }

    /// What the handshake showed of the peer.
    pub(super) fn facts(&self) -> PeerTls {
        let certificate = self
            .connection
            .peer_certificates()
            .and_then(|chain| chain.first())
            .map(|leaf| certificate::read(leaf));
        PeerTls {
            server_name: self.connection.server_name().map(str::to_owned),
            version: self
                .connection
                .protocol_version()
                .and_then(|version| version.as_str())
                .unwrap_or_default()
                .to_owned(),
            cipher: self
                .connection
                .negotiated_cipher_suite()
                .and_then(|suite| suite.suite().as_str())
                .unwrap_or_default()
                .to_owned(),
            certificate,
        }
    }
}

struct Socket<'a>(&'a TcpStream);

impl io::Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
