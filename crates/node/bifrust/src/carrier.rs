//! TLS and WebSocket around the bytes of a client, without the socket: whoever has it moves the
//! bytes, blocking or not.

use std::io::{self, BufRead as _, Write as _};

use anyhow::{Context as _, ensure};
use bytes::{Buf, BytesMut};
use rustls::ClientConnection;
use tungstenite::client::IntoClientRequest as _;
use tungstenite::handshake::client::ClientHandshake;
use tungstenite::handshake::{HandshakeError, MidHandshake};
use tungstenite::protocol::{Message, WebSocketConfig};
use tungstenite::{Error, WebSocket};

/// The largest message taken, which is the largest packet that the protocol has.
const MESSAGE_MAX: usize = 256 << 20;

/// What carries the bytes of one connection. Plain TCP adds nothing.
pub(crate) struct Carrier {
    tls: Option<ClientConnection>,
    ws: Option<Ws>,
    is_closed: bool,
}

enum Ws {
    Request(Box<MidHandshake<ClientHandshake<Pipe>>>),
    Open(Box<WebSocket<Pipe>>),
    Ended,
}

/// Both directions, in memory.
#[derive(Debug, Default)]
struct Pipe {
    input: BytesMut,
    output: BytesMut,
}

impl io::Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let n = buffer.len().min(self.input.len());
        let (there, _) = buffer.split_at_mut(n);
        self.input.copy_to_slice(there);
        Ok(n)
    }
}

impl io::Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Carrier {
    /// `websocket` is the host and the path to ask for.
    pub(crate) fn new(
        tls: Option<ClientConnection>,
        websocket: Option<(&str, &str)>,
    ) -> anyhow::Result<Self> {
        let ws = match websocket {
            None => None,
            Some((host, path)) => {
                let mut request = format!("ws://{host}{path}").into_client_request()?;
                let protocol = tungstenite::http::HeaderValue::from_static("mqtt");
                request
                    .headers_mut()
                    .insert("Sec-WebSocket-Protocol", protocol);
                let config = WebSocketConfig::default()
                    .read_buffer_size(4096)
                    .write_buffer_size(0)
                    .max_message_size(Some(MESSAGE_MAX))
                    .max_frame_size(Some(MESSAGE_MAX));
                let handshake = ClientHandshake::start(Pipe::default(), request, Some(config))?;
                Some(Ws::Request(Box::new(handshake)))
            }
        };
        let mut carrier = Self {
            tls,
            ws,
            is_closed: false,
        };
        carrier.shake()?;
        Ok(carrier)
    }

    /// Whether packets can be sent.
    pub(crate) fn is_open(&self) -> bool {
        let is_shaking = self.tls.as_ref().is_some_and(|tls| tls.is_handshaking());
        !is_shaking && !matches!(self.ws, Some(Ws::Request(_)))
    }

    /// Whether the other side has said that nothing more comes.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Bytes of the socket in, bytes of MQTT out.
    pub(crate) fn feed(&mut self, mut wire: &[u8], plain: &mut BytesMut) -> anyhow::Result<()> {
        let Some(tls) = &mut self.tls else {
            return self.feed_ws(wire, plain);
        };
        let mut decrypted = BytesMut::new();
        while !wire.is_empty() {
            let n = tls.read_tls(&mut wire)?;
            let state = tls.process_new_packets().context("TLS")?;
            let mut reader = tls.reader();
            // An error says that there is no more for now.
            while let Ok(chunk) = reader.fill_buf()
                && !chunk.is_empty()
            {
                decrypted.extend_from_slice(chunk);
                let taken = chunk.len();
                reader.consume(taken);
            }
            if n == 0 || state.peer_has_closed() {
                self.is_closed = true;
                break;
            }
        }
        self.feed_ws(&decrypted, plain)
    }

    fn feed_ws(&mut self, bytes: &[u8], plain: &mut BytesMut) -> anyhow::Result<()> {
        match &mut self.ws {
            None => {
                plain.extend_from_slice(bytes);
                return Ok(());
            }
            Some(Ws::Request(handshake)) => {
                handshake.get_mut().get_mut().input.extend_from_slice(bytes);
                self.shake()?;
            }
            Some(Ws::Open(ws)) => ws.get_mut().input.extend_from_slice(bytes),
            Some(Ws::Ended) => {}
        }
        let Some(Ws::Open(ws)) = &mut self.ws else {
            return Ok(());
        };
        loop {
            match ws.read() {
                Ok(Message::Binary(bytes)) => plain.extend_from_slice(&bytes),
                Ok(Message::Close(_)) | Err(Error::ConnectionClosed | Error::AlreadyClosed) => {
                    self.is_closed = true;
                    return Ok(());
                }
                Ok(_) => {}
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(());
                }
                Err(error) => return Err(error).context("WebSocket"),
            }
        }
    }

    /// Goes on with the request for a WebSocket, if there is one.
    fn shake(&mut self) -> anyhow::Result<()> {
        let Some(Ws::Request(handshake)) = self.ws.take_if(|ws| matches!(ws, Ws::Request(_)))
        else {
            return Ok(());
        };
        self.ws = Some(match handshake.handshake() {
            Ok((ws, _)) => Ws::Open(Box::new(ws)),
            Err(HandshakeError::Interrupted(handshake)) => Ws::Request(Box::new(handshake)),
            Err(HandshakeError::Failure(error)) => {
                self.ws = Some(Ws::Ended);
                return Err(error).context("the broker opens no WebSocket");
            }
        });
        Ok(())
    }

    /// Bytes of MQTT in.
    pub(crate) fn send(&mut self, plain: &[u8]) -> anyhow::Result<()> {
        ensure!(self.is_open(), "the connection is not open yet");
        match (&mut self.ws, &mut self.tls) {
            (Some(Ws::Open(ws)), _) => ws.write(Message::Binary(plain.to_vec().into()))?,
            (Some(_), _) => {}
            (None, Some(tls)) => tls.writer().write_all(plain)?,
            (None, None) => {}
        }
        Ok(())
    }

    /// Says that nothing more is sent.
    pub(crate) fn close(&mut self) {
        if let Some(Ws::Open(ws)) = &mut self.ws {
            let _ = ws.close(None); // the socket closes in any case
        }
    }

    /// Whether bytes go out as they are.
    pub(crate) fn is_plain(&self) -> bool {
        self.tls.is_none() && self.ws.is_none()
    }

    /// Bytes for the socket out.
    pub(crate) fn output(&mut self, wire: &mut BytesMut) -> anyhow::Result<()> {
        let framed = match &mut self.ws {
            Some(Ws::Request(handshake)) => Some(&mut handshake.get_mut().get_mut().output),
            Some(Ws::Open(ws)) => Some(&mut ws.get_mut().output),
            Some(Ws::Ended) | None => None,
        };
        match (framed, &mut self.tls) {
            (Some(framed), None) => wire.extend_from_slice(&framed.split()),
            (Some(framed), Some(tls)) if !tls.is_handshaking() => {
                tls.writer().write_all(&framed.split())?;
            }
            _ => {}
        }
        if let Some(tls) = &mut self.tls {
            let mut sealed = io::Cursor::new(Vec::new());
            while tls.wants_write() {
                tls.write_tls(&mut sealed)?;
            }
            wire.extend_from_slice(sealed.get_ref());
        }
        Ok(())
    }
}
