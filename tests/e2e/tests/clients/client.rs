//! What all clients can be told to do, whatever they are.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bifrust_e2e::client::PATIENCE;
use bifrust_e2e::{Broker, Carrier};

use crate::matrix::Version;

/// What a client did not do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// CONNACK's code.
    Refused(u8),
    /// In words.
    Other(String),
}

/// What a step gives.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl fmt::Display for Failure {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(code) => write!(to, "refused with {code:#04x}"),
            Self::Other(why) => to.write_str(why),
        }
    }
}

/// A failure, in words.
pub(crate) fn fail<T>(why: impl Into<String>) -> Outcome<T> {
    Err(Failure::Other(why.into()))
}

/// Fails with both, unless they are equal.
pub(crate) fn same<T: fmt::Debug + PartialEq>(found: &T, expected: &T) -> Outcome {
    if found == expected {
        return Ok(());
    }
    fail(format!("{found:?} instead of {expected:?}"))
}

/// A message, on its way to or from the broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: u8,
    pub(crate) is_retained: bool,
    pub(crate) properties: Vec<(String, String)>,
}

impl Message {
    /// Of QoS 1.
    pub(crate) fn new(topic: impl Into<String>, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            topic: topic.into(),
            payload: payload.into(),
            qos: 1,
            ..Self::default()
        }
    }

    /// With this QoS.
    pub(crate) fn qos(mut self, qos: u8) -> Self {
        self.qos = qos;
        self
    }

    /// Retained.
    pub(crate) fn retained(mut self) -> Self {
        self.is_retained = true;
        self
    }

    /// The payload as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }
}

/// How a client connects.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    pub(crate) id: String,
    /// Its session stays, and is resumed.
    pub(crate) is_kept: bool,
    pub(crate) user: Option<(String, String)>,
    pub(crate) will: Option<Message>,
}

/// Where a client connects to.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) carrier: Carrier,
    pub(crate) version: Version,
    pub(crate) address: SocketAddr,
    /// Who signed the broker's certificate, as PEM.
    pub(crate) ca: PathBuf,
}

impl Place {
    /// At a broker that listens on every transport.
    pub(crate) fn at(broker: &Broker, carrier: Carrier, version: Version) -> Self {
        let address = match carrier {
            Carrier::Tcp => broker.tcp(),
            Carrier::Tls => broker.tls(),
            Carrier::Ws => broker.ws(),
            Carrier::Wss => broker.wss(),
        };
        Self {
            carrier,
            version,
            address,
            ca: broker.home().join("ca.pem"),
        }
    }
}

/// A program, or a library, that has clients.
pub(crate) trait Program {
    /// A client that is connected.
    fn open(&self, place: &Place, options: &Options) -> Outcome<Box<dyn Client>>;
    /// How many messages it publishes over one connection, which keeps their order.
    fn publishes_in_order(&self) -> usize {
        usize::MAX
    }
    /// Whether its DISCONNECT asks for the will, as 5.0 allows.
    fn goes_with_will(&self, _place: &Place) -> bool {
        false
    }
}

/// A client that is connected.
pub(crate) trait Client {
    /// Whether there was a session, where it says so.
    fn is_present(&self) -> Option<bool>;
    /// Subscribes; another QoS granted is a failure.
    fn subscribe(&mut self, filter: &str, qos: u8) -> Outcome;
    /// Takes a subscription back.
    fn unsubscribe(&mut self, filter: &str) -> Outcome;
    /// Publishes and waits for the end of the handshake.
    fn publish(&mut self, message: &Message) -> Outcome;
    /// The next message, if one comes within this.
    fn receive_within(&mut self, patience: Duration) -> Outcome<Option<Message>>;
    /// Says goodbye.
    fn disconnect(self: Box<Self>) -> Outcome;
    /// Ends as a failing network would.
    fn cut(self: Box<Self>) -> Outcome;
    /// Waits until the broker ends it.
    fn await_end(self: Box<Self>) -> Outcome;
}

impl dyn Client + '_ {
    /// The next message.
    pub(crate) fn receive(&mut self) -> Outcome<Message> {
        match self.receive_within(PATIENCE)? {
            Some(message) => Ok(message),
            None => fail("no message came"),
        }
    }

    /// These are the next messages, by their payloads.
    pub(crate) fn expect(&mut self, payloads: &[&str]) -> Outcome {
        for payload in payloads {
            same(&self.receive()?.text(), &(*payload).to_owned())?;
        }
        Ok(())
    }

    /// Subscribes and says which of the filters failed.
    pub(crate) fn subscribe_all(&mut self, filters: &[&str], qos: u8) -> Outcome {
        filters
            .iter()
            .try_for_each(|filter| self.subscribe(filter, qos))
    }
}
