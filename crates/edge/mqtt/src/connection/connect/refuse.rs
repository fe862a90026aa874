//! CONNECT is refused: why, and what the client is told.

use bifrust_model::EventKind;
use bifrust_mqtt_codec::{Connack, ConnackProperties, DecodeError, Packet, ReasonCode, Version};

use crate::connection::{Ending, read};
use crate::mailbox::Seat;
use crate::shard::Shard;

/// Why a CONNECT is refused.
pub(super) struct Refused {
    pub(super) reason: ReasonCode,
    pub(super) event: EventKind,
    pub(super) detail: String,
    pub(super) reference: Option<String>,
}

impl Refused {
    pub(super) fn new(reason: ReasonCode, event: EventKind, detail: impl Into<String>) -> Self {
        Self {
            reason,
            event,
            detail: detail.into(),
            reference: None,
        }
    }
}

impl Shard {
    /// A CONNECT that does not decode gets an answer only if there is one that its sender
    /// understands.
    pub(super) fn refuse_bytes(
        &mut self,
        seat: Seat,
        version: Option<Version>,
        error: &DecodeError,
    ) -> Result<(), Ending> {
        let version = match (version, error) {
            // MQTT-3.1.2-2: the answer is in a version that it may know.
            (None, DecodeError::UnsupportedVersion { level }) if *level > 5 => Version::V5,
            (None, DecodeError::UnsupportedVersion { .. }) => Version::V311,
            (Some(version), _) => version,
            (None, _) => return Err(read::malformed(error)),
        };
        let is_version = matches!(error, DecodeError::UnsupportedVersion { .. });
        if version != Version::V5 && !is_version {
            // 3.1.1, 3.1.4: closed without CONNACK.
            return Err(read::malformed(error));
        }
        if let Some(connection) = self.connection(seat) {
            connection.version = version;
        }
        let event = match is_version {
            true => EventKind::UnacceptedProtocolVer,
            false => EventKind::ProtocolError,
        };
        self.refuse(
            seat,
            &Refused::new(error.reason(), event, error.to_string()),
        )
    }

    /// CONNACK with a reason, then the end.
    pub(super) fn refuse(&mut self, seat: Seat, refused: &Refused) -> Result<(), Ending> {
        let mut connack = Connack::refusal(refused.reason);
        let is_v5 = self
            .connection(seat)
            .is_some_and(|connection| connection.is_v5());
        if is_v5 {
            // What a provider says about its own failure is for the operator.
            let is_public = refused.event != EventKind::AuthError;
            connack.properties = Some(Box::new(ConnackProperties {
                reason_string: is_public.then(|| refused.detail.as_str().into()),
                server_reference: refused.reference.clone().map(Into::into),
                ..ConnackProperties::default()
            }));
        }
        self.send_packet(seat, &Packet::Connack(connack));
        Err(Ending::silent(refused.event, refused.detail.clone()))
    }

    pub(super) fn refuse_and_end(&mut self, seat: Seat, refused: &Refused) {
        if let Err(ending) = self.refuse(seat, refused) {
            self.end(seat, ending);
        }
    }
}
