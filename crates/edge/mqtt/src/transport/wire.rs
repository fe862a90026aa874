//! The socket, and TLS where there is any: bytes in and out below everything else.

use std::io::{self, IoSlice};

use bytes::{Buf, BytesMut};
use tokio::net::TcpStream;

use super::out::{Out, SLICES};
use super::tls::Tls;

pub(super) struct Wire {
    pub(super) stream: TcpStream,
    /// Boxed: it is large, and most connections have none.
    pub(super) tls: Option<Box<Tls>>,
}

impl Wire {
    /// Writes as much as is taken; an error of kind `WouldBlock` leaves the rest there.
    pub(super) fn write_out(&mut self, out: &mut Out) -> io::Result<()> {
        self.flush()?;
        while !out.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let used = out.fill(&mut slices);
            let written = self.write(&slices[..used])?;
            out.advance(written);
        }
        Ok(())
    }

    /// As [`write_out`](Self::write_out), for one buffer, which is given back once it is empty.
    pub(super) fn write_bytes(&mut self, bytes: &mut BytesMut) -> io::Result<()> {
        self.flush()?;
        while !bytes.is_empty() {
            let written = self.write(&[IoSlice::new(bytes)])?;
            bytes.advance(written);
        }
        *bytes = BytesMut::new();
        Ok(())
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let written = match &mut self.tls {
            None => self.stream.try_write_vectored(slices)?,
            Some(tls) => {
                tls.write_to(&self.stream)?;
                let taken = tls.encrypt(slices)?;
                match tls.write_to(&self.stream) {
                    // What was taken counts as written; the next write meets the full socket.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => taken,
                    result => result.map(|()| taken)?,
                }
            }
        };
        match written {
            0 => Err(io::ErrorKind::WriteZero.into()),
            written => Ok(written),
        }
    }

    /// Writes what is encrypted already.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => tls.write_to(&self.stream),
            None => Ok(()),
        }
    }

    /// Whether something encrypted waits for the socket.
    pub(super) fn has_output(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.has_output())
    }
}
