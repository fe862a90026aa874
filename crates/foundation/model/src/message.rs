//! Application messages on their way from a publisher to its receivers.

use bytes::Bytes;

use crate::{ClientId, Hlc, Qos, Topic};

/// An application message. Cloning shares topic, payload and properties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where it was published.
    pub topic: Topic,
    /// What it says.
    pub payload: Bytes,
    /// The QoS it was published with.
    pub qos: Qos,
    /// Whether it was published with RETAIN.
    pub retain: bool,
    /// When the accepting node took it; later publishes of one node have later stamps.
    pub stamp: Hlc,
    /// Message expiry interval in seconds, counted from `stamp`.
    pub expiry_seconds: Option<u32>,
    /// The MQTT 5.0 properties that are passed on unaltered, in wire format and order: payload
    /// format, content type, response topic, correlation data, user properties. Empty for v3.
    pub properties: Bytes,
    /// Who published it, for no-local.
    pub publisher: ClientId,
}

/// What is left of a message's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// It has no expiry.
    Never,
    /// Seconds left, at least 1.
    Left(u32),
    /// It must not be delivered any more (MQTT-3.3.2-5).
    Expired,
}

impl Message {
    /// When it expires, in milliseconds since 1970.
    pub fn expires_ms(&self) -> Option<u64> {
        let seconds = u64::from(self.expiry_seconds?);
        Some(self.stamp.millis() + seconds * 1000)
    }

    /// What is left of its life at `now_ms` since 1970 (MQTT-3.3.2-6).
    pub fn expiry(&self, now_ms: u64) -> Expiry {
        let (Some(seconds), Some(end_ms)) = (self.expiry_seconds, self.expires_ms()) else {
            return Expiry::Never;
        };
        match end_ms.checked_sub(now_ms) {
            None | Some(0) => Expiry::Expired,
            // Rounded up, and never more than the publisher asked for.
            Some(left_ms) => Expiry::Left(
                u32::try_from(left_ms.div_ceil(1000))
                    .unwrap_or(seconds)
                    .min(seconds),
            ),
        }
    }

    /// Bytes it weighs against queue bounds.
    pub fn weight(&self) -> usize {
        self.topic.as_str().len() + self.payload.len() + self.properties.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(expiry_seconds: Option<u32>) -> Message {
        Message {
            topic: Topic::new("t".into()).unwrap(),
            payload: Bytes::new(),
            qos: Qos::AtMostOnce,
            retain: false,
            stamp: Hlc::from_millis(10_000),
            expiry_seconds,
            properties: Bytes::new(),
            publisher: ClientId::new("c").unwrap(),
        }
    }

    #[test]
    fn expiry_counts_down_and_ends() {
        assert_eq!(message(None).expiry(u64::MAX), Expiry::Never);
        let short = message(Some(2));
        assert_eq!(short.expiry(10_000), Expiry::Left(2));
        assert_eq!(short.expiry(9_000), Expiry::Left(2));
        assert_eq!(short.expiry(11_500), Expiry::Left(1));
        assert_eq!(short.expiry(12_000), Expiry::Expired);
        assert_eq!(message(Some(0)).expiry(10_000), Expiry::Expired);
    }
}
