//! Planted protocol faults, and the row that catches each.

use crate::Row;
use crate::catalogue::STANDARDS;

/// A fault that a broker built with the feature `planted-faults` has when `BIFRUST_TEST_FAULT` is
/// its number.
#[derive(Clone, Copy, Debug)]
pub struct Planted {
    /// From 1 on.
    pub number: u8,
    /// What the broker does.
    pub what: &'static str,
    /// The module of the row's standard: `v311`.
    pub module: &'static str,
    /// The row, as `file::row`.
    pub row: &'static str,
}

impl Planted {
    /// The row that catches it. Panics where there is none of that name.
    pub fn catcher(&self) -> Row {
        let found = STANDARDS
            .iter()
            .filter(|standard| standard.module == self.module)
            .flat_map(|standard| standard.files)
            .flat_map(|(file, rows)| rows.iter().map(move |row| (file, row)))
            .find(|(file, row)| format!("{file}::{}", row.name) == self.row);
        match found {
            Some((_, row)) => *row,
            None => panic!("no row {} in {}", self.row, self.module),
        }
    }
}

macro_rules! planted {
    ($($number:literal $what:literal, $module:ident $row:literal;)+) => {
        /// All of them.
        pub const PLANTED: &[Planted] = &[$(Planted {
            number: $number,
            what: $what,
            module: stringify!($module),
            row: $row,
        }),+];
    };
}

planted! {
    1 "a second CONNECT is ignored", v311 "connect::a_second_connect_ends_the_connection";
    2 "PINGREQ is not answered", v311 "subscribe::pingreq_is_answered";
    3 "PUBACK and PUBREC carry another identifier", v311 "format::answers_to_publish_have_its_identifier";
    4 "a QoS 2 message that comes again is delivered again", v311 "operation::qos_2_is_taken_once";
    5 "RETAIN is passed on to whoever did not ask for it", v311 "publish::an_established_subscription_gets_them_as_not_retained";
    6 "messages are sent with the QoS of their publisher", v311 "subscribe::the_lower_qos_wins";
    7 "No Local is ignored", v5 "subscribe::no_local_keeps_from_oneself";
    8 "DISCONNECT does not drop the will", v311 "session::disconnect_drops_the_will";
    9 "wills are not kept", v311 "session::a_lost_connection_publishes_the_will";
    10 "wills are never retained", v311 "session::a_will_is_retained_if_asked";
    11 "CONNACK never says that a session is present", v311 "connack::a_stored_session_is_present";
    12 "Clean Start is ignored", v311 "session::a_clean_session_starts_anew";
    13 "silence is never too long", v311 "connect::silence_beyond_the_keep_alive_is_a_failed_network";
    14 "an older connection of a client is not ended", v5 "connect::an_older_connection_is_told_0x8e";
    15 "codes of SUBACK and UNSUBACK come in the opposite order", v311 "subscribe::codes_come_in_the_order_of_the_filters";
    16 "UNSUBSCRIBE is answered, and nothing else", v311 "subscribe::nothing_new_comes_after_unsuback";
    17 "the client's Receive Maximum is ignored", v5 "publish::no_more_than_receive_maximum_is_sent";
    18 "the client's Maximum Packet Size is ignored", v5 "forward::larger_packets_are_not_sent";
    19 "properties of messages are not passed on", v5 "forward::user_properties_are_passed_on";
    20 "Message Expiry Interval does not count down", v5 "forward::the_expiry_counts_down";
    21 "subscription identifiers are forgotten", v5 "publish::identifiers_of_overlapping_filters_are_sent";
    22 "topic aliases above the maximum are taken", v5 "connack::an_alias_beyond_the_maximum_ends_the_connection";
    23 "text frames of WebSockets are taken as binary ones", v311 "operation::text_frames_end_the_connection";
    24 "CONNACK does not say which identifier was assigned", v5 "connect::an_empty_identifier_becomes_a_new_one";
    25 "PUBREL is not sent again on the next connection", v311 "operation::qos_2_is_not_sent_again_after_pubrel";
}
