//! MQTT packets to bytes and back, strict and without I/O.
//!
//! ```text
//! bytes -> peek -> Frame -> (caller checks limits) -> decode -> Packet
//! Packet -> encode -> bytes        PublishTemplate -> write, once per receiver -> bytes
//! ```
//!
//! Framing is apart from decoding, so that the caller refuses a packet by its announced length
//! before a byte of it is stored. Whatever a packet says is checked against the text of the
//! standard; whether it makes sense now (topic validity, state, permissions) is the caller's
//! business. Nothing here keeps state between packets, reads a clock or panics on peer input.
//!
//! ```
//! use bifrust_mqtt_codec::{Ack, Packet, PacketId, Version, decode, encode, peek};
//! use bytes::BytesMut;
//!
//! let ack = Packet::Puback(Ack::success(PacketId::new(7).ok_or("zero")?));
//! let mut wire = BytesMut::new();
//! encode(&ack, Version::V5, &mut wire)?;
//!
//! let frame = peek(&wire)?.ok_or("more bytes are needed")?;
//! let body = &wire[frame.header_len..frame.total_len()];
//! assert_eq!(decode(Version::V5, frame.first, body)?, ack);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod ack;
mod connack;
mod connect;
mod disconnect;
mod encode;
mod error;
mod forward;
mod frame;
#[doc(hidden)]
pub mod fuzz;
mod packet;
mod primitive;
mod properties;
mod publish;
mod reason;
mod subscribe;
mod template;
mod user;
mod varint;
mod wire;

#[cfg(test)]
mod tests;

pub use ack::{Ack, AckProperties};
pub use connack::{Connack, ConnackProperties};
pub use connect::{
    Connect, ConnectProperties, Will, connect_version, decode_connect, decode_connect_owned,
};
pub use disconnect::{Auth, AuthProperties, Disconnect, DisconnectProperties};
pub use encode::{encode, encode_within};
pub use error::{ConnectError, DecodeError, EncodeError};
pub use forward::{ForwardBuilder, ForwardProperties, ForwardProperty, validate_forward};
pub use frame::{Frame, PacketType, REMAINING_LENGTH_MAX, peek};
pub use packet::{Packet, PacketId, Qos, Version, decode, decode_owned};
pub use publish::{Publish, PublishProperties};
pub use reason::ReasonCode;
pub use subscribe::{
    RetainHandling, Suback, Subscribe, Subscription, SubscriptionOptions, Unsuback, Unsubscribe,
};
pub use template::{PublishHead, PublishTemplate, encode_publish};
pub use user::UserProperties;
