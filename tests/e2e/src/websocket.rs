//! A WebSocket client made of raw frames, so that tests choose how bytes are cut into them.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::client::Transport;

/// The first bits of a frame (RFC 6455, 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the standard's own names")]
pub enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

/// The answer to an upgrade request.
#[derive(Debug)]
pub struct Upgrade {
    /// The status code.
    pub status: u16,
    /// The head of the answer, in lower case.
    pub head: String,
}

impl Upgrade {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines
            .into_iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.trim())
    }
}

/// A WebSocket connection.
pub struct WebSocket {
    below: Box<dyn Transport>,
    raw: Vec<u8>,
    payload: Vec<u8>,
    close_code: Option<u16>,
    pongs: Vec<Vec<u8>>,
}

impl WebSocket {
    /// Asks for an upgrade at `path` with these sub-protocols (none: no such header).
    pub fn open(address: SocketAddr, path: &str, protocols: Option<&str>) -> (Self, Upgrade) {
        let stream = TcpStream::connect(address).expect("the WebSocket listener accepts");
        Self::over(Box::new(stream), address, path, protocols)
    }

    /// As [`open`](Self::open), over another transport.
    pub fn over(
        below: Box<dyn Transport>,
        address: SocketAddr,
        path: &str,
        protocols: Option<&str>,
    ) -> (Self, Upgrade) {
        Self::try_over(below, address, path, protocols).expect("an upgrade answer")
    }

    /// As [`over`](Self::over), or why nothing was answered.
    pub fn try_over(
        mut below: Box<dyn Transport>,
        address: SocketAddr,
        path: &str,
        protocols: Option<&str>,
    ) -> io::Result<(Self, Upgrade)> {
        let offer = protocols
            .map(|names| format!("Sec-WebSocket-Protocol: {names}\r\n"))
            .unwrap_or_default();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Version: 13\r\n{offer}\r\n"
        );
        below.send(request.as_bytes())?;
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut raw = Vec::new();
        let end = loop {
            if let Some(end) = raw.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            let mut chunk = [0; 2048];
            let count = below.receive(&mut chunk, deadline)?;
            if count == 0 {
                break raw.len();
            }
            raw.extend_from_slice(&chunk[..count]);
        };
        let rest = raw.split_off(end);
        let head = String::from_utf8_lossy(&raw).to_ascii_lowercase();
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .unwrap_or(0);
        let socket = Self {
            below,
            raw: rest,
            payload: Vec::new(),
            close_code: None,
            pongs: Vec::new(),
        };
        Ok((socket, Upgrade { status, head }))
    }

    /// Sends one frame.
    pub fn send_frame(&mut self, opcode: Opcode, is_last: bool, payload: &[u8]) -> io::Result<()> {
        self.below.send(&Self::frame(opcode, is_last, payload))
    }

    /// Sends bytes as they are, for several frames in one segment.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.below.send(bytes)
    }

    /// The bytes of one frame.
    pub fn frame(opcode: Opcode, is_last: bool, payload: &[u8]) -> Vec<u8> {
        let mask = [0x37, 0xFA, 0x21, 0x3D];
        let mut frame = vec![(u8::from(is_last) << 7) | opcode as u8];
        match payload.len() {
            length @ 0..=125 => frame.push(0x80 | length as u8),
            length @ 126..=0xFFFF => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&(length as u16).to_be_bytes());
            }
            length => {
                frame.push(0x80 | 127);
                frame.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(&mask);
        frame.extend(
            payload
                .iter()
                .zip(mask.iter().cycle())
                .map(|(byte, key)| byte ^ key),
        );
        frame
    }

    /// The status code of the close frame, once one came.
    pub fn close_code(&self) -> Option<u16> {
        self.close_code
    }

    /// The payloads of the pongs that came.
    pub fn pongs(&self) -> &[Vec<u8>] {
        &self.pongs
    }

    /// Takes whole frames out of what was read.
    fn unframe(&mut self) -> io::Result<()> {
        while let Some((opcode, header, length)) = frame_head(&self.raw) {
            if self.raw.len() < header + length {
                return Ok(());
            }
            let body: Vec<u8> = self.raw.drain(..header + length).skip(header).collect();
            match opcode {
                0 | 2 => self.payload.extend_from_slice(&body),
                8 => {
                    self.close_code = Some(
                        body.first_chunk()
                            .map_or(1005, |code| u16::from_be_bytes(*code)),
                    );
                }
                9 => self.send_frame(Opcode::Pong, true, &body)?,
                10 => self.pongs.push(body),
                other => return Err(io::Error::other(format!("frame of opcode {other}"))),
            }
        }
        Ok(())
    }
}

fn frame_head(raw: &[u8]) -> Option<(u8, usize, usize)> {
    let opcode = raw.first()? & 0x0F;
    Some(match raw.get(1)? & 0x7F {
        126 => (
            opcode,
            4,
            usize::from(u16::from_be_bytes(*raw.get(2..)?.first_chunk()?)),
        ),
        127 => {
            let length = u64::from_be_bytes(*raw.get(2..)?.first_chunk()?);
            (opcode, 10, usize::try_from(length).ok()?)
        }
        length => (opcode, 2, usize::from(length)),
    })
}

impl Transport for WebSocket {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.send_frame(Opcode::Binary, true, bytes)
    }

    fn receive(&mut self, into: &mut [u8], deadline: Instant) -> io::Result<usize> {
        loop {
            self.unframe()?;
            if !self.payload.is_empty() {
                let count = into.len().min(self.payload.len());
                into[..count].copy_from_slice(&self.payload[..count]);
                self.payload.drain(..count);
                return Ok(count);
            }
            let mut chunk = [0; 16 * 1024];
            let count = self.below.receive(&mut chunk, deadline)?;
            if count == 0 {
                return Ok(0);
            }
            self.raw.extend_from_slice(&chunk[..count]);
        }
    }

    fn socket(&self) -> &TcpStream {
        self.below.socket()
    }
}

impl Read for WebSocket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.receive(into, Instant::now() + Duration::from_secs(10))
    }
}
