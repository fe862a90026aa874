//! Bytes of one peer, whatever carries them. Sessions never see a socket.

mod out;
mod ws;

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;

pub(crate) use out::Out;
use ws::Ws;

use crate::config::ListenerKind;

/// What carries a connection's bytes, and the facts about the peer.
pub(crate) struct Transport {
    kind: Kind,
    pub(crate) peer: SocketAddr,
}

enum Kind {
    Tcp(TcpStream),
    Ws(Box<(TcpStream, Ws)>),
}

/// What came of an attempt to read.
pub(crate) enum Read {
    /// Bytes of MQTT; 0 if the carrier had only bytes of its own.
    Bytes(usize),
    /// The peer will send no more.
    End,
}

impl Transport {
    pub(crate) fn new(kind: ListenerKind, stream: TcpStream, peer: SocketAddr) -> Self {
        let kind = match kind {
            ListenerKind::Tcp => Kind::Tcp(stream),
            ListenerKind::Ws => Kind::Ws(Box::new((stream, Ws::new()))),
        };
        Self { kind, peer }
    }

    fn stream(&self) -> &TcpStream {
        match &self.kind {
            Kind::Tcp(stream) => stream,
            Kind::Ws(ws) => &ws.0,
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
            Kind::Ws(ws) => {
                let (stream, ws) = &mut **ws;
                ws.poll_read(stream, context, buffer)
            }
        }
    }

    pub(crate) fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_write_ready(context)
    }

    /// Writes as much of `out` as the socket takes. `Ok` if all of it is gone.
    pub(crate) fn write(&mut self, out: &mut Out) -> io::Result<()> {
        match &mut self.kind {
            Kind::Tcp(stream) => out.write_to(stream),
            Kind::Ws(ws) => {
                let (stream, ws) = &mut **ws;
                ws.write(stream, out)
            }
        }
    }

    /// Bytes the carrier itself still has to write.
    pub(crate) fn unwritten(&self) -> usize {
        match &self.kind {
            Kind::Tcp(_) => 0,
            Kind::Ws(ws) => ws.1.unwritten(),
        }
    }

    /// The largest packet the client may send, known once it is let in.
    pub(crate) fn limit_packets(&mut self, max: usize) {
        if let Kind::Ws(ws) = &mut self.kind {
            ws.1.limit(max);
        }
    }

    /// Says goodbye in the carrier's own way; [`write`](Self::write) sends it.
    pub(crate) fn close_carrier(&mut self, code: u16) {
        if let Kind::Ws(ws) = &mut self.kind {
            ws.1.close(code);
        }
    }

    /// Sends no more.
    pub(crate) fn shutdown(&self) {
        let socket = socket2::SockRef::from(self.stream());
        let _ = socket.shutdown(Shutdown::Write); // the peer may be gone already
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
