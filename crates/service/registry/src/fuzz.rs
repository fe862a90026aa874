//! What must hold for any bytes: the checks of the fuzzer.

use bifrust_kv::fuzz::check_command;
use bifrust_model::fuzz::check_record;
use bytes::Bytes;

use crate::schema::{command::Command, sequence, tenant};

/// Rows and commands.
pub fn check_records(bytes: &[u8]) {
    if let Some(name) = tenant::name(bytes) {
        assert_eq!(tenant::key(&name), bytes);
    }
    let bytes = Bytes::copy_from_slice(bytes);
    check_command::<Command>(&bytes);
    check_record(&bytes, sequence::decode, |last| sequence::encode(*last));
    check_record(&bytes, tenant::decode, |number| tenant::encode(*number));
}
