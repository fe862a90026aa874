//! One connection of a row: bytes out, whole packets in, each judged.

use std::io::ErrorKind;
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use bifrust_e2e::Carrier;
use bifrust_e2e::client::Transport;

use crate::bytes::{Pattern, bytes, hex, packet_len};
use crate::fields::Publish;

/// How long what is expected may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection. Its methods panic with all that went over it.
pub struct Peer {
    transport: Box<dyn Transport>,
    user: String,
    buffer: Vec<u8>,
    said: Vec<String>,
}

impl Peer {
    /// A connection over the transport under test, nothing sent yet.
    pub fn dial(address: SocketAddr, user: &str) -> Self {
        Self::over(Carrier::under_test().dial(address), user)
    }

    /// Over any transport.
    pub fn over(transport: Box<dyn Transport>, user: &str) -> Self {
        Self {
            transport,
            user: user.to_owned(),
            buffer: Vec::new(),
            said: Vec::new(),
        }
    }

    /// Sends bytes, in the notation of [`crate::bytes`].
    pub fn send(&mut self, text: &str) {
        let bytes = bytes(text, &self.user);
        self.send_raw(&bytes);
    }

    /// Sends these bytes.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.said.push(format!("> {}", hex(bytes)));
        if let Err(error) = self.transport.send(bytes) {
            self.fail(&format!("sending: {error}"));
        }
    }

    /// The next packet, whole; `None` at the end of the connection.
    pub fn packet(&mut self) -> Option<Vec<u8>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(length) = packet_len(&self.buffer) {
                let packet: Vec<u8> = self.buffer.drain(..length).collect();
                self.said.push(format!("< {}", hex(&packet)));
                return Some(packet);
            }
            let mut chunk = [0; 16 * 1024];
            match self.transport.receive(&mut chunk, deadline) {
                Ok(0) => return self.ended(),
                Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::TimedOut => {
                    self.fail("neither a packet nor the end came in time")
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.ended(),
            }
        }
    }

    fn ended(&mut self) -> Option<Vec<u8>> {
        if !self.buffer.is_empty() {
            let part = hex(&self.buffer);
            self.fail(&format!("the connection ended within a packet: {part}"));
        }
        self.said.push("< end".to_owned());
        None
    }

    /// The next packet is this one; its bytes.
    pub fn expect(&mut self, text: &str) -> Vec<u8> {
        self.expect_one(&[text])
    }

    /// The next packet is one of these.
    pub fn expect_one(&mut self, texts: &[&str]) -> Vec<u8> {
        let user = self.user.clone();
        let patterns = texts.iter().map(|text| Pattern::new(text, &user));
        let patterns: Vec<Pattern> = patterns.collect();
        let packet = self.packet();
        match packet {
            Some(packet) if patterns.iter().any(|pattern| pattern.fits(&packet)) => packet,
            _ => self.fail(&format!("expected: {}", texts.join(" or "))),
        }
    }

    /// Sends, then expects.
    pub fn ask(&mut self, send: &str, expect: &str) -> Vec<u8> {
        self.send(send);
        self.expect(expect)
    }

    /// These packets come next, in any order.
    pub fn expect_all(&mut self, texts: &[&str]) {
        let user = self.user.clone();
        let mut open: Vec<Pattern> = texts.iter().map(|t| Pattern::new(t, &user)).collect();
        while !open.is_empty() {
            let packet = self.packet().unwrap_or_default();
            match open.iter().position(|pattern| pattern.fits(&packet)) {
                Some(at) => drop(open.remove(at)),
                None => {
                    let left: Vec<&str> = open.iter().map(Pattern::text).collect();
                    self.fail(&format!("expected in any order: {}", left.join(", ")));
                }
            }
        }
    }

    /// The connection ends without another byte.
    pub fn expect_end(&mut self) {
        if self.packet().is_some() {
            self.fail("expected: the end, nothing before it");
        }
    }

    /// The end, at most one DISCONNECT with one of these codes before it (5.0).
    pub fn expect_dropped(&mut self, codes: &[u8]) {
        match self.packet() {
            None => {}
            Some(packet)
                if packet[0] == 0xE0 && packet.get(2).is_some_and(|c| codes.contains(c)) =>
            {
                self.expect_end();
            }
            Some(_) => self.fail(&format!("expected: DISCONNECT {} or the end", hex(codes))),
        }
    }

    /// DISCONNECT with this code, then the end (5.0).
    pub fn expect_disconnect(&mut self, code: u8) {
        self.expect(&format!("e0 [{code:02x} *]"));
        self.expect_end();
    }

    /// CONNACK with this code and no session, then the end.
    pub fn expect_refused(&mut self, code: u8) {
        self.expect(&format!("20 [00 {code:02x} *]"));
        self.expect_end();
    }

    /// CONNACK with one of these codes and no session, or nothing; then the end (5.0).
    pub fn expect_unconnected(&mut self, codes: &[u8]) {
        match self.packet() {
            None => {}
            Some(packet)
                if packet[0] == 0x20
                    && packet.get(2) == Some(&0)
                    && packet.get(3).is_some_and(|code| codes.contains(code)) =>
            {
                self.expect_end();
            }
            Some(_) => self.fail(&format!("expected: CONNACK {} or the end", hex(codes))),
        }
    }

    /// Sends a PUBLISH of 5.0 and goes through its exchange, which succeeds.
    pub fn publish(&mut self, text: &str) {
        let packet = bytes(text, &self.user);
        self.send_raw(&packet);
        let id = format!("{:04x}", Publish::of(&packet).id);
        // 0x10: nobody subscribes to it.
        let answers = |first: &str| {
            ["", "00", "10", "00 []", "10 []"].map(|code| format!("{first} [{id} {code}]"))
        };
        match packet[0] & 6 {
            0 => {}
            2 => drop(self.expect_one(&answers("40").each_ref().map(String::as_str))),
            _ => {
                self.expect_one(&answers("50").each_ref().map(String::as_str));
                self.send(&format!("62 [{id}]"));
                self.expect(&format!("70 [{id}]"));
            }
        }
    }

    /// A PINGREQ is answered, and nothing comes before the answer.
    pub fn ping(&mut self) {
        self.ask("c000", "d0 []");
    }

    /// DISCONNECT, and the end of the connection from the other side.
    pub fn leave(&mut self) {
        self.send("e000");
        self.expect_end();
    }

    /// Ends the connection as a network failure does.
    pub fn cut(self) {
        let _ = self.transport.socket().shutdown(Shutdown::Both); // it may be closed already
    }

    /// Fails with all that went over the connection.
    pub fn fail(&self, what: &str) -> ! {
        let from = self.said.len().saturating_sub(12);
        panic!("{what}\n      {}", self.said[from..].join("\n      "));
    }
}
