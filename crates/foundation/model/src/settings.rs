//! Settings of a tenant: names as operators write them, defaults, ranges.

use std::ops::RangeInclusive;

/// Bounds of topic names and filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicLimits {
    /// `MaxTopicLength`, bytes.
    pub length: usize,
    /// `MaxTopicLevels`.
    pub levels: usize,
    /// `MaxTopicLevelLength`, bytes.
    pub level_length: usize,
}

/// `ForbiddenPublishV3`: what a v3 client gets that publishes where it may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ForbiddenPublish {
    /// The connection is closed, with an event.
    Close,
    /// The publish is acknowledged and dropped, with an event.
    Ack,
}

/// `Durability`: what an acknowledgement of a durable message waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// Synced to disk on a quorum.
    QuorumFsync,
    /// In the memory of a quorum.
    QuorumMemory,
    /// In the memory of the leader.
    LeaderMemory,
}

/// Why a setting was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// Outside its range.
    #[error("{name} is {value}, allowed is {min} to {max}")]
    OutOfRange {
        /// The setting's name.
        name: &'static str,
        /// What was asked for.
        value: u64,
        /// Lowest value allowed.
        min: u64,
        /// Highest value allowed.
        max: u64,
    },
    /// Two settings contradict each other.
    #[error("{lower} is above {upper}")]
    Contradiction {
        /// The setting that must not be above.
        lower: &'static str,
        /// The setting it is compared with.
        upper: &'static str,
    },
}

macro_rules! settings {
    ($($(#[$attribute:meta])+ $field:ident: $kind:ty = $default:expr $(, $range:expr)?;)+) => {
        /// All settings of one tenant, as a snapshot: read through it, never one by one over time.
        #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
        pub struct Settings {
            $($(#[$attribute])+ pub $field: $kind,)+
        }

        impl Default for Settings {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        impl Settings {
            /// Checks every range, then what concerns two settings.
            pub fn check(&self) -> Result<(), SettingError> {
                $($(check_range(stringify!($field), u64::from(self.$field), $range)?;)?)+
                self.check_pairs()
            }
        }
    };
}

settings! {
    /// Accept MQTT 3.1.
    #[serde(rename = "MQTT3Enabled")]
    mqtt3_enabled: bool = true;
    /// Accept MQTT 3.1.1.
    #[serde(rename = "MQTT4Enabled")]
    mqtt4_enabled: bool = true;
    /// Accept MQTT 5.0.
    #[serde(rename = "MQTT5Enabled")]
    mqtt5_enabled: bool = true;
    /// Bytes of a topic name or filter.
    max_topic_length: u32 = 4096, 1..=16_384;
    /// Levels of a topic name or filter.
    max_topic_levels: u32 = 256, 1..=1024;
    /// Bytes of one level.
    max_topic_level_length: u32 = 4096, 1..=16_384;
    /// Bytes of a client id.
    max_client_id_length: u32 = 1024, 23..=8192;
    /// Bytes of a whole packet, both ways.
    max_user_payload_bytes: u32 = 1 << 20, 1 << 10..=256 << 20;
    /// Bytes of a will.
    max_last_will_bytes: u32 = 64 << 10, 1..=256 << 20;
    /// Filters in one SUBSCRIBE or UNSUBSCRIBE.
    max_topic_filters_per_sub: u32 = 1000, 1..=65_535;
    /// Subscriptions of one session.
    max_topic_filters_per_inbox: u32 = 10_000, 1..=1_000_000;
    /// Publishes per second and connection above which reading slows; 0 is off.
    msg_pub_per_sec: u32 = 0, 0..=1_000_000;
    /// Bytes per second read from a connection; 0 is off.
    in_bound_band_width: u64 = 0, 0..=1 << 40;
    /// Bytes per second written to a connection; 0 is off.
    out_bound_band_width: u64 = 0, 0..=1 << 40;
    /// QoS 1 and 2 publishes of a client in flight to us.
    receiving_maximum: u32 = 1000, 1..=65_535;
    /// Messages in flight to a v3 client; a v5 client says its own limit.
    max_inflight: u32 = 128, 1..=65_535;
    /// Accepted and ignored: nothing is resent on a live connection.
    max_resend_times: u32 = 3;
    /// Accepted and ignored: nothing is resent on a live connection.
    resend_timeout_seconds: u32 = 10;
    /// Accepted and ignored: it may not override the client.
    min_send_per_sec: u32 = 8;
    /// Messages queued for one session.
    session_inbox_size: u32 = 10_000, 1..=10_000_000;
    /// Bytes queued for one session.
    session_inbox_bytes: u64 = 64 << 20, 64 << 10..=16 << 30;
    /// Queue QoS 0 messages for an offline persistent session.
    #[serde(rename = "QoS0OfflineQueue")]
    qos0_offline_queue: bool = true;
    /// When the queue is full, drop the oldest QoS 0 message instead of the newest.
    #[serde(rename = "QoS0DropOldest")]
    qos0_drop_oldest: bool = false;
    /// Upper clamp of a session's expiry.
    max_session_expiry_seconds: u32 = 604_800;
    /// Lower clamp of a session's expiry unless it is 0.
    min_session_expiry_seconds: u32 = 0;
    /// Expiry of a v3 session with clean session 0.
    #[serde(rename = "V3SessionExpirySeconds")]
    v3_session_expiry_seconds: u32 = 604_800;
    /// Lower clamp of the keep alive unless it is 0.
    min_keep_alive_seconds: u32 = 0, 0..=65_535;
    /// Upper clamp of a v5 client's keep alive; 0 is no cap.
    max_keep_alive_seconds: u32 = 0, 0..=65_535;
    /// Retained messages sent for one subscription; none is unlimited.
    #[serde(with = "optional_limit")]
    retain_message_match_limit: Option<u32> = None;
    /// Topic aliases a client may use, and the cap of those we use.
    max_topic_alias: u32 = 32, 0..=65_535;
    /// Members of one shared group.
    max_shared_group_members: u32 = 1000, 1..=100_000;
    /// Shared groups served per published topic.
    max_group_fanout: u32 = 1000, 1..=100_000;
    /// Treat an error of the permission check as allowed.
    by_pass_perm_check_error: bool = false;
    /// Drop wills when the node stops gracefully.
    #[serde(rename = "NoLWTWhenServerShuttingDown")]
    no_lwt_when_server_shutting_down: bool = false;
    /// Check payloads that say they are UTF-8.
    payload_format_validation_enabled: bool = true;
    /// What a v3 client gets that publishes where it may not.
    #[serde(rename = "ForbiddenPublishV3")]
    forbidden_publish_v3: ForbiddenPublish = ForbiddenPublish::Close;
    /// What an acknowledgement of a durable message waits for.
    durability: Durability = Durability::QuorumFsync;
    /// Emit the chatty events.
    debug_mode_enabled: bool = false;
    /// No persistent sessions at all.
    force_transient: bool = false;
    /// Retained messages allowed.
    retain_enabled: bool = true;
    /// Filters with wildcards allowed.
    wildcard_subscription_enabled: bool = true;
    /// Subscription identifiers allowed.
    subscription_identifier_enabled: bool = true;
    /// Shared subscriptions allowed.
    shared_subscription_enabled: bool = true;
    /// Highest QoS to publish with.
    #[serde(rename = "MaximumQoS")]
    maximum_qos: u32 = 2, 0..=2;
    /// Persistent routes served per published topic.
    max_persistent_fanout: u32 = i32::MAX as u32, 1..=i32::MAX as u64;
}

impl Settings {
    /// The bounds of topic names and filters.
    pub fn topic_limits(&self) -> TopicLimits {
        TopicLimits {
            length: self.max_topic_length as usize,
            levels: self.max_topic_levels as usize,
            level_length: self.max_topic_level_length as usize,
        }
    }

    /// A session's expiry in seconds within the tenant's clamps; `u32::MAX` never ends.
    pub fn clamp_session_expiry(&self, asked: u32) -> u32 {
        if asked == 0 || self.force_transient {
            return 0;
        }
        asked
            .max(self.min_session_expiry_seconds)
            .min(self.max_session_expiry_seconds)
    }

    fn check_pairs(&self) -> Result<(), SettingError> {
        if self.max_last_will_bytes > self.max_user_payload_bytes {
            return Err(SettingError::Contradiction {
                lower: "MaxLastWillBytes",
                upper: "MaxUserPayloadBytes",
            });
        }
        if self.min_session_expiry_seconds > self.max_session_expiry_seconds {
            return Err(SettingError::Contradiction {
                lower: "MinSessionExpirySeconds",
                upper: "MaxSessionExpirySeconds",
            });
        }
        if self.max_keep_alive_seconds != 0
            && self.min_keep_alive_seconds > self.max_keep_alive_seconds
        {
            return Err(SettingError::Contradiction {
                lower: "MinKeepAliveSeconds",
                upper: "MaxKeepAliveSeconds",
            });
        }
        match self.retain_message_match_limit {
            Some(limit) => check_range("RetainMessageMatchLimit", limit.into(), 1..=1 << 31),
            None => Ok(()),
        }
    }
}

fn check_range(
    field: &'static str,
    value: u64,
    range: RangeInclusive<u64>,
) -> Result<(), SettingError> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(SettingError::OutOfRange {
        name: field,
        value,
        min: *range.start(),
        max: *range.end(),
    })
}

/// `"none"` or a number.
mod optional_limit {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Deserialize, Serialize)]
    #[serde(untagged)]
    enum Limit {
        Number(u32),
        Word(String),
    }

    pub(super) fn serialize<S: Serializer>(
        limit: &Option<u32>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match limit {
            Some(number) => Limit::Number(*number).serialize(serializer),
            None => Limit::Word("none".to_owned()).serialize(serializer),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<u32>, D::Error> {
        match Limit::deserialize(deserializer)? {
            Limit::Number(number) => Ok(Some(number)),
            Limit::Word(word) if word == "none" => Ok(None),
            Limit::Word(word) => Err(D::Error::custom(format!("{word:?}: a number or \"none\""))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_within_their_ranges() {
        assert_eq!(Settings::default().check(), Ok(()));
    }

    #[test]
    fn a_value_out_of_range_names_the_setting() {
        let settings = Settings {
            max_client_id_length: 22,
            ..Settings::default()
        };
        let error = settings.check().unwrap_err();
        assert_eq!(
            error.to_string(),
            "max_client_id_length is 22, allowed is 23 to 8192"
        );
    }

    #[test]
    fn contradictions_are_found() {
        let settings = Settings {
            max_last_will_bytes: 2 << 20,
            ..Settings::default()
        };
        assert!(matches!(
            settings.check(),
            Err(SettingError::Contradiction { .. })
        ));
    }

    #[test]
    fn session_expiry_is_clamped_but_zero_stays() {
        let settings = Settings {
            min_session_expiry_seconds: 60,
            ..Settings::default()
        };
        assert_eq!(settings.clamp_session_expiry(0), 0);
        assert_eq!(settings.clamp_session_expiry(5), 60);
        assert_eq!(settings.clamp_session_expiry(u32::MAX), 604_800);
    }
}
