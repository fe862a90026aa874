//! rumqttc, whose versions are two modules of the same shape. Each client has a thread that drives
//! its connection.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use bifrust_e2e::Carrier;
use bifrust_e2e::client::PATIENCE;
use rumqttc::{TlsConfiguration, Transport, v5};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::client::{Client, Failure, Message, Options, Outcome, Place, Program, fail, same};
use crate::matrix::Version;

/// The library.
pub(crate) struct Rumqttc;

impl Program for Rumqttc {
    fn open(&self, place: &Place, options: &Options) -> Outcome<Box<dyn Client>> {
        match place.version {
            Version::V5 => Five::open(place, options),
            _ => Three::open(place, options),
        }
    }
}

#[derive(Debug)]
enum Event {
    Connected(bool),
    Message(Message),
    Acknowledged,
    Subscribed(Option<u8>),
    Unsubscribed,
    Ended(Failure),
}

/// Larger than every message.
const MAX_PACKET: usize = 1 << 20;

/// The host as it takes it: a URL for WebSocket.
fn host(place: &Place) -> String {
    match place.carrier {
        Carrier::Tcp | Carrier::Tls => place.address.ip().to_string(),
        Carrier::Ws => format!("ws://{}/mqtt", place.address),
        Carrier::Wss => format!("wss://{}/mqtt", place.address),
    }
}

fn transport(place: &Place) -> Transport {
    match place.carrier {
        Carrier::Tcp => Transport::Tcp,
        Carrier::Tls => Transport::Tls(tls(place)),
        Carrier::Ws => Transport::Ws,
        Carrier::Wss => Transport::Wss(tls(place)),
    }
}

fn tls(place: &Place) -> TlsConfiguration {
    let pem = fs::read(&place.ca).expect("the broker's CA");
    let ca = CertificateDer::from_pem_slice(&pem).expect("PEM");
    let mut roots = RootCertStore::empty();
    roots.add(ca).expect("a CA");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has them");
    let config = builder.with_root_certificates(roots).with_no_client_auth();
    TlsConfiguration::Rustls(Arc::new(config))
}

macro_rules! client {
    (
        $name:ident, $($module:ident)::+, $packets:ident, $granted:pat => $qos:expr,
        $refused:pat => $code:expr, $configure:expr, $send:expr, $properties:expr
    ) => {
        struct $name {
            client: $($module)::+::Client,
            events: Receiver<Event>,
            early: Vec<Message>,
            is_present: bool,
            driver: Option<thread::JoinHandle<()>>,
            is_cut: Arc<AtomicBool>,
        }

        impl $name {
            fn open(place: &Place, options: &Options) -> Outcome<Box<dyn Client>> {
                let (id, port) = (options.id.clone(), place.address.port());
                let mut config = $($module)::+::MqttOptions::new(id, host(place), port);
                config.set_keep_alive(Duration::from_secs(30));
                config.set_transport(transport(place));
                if let Some((user, password)) = &options.user {
                    config.set_credentials(user.clone(), password.clone());
                }
                $configure(&mut config, options);
                let (client, mut connection) = $($module)::+::Client::new(config, 100);
                let (sender, events) = channel();
                let is_cut = Arc::new(AtomicBool::new(false));
                let is_over = Arc::clone(&is_cut);
                let driver = thread::spawn(move || {
                    for notice in connection.iter() {
                        if is_over.load(Ordering::Relaxed) {
                            return;
                        }
                        let Some(event) = Self::event(notice) else {
                            continue;
                        };
                        let is_last = matches!(event, Event::Ended(_)); // else it connects again
                        if sender.send(event).is_err() || is_last {
                            return;
                        }
                    }
                });
                let mut client = Self {
                    client,
                    events,
                    early: Vec::new(),
                    is_present: false,
                    driver: Some(driver),
                    is_cut,
                };
                if let Event::Connected(is_present) =
                    client.wait(|event| matches!(event, Event::Connected(_)))?
                {
                    client.is_present = is_present;
                }
                Ok(Box::new(client))
            }

            fn event(
                notice: Result<$($module)::+::Event, $($module)::+::ConnectionError>,
            ) -> Option<Event> {
                use $($module)::+::ConnectionError::ConnectionRefused;
                use $($module)::+::Event::Incoming;
                use $packets::Packet;
                Some(match notice {
                    Ok(Incoming(Packet::ConnAck(ack))) => Event::Connected(ack.session_present),
                    Ok(Incoming(Packet::Publish(publish))) => Event::Message(Message {
                        topic: String::from_utf8_lossy(publish.topic.as_ref()).into_owned(),
                        payload: publish.payload.to_vec(),
                        qos: publish.qos as u8,
                        is_retained: publish.retain,
                        properties: $properties(&publish),
                    }),
                    Ok(Incoming(Packet::PubAck(_) | Packet::PubComp(_))) => Event::Acknowledged,
                    Ok(Incoming(Packet::SubAck(ack))) => {
                        Event::Subscribed(match ack.return_codes.first() {
                            Some($granted) => Some($qos),
                            _ => None,
                        })
                    }
                    Ok(Incoming(Packet::UnsubAck(_))) => Event::Unsubscribed,
                    Ok(_) => return None,
                    Err(ConnectionRefused($refused)) => Event::Ended(Failure::Refused($code)),
                    Err(error) => Event::Ended(Failure::Other(error.to_string())),
                })
            }

            fn quality(qos: u8) -> $($module)::+::mqttbytes::QoS {
                $($module)::+::mqttbytes::qos(qos).expect("0 to 2")
            }

            /// Waits for the next event of this kind.
            fn wait(&mut self, is_it: impl Fn(&Event) -> bool) -> Outcome<Event> {
                loop {
                    match self.events.recv_timeout(PATIENCE) {
                        Ok(event) if is_it(&event) => return Ok(event),
                        Ok(Event::Ended(why)) => return Err(why),
                        Ok(Event::Message(message)) => self.early.push(message),
                        Ok(_) => {}
                        Err(_) => return fail("no answer in time"),
                    }
                }
            }

            fn join(&mut self) -> Outcome {
                match self.driver.take().map(thread::JoinHandle::join) {
                    Some(Err(_)) => fail("the driver panicked"),
                    _ => Ok(()),
                }
            }

            fn stop(&mut self) -> Outcome {
                self.is_cut.store(true, Ordering::Relaxed);
                // Wakes the driver, which returns and drops the socket before this is answered.
                let _ = self.client.try_subscribe("wake", Self::quality(0));
                self.join()
            }
        }

        impl Client for $name {
            fn is_present(&self) -> Option<bool> {
                Some(self.is_present)
            }

            fn subscribe(&mut self, filter: &str, qos: u8) -> Outcome {
                if self.client.subscribe(filter, Self::quality(qos)).is_err() {
                    return fail("the client has ended");
                }
                match self.wait(|event| matches!(event, Event::Subscribed(_)))? {
                    Event::Subscribed(granted) => same(&granted, &Some(qos)),
                    other => fail(format!("{other:?}")),
                }
            }

            fn unsubscribe(&mut self, filter: &str) -> Outcome {
                if self.client.unsubscribe(filter).is_err() {
                    return fail("the client has ended");
                }
                self.wait(|event| matches!(event, Event::Unsubscribed)).map(drop)
            }

            fn publish(&mut self, message: &Message) -> Outcome {
                $send(&self.client, message)?;
                if message.qos == 0 {
                    return Ok(());
                }
                self.wait(|event| matches!(event, Event::Acknowledged)).map(drop)
            }

            fn receive_within(&mut self, patience: Duration) -> Outcome<Option<Message>> {
                if !self.early.is_empty() {
                    return Ok(Some(self.early.remove(0)));
                }
                let deadline = Instant::now() + patience;
                loop {
                    let left = deadline.saturating_duration_since(Instant::now());
                    match self.events.recv_timeout(left) {
                        Ok(Event::Message(message)) => return Ok(Some(message)),
                        Ok(Event::Ended(why)) => return Err(why),
                        Ok(_) => {}
                        Err(RecvTimeoutError::Timeout) => return Ok(None),
                        Err(RecvTimeoutError::Disconnected) => return fail("the client has ended"),
                    }
                }
            }

            fn disconnect(mut self: Box<Self>) -> Outcome {
                if self.client.disconnect().is_err() {
                    return fail("the client has ended");
                }
                self.join()
            }

            fn cut(mut self: Box<Self>) -> Outcome {
                self.stop()
            }

            fn await_end(mut self: Box<Self>) -> Outcome {
                self.wait(|event| matches!(event, Event::Ended(_))).map(drop)
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                let _ = self.stop(); // the case is over
            }
        }
    };
}

client!(
    Three,
    rumqttc,
    rumqttc,
    rumqttc::SubscribeReasonCode::Success(qos) => *qos as u8,
    code => code as u8,
    |config: &mut rumqttc::MqttOptions, options: &Options| {
        config.set_clean_session(!options.is_kept);
        config.set_max_packet_size(MAX_PACKET, MAX_PACKET);
        if let Some(will) = &options.will {
            let (qos, retain) = (Three::quality(will.qos), will.is_retained);
            let payload = will.payload.clone();
            config.set_last_will(rumqttc::LastWill::new(&will.topic, payload, qos, retain));
        }
    },
    |client: &rumqttc::Client, message: &Message| {
        let (qos, payload) = (Three::quality(message.qos), message.payload.clone());
        match client.publish(&message.topic, qos, message.is_retained, payload) {
            Ok(()) => Ok(()),
            Err(error) => fail(error.to_string()),
        }
    },
    |_: &rumqttc::Publish| Vec::new()
);

mod five {
    pub(super) use rumqttc::v5::mqttbytes::v5::*;
}

client!(
    Five,
    v5,
    five,
    five::SubscribeReasonCode::Success(qos) => *qos as u8,
    code => match code {
        five::ConnectReturnCode::BadUserNamePassword => 0x86,
        _ => 0x80,
    },
    |config: &mut v5::MqttOptions, options: &Options| {
        config.set_clean_start(!options.is_kept);
        config.set_session_expiry_interval(options.is_kept.then_some(600));
        config.set_max_packet_size(u32::try_from(MAX_PACKET).ok());
        if let Some(will) = &options.will {
            let (qos, retain) = (Five::quality(will.qos), will.is_retained);
            let payload = will.payload.clone();
            let will = five::LastWill::new(&will.topic, payload, qos, retain, None);
            config.set_last_will(will);
        }
    },
    |client: &v5::Client, message: &Message| {
        let (qos, payload) = (Five::quality(message.qos), message.payload.clone());
        let properties = five::PublishProperties {
            user_properties: message.properties.clone(),
            ..five::PublishProperties::default()
        };
        let topic = message.topic.clone();
        let is_retained = message.is_retained;
        match client.publish_with_properties(topic, qos, is_retained, payload, properties) {
            Ok(()) => Ok(()),
            Err(error) => fail(error.to_string()),
        }
    },
    |publish: &five::Publish| {
        let properties = publish.properties.clone();
        properties.map(|properties| properties.user_properties).unwrap_or_default()
    }
);
