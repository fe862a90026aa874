//! rumqttc, of both versions, through the scenarios that the other real clients pass.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use bifrust_e2e::Broker;
use bifrust_e2e::client::{PATIENCE, SILENCE};

/// What a scenario needs of a client of either version.
trait Client: Sized {
    fn open(broker: &Broker, options: &Options) -> Self;
    fn is_present(&self) -> bool;
    fn subscribe(&self, filter: &str, qos: u8);
    /// Publishes and waits for the end of the handshake.
    fn publish(&self, topic: &str, payload: &str, qos: u8, retain: bool);
    fn events(&self) -> &Receiver<Event>;
    /// Says goodbye and waits for the end.
    fn disconnect(self);
    /// Stops without a word.
    fn cut(self);

    fn receive(&self) -> (String, u8, bool) {
        loop {
            match self
                .events()
                .recv_timeout(PATIENCE)
                .expect("a message in time")
            {
                Event::Message {
                    payload,
                    qos,
                    retain,
                } => return (payload, qos, retain),
                Event::Acknowledged | Event::Subscribed => {}
                Event::Ended(why) => panic!("the connection ended: {why}"),
            }
        }
    }

    fn expect(&self, payloads: &[&str]) {
        for payload in payloads {
            assert_eq!(self.receive().0, *payload);
        }
    }

    fn expect_silence(&self) {
        loop {
            match self.events().recv_timeout(SILENCE) {
                Ok(Event::Acknowledged | Event::Subscribed) => {}
                Err(RecvTimeoutError::Timeout) => return,
                other => panic!("nothing expected, got {other:?}"),
            }
        }
    }

    fn expect_end(&self) -> String {
        loop {
            if let Event::Ended(why) = self.events().recv_timeout(PATIENCE).expect("an end") {
                return why;
            }
        }
    }
}

#[derive(Debug)]
enum Event {
    Message {
        payload: String,
        qos: u8,
        retain: bool,
    },
    Acknowledged,
    Subscribed,
    Ended(String),
}

#[derive(Clone, Default)]
struct Options {
    id: String,
    is_persistent: bool,
    user: Option<String>,
    will: Option<(String, String, u8, bool)>,
}

fn plain(id: &str) -> Options {
    Options {
        id: id.to_owned(),
        ..Options::default()
    }
}

fn kept(id: &str) -> Options {
    Options {
        is_persistent: true,
        ..plain(id)
    }
}

macro_rules! client {
    ($name:ident, $($module:ident)::+, $packet:path, $configure:expr) => {
        struct $name {
            client: $($module)::+::Client,
            events: Receiver<Event>,
            is_present: bool,
            driver: thread::JoinHandle<()>,
            stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
        }

        impl $name {
            fn quality(qos: u8) -> $($module)::+::mqttbytes::QoS {
                $($module)::+::mqttbytes::qos(qos).expect("0 to 2")
            }

            /// Waits for the next event of this kind; messages before it are none of these tests.
            fn wait(&self, is_it: impl Fn(&Event) -> bool) {
                loop {
                    let event = self.events.recv_timeout(PATIENCE).expect("an answer in time");
                    if is_it(&event) {
                        return;
                    }
                    assert!(!matches!(event, Event::Ended(_)), "{event:?}");
                }
            }
        }

        impl Client for $name {
            fn open(broker: &Broker, options: &Options) -> Self {
                let address = broker.tcp();
                let mut config = $($module)::+::MqttOptions::new(
                    options.id.clone(),
                    address.ip().to_string(),
                    address.port(),
                );
                config.set_keep_alive(Duration::from_secs(30));
                if let Some(user) = &options.user {
                    config.set_credentials(user.clone(), "unused");
                }
                $configure(&mut config, options);
                let (client, mut connection) = $($module)::+::Client::new(config, 100);
                let (sender, events) = channel();
                let (greeted, greeting) = channel();
                let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
                let stopped = std::sync::Arc::clone(&stop);
                let driver = thread::spawn(move || {
                    use $packet as Packet;
                    use $($module)::+::Event as Wire;
                    for notice in connection.iter() {
                        if stopped.load(std::sync::atomic::Ordering::Relaxed) {
                            return;
                        }
                        let event = match notice {
                            Ok(Wire::Incoming(Packet::ConnAck(ack))) => {
                                let _ = greeted.send(ack.session_present); // the test may be over
                                continue;
                            }
                            Ok(Wire::Incoming(Packet::Publish(publish))) => Event::Message {
                                payload: String::from_utf8_lossy(&publish.payload).into_owned(),
                                qos: publish.qos as u8,
                                retain: publish.retain,
                            },
                            Ok(Wire::Incoming(Packet::PubAck(_) | Packet::PubComp(_))) => {
                                Event::Acknowledged
                            }
                            Ok(Wire::Incoming(Packet::SubAck(_))) => Event::Subscribed,
                            Ok(_) => continue,
                            Err(error) => {
                                // It would connect again by itself.
                                let _ = sender.send(Event::Ended(error.to_string()));
                                return;
                            }
                        };
                        if sender.send(event).is_err() {
                            return;
                        }
                    }
                });
                let is_present = greeting.recv_timeout(PATIENCE).expect("CONNACK in time");
                Self { client, events, is_present, driver, stop }
            }

            fn is_present(&self) -> bool {
                self.is_present
            }

            fn subscribe(&self, filter: &str, qos: u8) {
                self.client.subscribe(filter, Self::quality(qos)).expect("the client runs");
                self.wait(|event| matches!(event, Event::Subscribed));
            }

            fn publish(&self, topic: &str, payload: &str, qos: u8, retain: bool) {
                let payload = payload.as_bytes().to_vec();
                let qos_wire = Self::quality(qos);
                self.client.publish(topic, qos_wire, retain, payload).expect("the client runs");
                if qos > 0 {
                    self.wait(|event| matches!(event, Event::Acknowledged));
                }
            }

            fn events(&self) -> &Receiver<Event> {
                &self.events
            }

            fn disconnect(self) {
                self.client.disconnect().expect("the client runs");
                self.driver.join().expect("the driver ends with the connection");
            }

            fn cut(self) {
                self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
                // Wakes the driver, which returns and drops the socket before this is answered.
                let _ = self.client.subscribe("wake", Self::quality(0));
                self.driver.join().expect("the driver ends");
            }
        }
    };
}

client!(
    Three,
    rumqttc,
    rumqttc::Packet,
    |config: &mut rumqttc::MqttOptions, options: &Options| {
        config.set_clean_session(!options.is_persistent);
        if let Some((topic, payload, qos, retain)) = &options.will {
            let qos = Three::quality(*qos);
            config.set_last_will(rumqttc::LastWill::new(
                topic,
                payload.as_bytes(),
                qos,
                *retain,
            ));
        }
    }
);

client!(
    Five,
    rumqttc::v5,
    rumqttc::v5::mqttbytes::v5::Packet,
    |config: &mut rumqttc::v5::MqttOptions, options: &Options| {
        config.set_clean_start(!options.is_persistent);
        config.set_session_expiry_interval(options.is_persistent.then_some(600));
        if let Some((topic, payload, qos, retain)) = &options.will {
            let qos = Five::quality(*qos);
            let payload = payload.as_bytes().to_vec();
            let will =
                rumqttc::v5::mqttbytes::v5::LastWill::new(topic, payload, qos, *retain, None);
            config.set_last_will(will);
        }
    }
);

fn scenarios<C: Client>() {
    let all: [fn(&Broker); 7] = [
        qos::<C>,
        retained::<C>,
        will::<C>,
        persistent::<C>,
        takeover::<C>,
        overlap::<C>,
        tenants::<C>,
    ];
    for scenario in all {
        scenario(&Broker::start());
    }
}

fn qos<C: Client>(broker: &Broker) {
    let (reader, writer) = (
        C::open(broker, &plain("reader")),
        C::open(broker, &plain("writer")),
    );
    for granted in 0..=2 {
        let topic = format!("q/{granted}");
        reader.subscribe(&topic, granted);
        for published in 0..=2 {
            for index in 0..20 {
                writer.publish(&topic, &format!("{published} {index}"), published, false);
            }
            for index in 0..20 {
                let expected = (
                    format!("{published} {index}"),
                    granted.min(published),
                    false,
                );
                assert_eq!(reader.receive(), expected);
            }
        }
    }
}

fn retained<C: Client>(broker: &Broker) {
    let writer = C::open(broker, &plain("writer"));
    writer.publish("r/a", "old", 1, true);
    writer.publish("r/a", "new", 2, true);
    writer.publish("r/b", "other", 1, true);
    let reader = C::open(broker, &plain("reader"));
    reader.subscribe("r/a", 1);
    assert_eq!(reader.receive(), ("new".to_owned(), 1, true));
    writer.publish("r/a", "", 1, true);
    reader.expect(&[""]);
    let late = C::open(broker, &plain("late"));
    late.subscribe("r/+", 1);
    late.expect(&["other"]);
    late.expect_silence();
}

fn will<C: Client>(broker: &Broker) {
    let watcher = C::open(broker, &plain("watcher"));
    watcher.subscribe("w/#", 2);
    for qos in 0..=2 {
        let will = Some(("w/x".to_owned(), format!("gone {qos}"), qos, false));
        C::open(
            broker,
            &Options {
                will,
                ..plain("dying")
            },
        )
        .cut();
        assert_eq!(watcher.receive(), (format!("gone {qos}"), qos, false));
    }
    let will = Some(("w/x".to_owned(), "never".to_owned(), 1, false));
    C::open(
        broker,
        &Options {
            will,
            ..plain("polite")
        },
    )
    .disconnect();
    watcher.expect_silence();
}

fn persistent<C: Client>(broker: &Broker) {
    let reader = C::open(broker, &kept("kept"));
    assert!(!reader.is_present());
    reader.subscribe("p", 2);
    reader.disconnect();
    let writer = C::open(broker, &plain("writer"));
    for index in 0..50 {
        writer.publish("p", &index.to_string(), 2, false);
    }
    let reader = C::open(broker, &kept("kept"));
    assert!(reader.is_present());
    for index in 0..50 {
        assert_eq!(reader.receive().0, index.to_string());
    }
    reader.expect_silence();
    reader.disconnect();
    let fresh = C::open(broker, &plain("kept"));
    assert!(!fresh.is_present());
    writer.publish("p", "nobody", 2, false);
    fresh.expect_silence();
}

fn takeover<C: Client>(broker: &Broker) {
    let older = C::open(broker, &kept("same"));
    older.subscribe("t", 1);
    let newer = C::open(broker, &kept("same"));
    assert!(newer.is_present());
    older.expect_end();
    let writer = C::open(broker, &plain("writer"));
    writer.publish("t", "x", 1, false);
    newer.expect(&["x"]);
    newer.expect_silence();
}

fn overlap<C: Client>(broker: &Broker) {
    let (client, writer) = (
        C::open(broker, &plain("over")),
        C::open(broker, &plain("writer")),
    );
    client.subscribe("o/#", 0);
    client.subscribe("o/+/x", 2);
    client.subscribe("o/a/x", 1);
    writer.publish("o/a/x", "once", 2, false);
    assert_eq!(client.receive(), ("once".to_owned(), 2, false));
    client.expect_silence();
}

fn tenants<C: Client>(broker: &Broker) {
    let of = |tenant: &str, id: &str| {
        C::open(
            broker,
            &Options {
                user: Some(format!("{tenant}/u")),
                ..plain(id)
            },
        )
    };
    let (red, blue) = (of("red", "same"), of("blue", "same"));
    let (red_writer, blue_writer) = (of("red", "writer"), of("blue", "writer"));
    red.subscribe("t/#", 2);
    blue.subscribe("t/#", 2);
    red_writer.publish("t/x", "red", 2, false);
    blue_writer.publish("t/x", "blue", 2, false);
    red.expect(&["red"]);
    blue.expect(&["blue"]);
    red.expect_silence();
    blue.expect_silence();
}

#[test]
fn rumqttc_v3() {
    scenarios::<Three>();
}

#[test]
fn rumqttc_v5() {
    scenarios::<Five>();
}
