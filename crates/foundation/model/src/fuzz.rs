//! What must hold for any bytes: the checks of the fuzzer.

use std::fmt::Debug;

use bytes::Bytes;

use crate::record::RecordError;

/// What decodes must encode, and decode again to the same.
pub fn check_record<T: Debug + PartialEq>(
    bytes: &Bytes,
    decode: impl Fn(Bytes) -> Result<T, RecordError>,
    encode: impl Fn(&T) -> Bytes,
) {
    let Ok(value) = decode(bytes.clone()) else {
        return;
    };
    let again = decode(encode(&value)).expect("what was decoded can be written and read");
    assert_eq!(again, value);
}
