//! The broker as its clients see it.
//!
//! ```text
//! tests/*.rs -> Broker (a real process) <- socket - Client (raw bytes, read and written by `wire`)
//!                                       <- socket - Paho, MQTT.js, rumqttc, gmqtt, mosquitto
//!               chaos: workload -> kill -> restart -> checker
//! ```
//!
//! `BIFRUST_E2E_TRANSPORT=tls` (or `ws`, `wss`) runs what speaks raw packets over that transport.
//!
//! Packets are built and read here a second time, apart from the broker's codec, so that an error
//! there cannot hide itself. Nothing here sleeps to synchronise: whoever waits, waits for a packet,
//! a closed socket, an ended process or a file, each with a deadline.

pub mod authority;
pub mod broker;
pub mod carrier;
pub mod chaos;
pub mod client;
pub mod fetch;
pub mod numbers;
pub mod peer;
pub mod secure;
pub mod websocket;
pub mod wire;

pub use broker::Broker;
pub use carrier::Carrier;
pub use client::{Client, Received};
pub use wire::{Ack, AckKind, Connect, Filter, Packet, Property, Publish, VERSIONS, Version, Will};
