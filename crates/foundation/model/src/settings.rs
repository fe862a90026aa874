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

/// What a setting takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingTakes {
    /// `true` or `false`.
    Switch,
    /// A whole number.
    Number(RangeInclusive<u64>),
    /// A whole number, or `"none"` for no limit.
    Limit(RangeInclusive<u64>),
    /// One of these words.
    Word(&'static [&'static str]),
}

/// A setting as operators meet it.
#[derive(Clone, Debug)]
pub struct KnownSetting {
    /// Its name in config files.
    pub name: &'static str,
    /// What it takes.
    pub takes: SettingTakes,
    /// What it is for.
    pub help: &'static str,
}

/// A type that settings have.
trait Value {
    fn takes(range: Option<RangeInclusive<u64>>) -> SettingTakes;

    /// The number that the range is about, if there is one.
    fn number(&self) -> Option<u64> {
        None
    }
}

impl Value for bool {
    fn takes(_range: Option<RangeInclusive<u64>>) -> SettingTakes {
        SettingTakes::Switch
    }
}

impl Value for u32 {
    fn takes(range: Option<RangeInclusive<u64>>) -> SettingTakes {
        SettingTakes::Number(range.unwrap_or_else(|| 0..=Self::MAX.into()))
    }

    fn number(&self) -> Option<u64> {
        Some((*self).into())
    }
}

impl Value for u64 {
    fn takes(range: Option<RangeInclusive<u64>>) -> SettingTakes {
        // TOML's whole numbers end there.
        SettingTakes::Number(range.unwrap_or(0..=i64::MAX as Self))
    }

    fn number(&self) -> Option<u64> {
        Some(*self)
    }
}

impl Value for Option<u32> {
    fn takes(range: Option<RangeInclusive<u64>>) -> SettingTakes {
        SettingTakes::Limit(range.unwrap_or_else(|| 0..=u32::MAX.into()))
    }

    fn number(&self) -> Option<u64> {
        self.map(u64::from)
    }
}

impl Value for ForbiddenPublish {
    fn takes(_range: Option<RangeInclusive<u64>>) -> SettingTakes {
        SettingTakes::Word(&["close", "ack"])
    }
}

impl Value for Durability {
    fn takes(_range: Option<RangeInclusive<u64>>) -> SettingTakes {
        SettingTakes::Word(&["quorum-fsync", "quorum-memory", "leader-memory"])
    }
}

macro_rules! settings {
    ($(
        $(#[doc = $doc:literal])+
        $(#[serde($($serde:tt)*)])?
        $name:literal $field:ident: $kind:ty = $default:expr $(, $range:expr)?;
    )+) => {
        /// All settings of one tenant, as a snapshot: read through it, never one by one over time.
        #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct Settings {
            $($(#[doc = $doc])+ #[serde(rename = $name)] $(#[serde($($serde)*)])? pub $field: $kind,)+
        }

        impl Default for Settings {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        impl Settings {
            /// Every setting: its name as operators write it, what it takes, what it is for.
            pub fn known() -> Vec<KnownSetting> {
                vec![$(KnownSetting {
                    name: $name,
                    takes: <$kind as Value>::takes(ranges!($($range)?)),
                    help: concat!($($doc),+),
                },)+]
            }

            /// All that is wrong with it: every range, then what concerns two settings.
            pub fn errors(&self) -> Vec<SettingError> {
                let mut errors = Vec::new();
                $(if let Some(range) = ranges!($($range)?) {
                    check_range($name, self.$field.number(), range, &mut errors);
                })+
                self.check_pairs(&mut errors);
                errors
            }
        }
    };
}

macro_rules! ranges {
    () => {
        None
    };
    ($range:expr) => {
        Some($range)
    };
}

settings! {
    /// Accept MQTT 3.1.
    "MQTT3Enabled" mqtt3_enabled: bool = true;
    /// Accept MQTT 3.1.1.
    "MQTT4Enabled" mqtt4_enabled: bool = true;
    /// Accept MQTT 5.0.
    "MQTT5Enabled" mqtt5_enabled: bool = true;
    /// Bytes of a topic name or filter.
    "MaxTopicLength" max_topic_length: u32 = 4096, 1..=16_384;
    /// Levels of a topic name or filter.
    "MaxTopicLevels" max_topic_levels: u32 = 256, 1..=1024;
    /// Bytes of one level.
    "MaxTopicLevelLength" max_topic_level_length: u32 = 4096, 1..=16_384;
    /// Bytes of a client id.
    "MaxClientIdLength" max_client_id_length: u32 = 1024, 23..=8192;
    /// Bytes of a whole packet, both ways.
    "MaxUserPayloadBytes" max_user_payload_bytes: u32 = 1 << 20, 1 << 10..=256 << 20;
    /// Bytes of a will.
    "MaxLastWillBytes" max_last_will_bytes: u32 = 64 << 10, 1..=256 << 20;
    /// Filters in one SUBSCRIBE or UNSUBSCRIBE.
    "MaxTopicFiltersPerSub" max_topic_filters_per_sub: u32 = 1000, 1..=65_535;
    /// Subscriptions of one session.
    "MaxTopicFiltersPerInbox" max_topic_filters_per_inbox: u32 = 10_000, 1..=1_000_000;
    /// Publishes per second and connection above which reading slows; 0 is off.
    "MsgPubPerSec" msg_pub_per_sec: u32 = 0, 0..=1_000_000;
    /// Bytes per second read from a connection; 0 is off.
    "InBoundBandWidth" in_bound_band_width: u64 = 0, 0..=1 << 40;
    /// Bytes per second written to a connection; 0 is off.
    "OutBoundBandWidth" out_bound_band_width: u64 = 0, 0..=1 << 40;
    /// QoS 1 and 2 publishes of a client in flight to us.
    "ReceivingMaximum" receiving_maximum: u32 = 1000, 1..=65_535;
    /// Messages in flight to a v3 client; a v5 client says its own limit.
    "MaxInflight" max_inflight: u32 = 128, 1..=65_535;
    /// Accepted and ignored: nothing is resent on a live connection.
    "MaxResendTimes" max_resend_times: u32 = 3;
    /// Accepted and ignored: nothing is resent on a live connection.
    "ResendTimeoutSeconds" resend_timeout_seconds: u32 = 10;
    /// Accepted and ignored: it may not override the client.
    "MinSendPerSec" min_send_per_sec: u32 = 8;
    /// Messages queued for one session.
    "SessionInboxSize" session_inbox_size: u32 = 10_000, 1..=10_000_000;
    /// Bytes queued for one session.
    "SessionInboxBytes" session_inbox_bytes: u64 = 64 << 20, 64 << 10..=16 << 30;
    /// Queue QoS 0 messages for an offline persistent session.
    "QoS0OfflineQueue" qos0_offline_queue: bool = false;
    /// When the queue is full, drop the oldest QoS 0 message instead of the newest.
    "QoS0DropOldest" qos0_drop_oldest: bool = true;
    /// Upper clamp of a session's expiry.
    "MaxSessionExpirySeconds" max_session_expiry_seconds: u32 = 604_800;
    /// Lower clamp of a session's expiry unless it is 0.
    "MinSessionExpirySeconds" min_session_expiry_seconds: u32 = 0;
    /// Expiry of a v3 session with clean session 0.
    "V3SessionExpirySeconds" v3_session_expiry_seconds: u32 = 604_800;
    /// Lower clamp of the keep alive unless it is 0.
    "MinKeepAliveSeconds" min_keep_alive_seconds: u32 = 0, 0..=65_535;
    /// Upper clamp of a v5 client's keep alive; 0 is no cap.
    "MaxKeepAliveSeconds" max_keep_alive_seconds: u32 = 0, 0..=65_535;
    /// Retained messages sent for one subscription; none is unlimited.
    #[serde(with = "optional_limit")]
    "RetainMessageMatchLimit" retain_message_match_limit: Option<u32> = None, 1..=1 << 31;
    /// Topic aliases a client may use, and the cap of those we use.
    "MaxTopicAlias" max_topic_alias: u32 = 32, 0..=65_535;
    /// Members of one shared group.
    "MaxSharedGroupMembers" max_shared_group_members: u32 = 1000, 1..=100_000;
    /// Shared groups served per published topic.
    "MaxGroupFanout" max_group_fanout: u32 = 1000, 1..=100_000;
    /// Treat an error of the permission check as allowed.
    "ByPassPermCheckError" by_pass_perm_check_error: bool = false;
    /// Drop wills when the node stops gracefully.
    "NoLWTWhenServerShuttingDown" no_lwt_when_server_shutting_down: bool = false;
    /// Check payloads that say they are UTF-8.
    "PayloadFormatValidationEnabled" payload_format_validation_enabled: bool = true;
    /// What a v3 client gets that publishes where it may not.
    "ForbiddenPublishV3" forbidden_publish_v3: ForbiddenPublish = ForbiddenPublish::Close;
    /// What an acknowledgement of a durable message waits for.
    "Durability" durability: Durability = Durability::QuorumFsync;
    /// Accepted and ignored: each sink says which events it wants.
    "DebugModeEnabled" debug_mode_enabled: bool = false;
    /// No persistent sessions at all.
    "ForceTransient" force_transient: bool = false;
    /// Retained messages allowed.
    "RetainEnabled" retain_enabled: bool = true;
    /// Filters with wildcards allowed.
    "WildcardSubscriptionEnabled" wildcard_subscription_enabled: bool = true;
    /// Subscription identifiers allowed.
    "SubscriptionIdentifierEnabled" subscription_identifier_enabled: bool = true;
    /// Shared subscriptions allowed.
    "SharedSubscriptionEnabled" shared_subscription_enabled: bool = true;
    /// Highest QoS to publish with.
    "MaximumQoS" maximum_qos: u32 = 2, 0..=2;
    /// Persistent routes served per published topic.
    "MaxPersistentFanout" max_persistent_fanout: u32 = i32::MAX as u32, 1..=i32::MAX as u64;
}

impl Settings {
    /// Settings that are accepted so that configs carry over, and have no effect.
    pub const IGNORED: &[&str] = &[
        "MaxResendTimes",
        "ResendTimeoutSeconds",
        "MinSendPerSec",
        "DebugModeEnabled",
    ];

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

    /// Checks every range, then what concerns two settings; says the first that is wrong.
    pub fn check(&self) -> Result<(), SettingError> {
        self.errors().into_iter().next().map_or(Ok(()), Err)
    }

    fn check_pairs(&self, errors: &mut Vec<SettingError>) {
        let pairs = [
            (
                self.max_last_will_bytes > self.max_user_payload_bytes,
                ("MaxLastWillBytes", "MaxUserPayloadBytes"),
            ),
            (
                self.min_session_expiry_seconds > self.max_session_expiry_seconds,
                ("MinSessionExpirySeconds", "MaxSessionExpirySeconds"),
            ),
            (
                self.max_keep_alive_seconds != 0
                    && self.min_keep_alive_seconds > self.max_keep_alive_seconds,
                ("MinKeepAliveSeconds", "MaxKeepAliveSeconds"),
            ),
        ];
        for (is_wrong, (lower, upper)) in pairs {
            if is_wrong {
                errors.push(SettingError::Contradiction { lower, upper });
            }
        }
    }
}

fn check_range(
    name: &'static str,
    value: Option<u64>,
    range: RangeInclusive<u64>,
    errors: &mut Vec<SettingError>,
) {
    if let Some(value) = value.filter(|value| !range.contains(value)) {
        errors.push(SettingError::OutOfRange {
            name,
            value,
            min: *range.start(),
            max: *range.end(),
        });
    }
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
            "MaxClientIdLength is 22, allowed is 23 to 8192"
        );
    }

    #[test]
    fn every_setting_is_known_by_the_name_that_serde_reads() {
        let known = Settings::known();
        let limit = known.iter().find(|s| s.name == "MaxClientIdLength");
        assert_eq!(limit.unwrap().takes, SettingTakes::Number(23..=8192));
        assert!(known.iter().any(|s| s.name == "QoS0OfflineQueue"));
        assert!(known.iter().all(|s| !s.help.is_empty()));
    }

    #[test]
    fn all_errors_are_told_at_once() {
        let settings = Settings {
            max_client_id_length: 22,
            maximum_qos: 3,
            retain_message_match_limit: Some(0),
            min_session_expiry_seconds: u32::MAX,
            ..Settings::default()
        };
        assert_eq!(settings.errors().len(), 4);
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
