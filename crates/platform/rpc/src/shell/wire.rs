//! A socket, and TLS where there is any: bytes in and out.

use std::collections::VecDeque;
use std::future::Future as _;
use std::io::{self, BufRead as _, IoSlice, Write};
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use rustls::Connection;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Slices handed to one vectored write.
const SLICES: usize = 32;

/// Bytes encrypted ahead of the socket.
const AHEAD: usize = 64 << 10;

/// Room for a read; at least so much is free before one.
const ROOM: usize = 64 << 10;

pub(super) struct Wire {
    stream: TcpStream,
    tls: Option<Box<Connection>>,
    /// Bytes that are not decrypted yet; nothing between reads.
    sealed: BytesMut,
}

/// What came of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// Bytes, and perhaps more of them.
    Bytes,
    /// Bytes, and no more for now.
    Last,
    /// The peer sends no more.
    End,
}

impl Wire {
    pub(super) fn new(stream: TcpStream, tls: Option<Connection>) -> Self {
        let tls = tls.map(|mut tls| {
            tls.set_buffer_limit(Some(AHEAD));
            Box::new(tls)
        });
        Self {
            stream,
            tls,
            sealed: BytesMut::new(),
        }
    }

    pub(super) fn tls(&self) -> Option<&Connection> {
        self.tls.as_deref()
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        input: &mut BytesMut,
    ) -> Poll<io::Result<Read>> {
        let Some(tls) = &mut self.tls else {
            return poll_fill(&mut self.stream, context, input);
        };
        let read = ready!(poll_fill(&mut self.stream, context, &mut self.sealed))?;
        let before = input.len();
        let mut sealed = &self.sealed[..];
        let mut is_open = read != Read::End;
        while !sealed.is_empty() && is_open {
            is_open = tls.read_tls(&mut sealed)? > 0;
            let state = tls.process_new_packets().map_err(io::Error::other)?;
            is_open &= !state.peer_has_closed();
            let mut reader = tls.reader();
            // An error says that there is no more for now.
            while let Ok(chunk) = reader.fill_buf()
                && !chunk.is_empty()
            {
                input.extend_from_slice(chunk);
                let taken = chunk.len();
                reader.consume(taken);
            }
        }
        self.sealed.clear();
        Poll::Ready(Ok(match is_open {
            true => read,
            // What came before the end counts; the end is read again.
            false if input.len() > before => Read::Last,
            false => Read::End,
        }))
    }

    /// Writes as much as the socket takes; `Pending` once it is full.
    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        out: &mut VecDeque<Bytes>,
    ) -> Poll<io::Result<()>> {
        loop {
            match self.write(out) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.stream.poll_write_ready(context))?;
                }
                result => return Poll::Ready(result),
            }
        }
    }

    fn write(&mut self, out: &mut VecDeque<Bytes>) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            while !out.is_empty() {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let mut used = 0;
                for (slice, bytes) in slices.iter_mut().zip(out.iter()) {
                    *slice = IoSlice::new(bytes);
                    used += 1;
                }
                let written = match &slices[..used] {
                    [one] => self.stream.try_write(one)?,
                    several => self.stream.try_write_vectored(several)?,
                };
                advance(out, written)?;
            }
            return Ok(());
        };
        loop {
            while tls.wants_write() {
                if tls.write_tls(&mut Socket(&self.stream))? == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
            }
            // Nothing is encrypted before both ends have their keys.
            if out.is_empty() || tls.is_handshaking() {
                return Ok(());
            }
            while let Some(bytes) = out.front() {
                let taken = tls.writer().write(bytes)?;
                if taken == 0 {
                    break; // as much as may be ahead
                }
                advance(out, taken)?;
            }
        }
    }

    pub(super) async fn shutdown(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    /// Says that nothing more comes, as far as the socket takes it.
    pub(super) fn close(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = self.write(&mut VecDeque::new()); // the peer sees the end anyway
        }
    }
}

/// Reads once. Short of what there was room for, the socket has no more.
fn poll_fill(
    stream: &mut TcpStream,
    context: &mut Context<'_>,
    buffer: &mut BytesMut,
) -> Poll<io::Result<Read>> {
    ready!(stream.poll_read_ready(context))?;
    if buffer.capacity() - buffer.len() < ROOM / 4 {
        buffer.reserve(ROOM);
    }
    let room = buffer.capacity() - buffer.len();
    let n = ready!(pin!(stream.read_buf(buffer)).poll(context))?;
    Poll::Ready(Ok(match n {
        0 => Read::End,
        n if n < room => Read::Last,
        _ => Read::Bytes,
    }))
}

fn advance(out: &mut VecDeque<Bytes>, mut written: usize) -> io::Result<()> {
    if written == 0 {
        return Err(io::ErrorKind::WriteZero.into());
    }
    while let Some(first) = out.front_mut() {
        if first.len() > written {
            first.advance(written);
            break;
        }
        written -= first.len();
        out.pop_front();
    }
    Ok(())
}

struct Socket<'a>(&'a TcpStream);

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
