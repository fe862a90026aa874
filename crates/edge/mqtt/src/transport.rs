//! Bytes of one peer, whatever carries them, and the facts about it. Sessions never see a socket.
//!
//! ```text
//! socket -> PROXY header -> TLS -> WebSocket -> MQTT
//! ```
//!
//! Plain TCP has none of the steps and reads straight into the shard's buffer. The others decode
//! into memory that is there only while bytes are.

mod certificate;
pub(crate) mod fuzz;
mod out;
mod proxy;
mod tls;
mod wire;
mod ws;

use std::borrow::Cow;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bifrust_model::EventKind;
use bifrust_plugin_api::PeerTls;
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;

pub(crate) use out::Out;
use tls::Tls;
use wire::Wire;
use ws::{Fed, Ws};

use crate::config::Listener;
use crate::metrics::Refused;

/// What carries a connection's bytes, and the facts about the peer.
pub(crate) struct Transport {
    kind: Kind,
    pub(crate) peer: SocketAddr,
}

enum Kind {
    Tcp(TcpStream),
    Layered(Box<Layers>),
}

/// What came of an attempt to read.
pub(crate) enum Read {
    /// Bytes of MQTT; 0 if the carrier had only bytes of its own.
    Bytes(usize),
    /// The peer will send no more.
    End,
    /// The carrier gives the connection up; it has an answer to write. Told once.
    Refused(Refusal),
}

/// Why a carrier gives a connection up.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) why: Refused,
    pub(crate) event: EventKind,
    pub(crate) detail: Cow<'static, str>,
}

struct Layers {
    wire: Wire,
    listener: Arc<Listener>,
    /// The beginning of a PROXY header; `None` once it is through, or where there is none.
    header: Option<BytesMut>,
    ws: Option<Ws>,
    /// MQTT bytes that were taken out of the carriers and not read yet.
    decoded: BytesMut,
    /// What is told once `decoded` is read.
    end: End,
}

enum End {
    /// More may come.
    Open,
    /// The peer's carrier said that nothing more comes.
    Closed,
    Refused(Option<Refusal>),
}

impl Transport {
    /// A connection that was just accepted. Its first packet has `packet_max` bytes at most.
    pub(crate) fn new(
        listener: &Arc<Listener>,
        stream: TcpStream,
        peer: SocketAddr,
        packet_max: usize,
    ) -> io::Result<Self> {
        let tls = match &listener.tls {
            Some(tls) if listener.kind.has_tls() => {
                Some(Box::new(Tls::new(tls.config()).map_err(io::Error::other)?))
            }
            _ => None,
        };
        let ws = (listener.kind.is_websocket()).then(|| Ws::new(packet_max));
        let header = listener.proxies.has_header.then(BytesMut::new);
        let kind = if tls.is_none() && ws.is_none() && header.is_none() {
            Kind::Tcp(stream)
        } else {
            Kind::Layered(Box::new(Layers {
                wire: Wire { stream, tls },
                listener: listener.clone(),
                header,
                ws,
                decoded: BytesMut::new(),
                end: End::Open,
            }))
        };
        Ok(Self { kind, peer })
    }

    fn stream(&self) -> &TcpStream {
        match &self.kind {
            Kind::Tcp(stream) => stream,
            Kind::Layered(layers) => &layers.wire.stream,
        }
    }

    /// Reads what is there into `buffer`. A read that does not fill it says that nothing more is
    /// there, which saves the call that would find out.
    pub(crate) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<Read>> {
        match &mut self.kind {
            Kind::Tcp(stream) => match read_stream(stream, context, buffer) {
                Poll::Ready(Ok(0)) => Poll::Ready(Ok(Read::End)),
                Poll::Ready(Ok(n)) => Poll::Ready(Ok(Read::Bytes(n))),
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Pending => Poll::Pending,
            },
            Kind::Layered(layers) => layers.poll_read(&mut self.peer, context, buffer),
        }
    }

    pub(crate) fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_write_ready(context)
    }

    /// Writes as much of `out` as the socket takes. `Ok` if all of it is gone.
    pub(crate) fn write(&mut self, out: &mut Out) -> io::Result<()> {
        match &mut self.kind {
            Kind::Tcp(stream) => out.write_to(stream),
            Kind::Layered(layers) => layers.write(out),
        }
    }

    /// Bytes the carrier itself still has to write; bytes that are encrypted count as one.
    pub(crate) fn unwritten(&self) -> usize {
        match &self.kind {
            Kind::Tcp(_) => 0,
            Kind::Layered(layers) => {
                layers.ws.as_ref().map_or(0, Ws::unwritten) + usize::from(layers.wire.has_output())
            }
        }
    }

    /// The largest packet the client may send, known once it is let in.
    pub(crate) fn limit_packets(&mut self, max: usize) {
        if let Kind::Layered(layers) = &mut self.kind
            && let Some(ws) = &mut layers.ws
        {
            ws.limit(max);
        }
    }

    /// Whether the next bytes cost as much as a handshake does.
    pub(crate) fn is_handshaking(&self) -> bool {
        match &self.kind {
            Kind::Tcp(_) => false,
            Kind::Layered(layers) => {
                let tls = layers.wire.tls.as_ref();
                tls.is_some_and(|tls| tls.is_handshaking())
            }
        }
    }

    /// What the TLS handshake showed; `None` without TLS.
    pub(crate) fn tls_facts(&self) -> Option<PeerTls> {
        match &self.kind {
            Kind::Tcp(_) => None,
            Kind::Layered(layers) => layers.wire.tls.as_ref().map(|tls| tls.facts()),
        }
    }

    /// Says goodbye in the carrier's own way; [`write`](Self::write) sends it.
    pub(crate) fn close_carrier(&mut self, code: u16) {
        if let Kind::Layered(layers) = &mut self.kind {
            if let Some(ws) = &mut layers.ws {
                ws.close(code);
                // Before TLS says that nothing follows; a full socket does not take it later either.
                let _ = layers.wire.write_bytes(ws.output());
            }
            if let Some(tls) = &mut layers.wire.tls {
                tls.close();
            }
        }
    }

    /// Sends no more.
    pub(crate) fn shutdown(&self) {
        let socket = socket2::SockRef::from(self.stream());
        let _ = socket.shutdown(Shutdown::Write); // the peer may be gone already
    }
}

impl Layers {
    fn poll_read(
        &mut self,
        peer: &mut SocketAddr,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<Read>> {
        if self.decoded.is_empty() {
            match &mut self.end {
                End::Open | End::Refused(None) => {}
                End::Closed => return Poll::Ready(Ok(Read::End)),
                End::Refused(refusal) => {
                    if let Some(refusal) = refusal.take() {
                        return Poll::Ready(Ok(Read::Refused(refusal)));
                    }
                }
            }
            match read_stream(&mut self.wire.stream, context, buffer) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(Read::End)),
                Poll::Ready(Ok(n)) => self.end = self.feed(peer, &buffer[..n]),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        let n = buffer.len().min(self.decoded.len());
        self.decoded.copy_to_slice(&mut buffer[..n]);
        if self.decoded.is_empty() {
            self.decoded = BytesMut::new();
        }
        Poll::Ready(Ok(Read::Bytes(n)))
    }

    /// Bytes of the socket in, bytes of MQTT to `decoded`.
    fn feed(&mut self, peer: &mut SocketAddr, bytes: &[u8]) -> End {
        if matches!(self.end, End::Refused(_)) {
            // Read and forgotten, so that the peer can read its answer.
            return End::Refused(None);
        }
        let Some(mut header) = self.header.take() else {
            return self.feed_tls(peer, bytes);
        };
        header.extend_from_slice(bytes);
        match proxy::parse(&header) {
            Ok(None) => {
                self.header = Some(header);
                End::Open
            }
            Ok(Some(found)) => {
                if let Some(source) = found.source {
                    *peer = source;
                }
                header.advance(found.len);
                self.feed_tls(peer, &header)
            }
            Err(error) => End::refused(
                Refused::ProxyHeader,
                EventKind::ProtocolError,
                error.to_string(),
            ),
        }
    }

    fn feed_tls(&mut self, peer: &mut SocketAddr, bytes: &[u8]) -> End {
        let Some(tls) = &mut self.wire.tls else {
            return self.feed_ws(peer, bytes);
        };
        let mut plain = BytesMut::new();
        let is_websocket = self.ws.is_some();
        let target = match is_websocket {
            true => &mut plain,
            false => &mut self.decoded,
        };
        let was_handshaking = tls.is_handshaking();
        let fed = tls.feed(bytes, target);
        let end = match is_websocket {
            true if !plain.is_empty() => self.feed_ws(peer, &plain),
            _ => End::Open,
        };
        match (fed, end) {
            (Ok(true), end) | (_, end @ End::Refused(_)) => end,
            (Ok(false), _) => End::Closed,
            (Err(error), _) => {
                let step = if was_handshaking {
                    "handshake"
                } else {
                    "record"
                };
                End::refused(
                    Refused::Tls,
                    EventKind::ChannelError,
                    format!("TLS {step}: {error}"),
                )
            }
        }
    }

    fn feed_ws(&mut self, peer: &mut SocketAddr, bytes: &[u8]) -> End {
        let Some(ws) = &mut self.ws else {
            self.decoded.extend_from_slice(bytes);
            return End::Open;
        };
        match ws.feed(bytes, &mut self.decoded, &self.listener, peer.ip()) {
            Fed::More(source) => {
                if let Some(source) = source {
                    *peer = source;
                }
                End::Open
            }
            Fed::Closed => End::Closed,
            Fed::Refused(refusal) => End::Refused(Some(refusal)),
        }
    }

    fn write(&mut self, out: &mut Out) -> io::Result<()> {
        if let Some(ws) = &mut self.ws {
            while ws.unwritten() > 0 {
                self.wire.write_bytes(ws.output())?;
            }
            ws.frame(out)?;
            return self.wire.write_bytes(ws.output());
        }
        if matches!(self.end, End::Refused(_)) {
            // No way out for MQTT; the alert goes.
            out.drain().for_each(drop);
        }
        self.wire.write_out(out)
    }
}

impl End {
    fn refused(why: Refused, event: EventKind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::Refused(Some(Refusal {
            why,
            event,
            detail: detail.into(),
        }))
    }
}

fn read_stream(
    stream: &mut TcpStream,
    context: &mut Context<'_>,
    buffer: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut buffer = ReadBuf::new(buffer);
    match Pin::new(stream).poll_read(context, &mut buffer) {
        Poll::Ready(Ok(())) => Poll::Ready(Ok(buffer.filled().len())),
        Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        Poll::Pending => Poll::Pending,
    }
}
