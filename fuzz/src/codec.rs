//! The codec, as each version's connection uses it.

use bifrust_mqtt_codec::{Version, fuzz};

pub(crate) fn v31(bytes: &[u8]) {
    fuzz::check_stream(Version::V31, bytes);
}

pub(crate) fn v311(bytes: &[u8]) {
    fuzz::check_stream(Version::V311, bytes);
}

pub(crate) fn v5(bytes: &[u8]) {
    fuzz::check_stream(Version::V5, bytes);
}
