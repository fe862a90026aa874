//! What must hold for any bytes: the checks of the fuzzer.

use std::fmt::Debug;

use bifrust_model::fuzz::check_record;
use bytes::Bytes;

use crate::{Wire, log, meta};

/// A command of the log, whatever service it is of.
pub fn check_command<C: Wire + Debug + PartialEq>(bytes: &Bytes) {
    check_record(bytes, C::decode, C::encode);
}

/// What a node stores of its ranges.
pub fn check_records(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    log::check_entry(&bytes);
    meta::check_rows(&bytes);
}
