//! What must hold for any bytes: the checks of the fuzzer.

use bifrust_kv::fuzz::check_command;
use bifrust_model::fuzz::check_record;
use bytes::Bytes;

use crate::schema::{
    Body, Cursor, DeadlineKey, Entry, Inbound, Meta, Prefix, Seen, SeenWills, SessionDeadline,
    SubscriptionRow, WillDeadline, WillRow, align_split, number_at_end, parse_deadline,
};
use crate::store::Command;

/// Rows, their keys, and commands.
pub fn check_records(bytes: &[u8]) {
    check_keys(bytes);
    let bytes = Bytes::copy_from_slice(bytes);
    check_command::<Command>(&bytes);
    check_record(
        &bytes,
        |bytes| Body::decode(bytes).map(|body| body.message),
        |message| Body::new(message.clone()).bytes,
    );
    check_record(&bytes, Entry::decode, |entry| {
        entry
            .header
            .with_body(&Body::new(entry.message.clone()).bytes)
    });
    if let Ok(entry) = Entry::decode(bytes.clone()) {
        assert_eq!(Entry::peek_qos(&bytes), Some(entry.header.qos));
    }
    check_record(&bytes, Cursor::decode, Cursor::encode);
    check_record(&bytes, Inbound::decode, Inbound::encode);
    check_record(&bytes, Meta::decode, Meta::encode);
    check_record(&bytes, Seen::decode, Seen::encode);
    check_record(&bytes, SeenWills::decode, SeenWills::encode);
    check_record(&bytes, SessionDeadline::decode, SessionDeadline::encode);
    check_record(&bytes, WillDeadline::decode, WillDeadline::encode);
    check_record(&bytes, SubscriptionRow::decode, SubscriptionRow::encode);
    check_record(&bytes, WillRow::decode, WillRow::encode);
}

fn check_keys(key: &[u8]) {
    let _ = number_at_end(key); // no panic
    assert!(align_split(key)[..] <= *key);
    let Some((session, what)) = parse_deadline(key) else {
        return;
    };
    let prefix = Prefix::new(&session);
    assert!(key.starts_with(prefix.as_bytes()));
    let again = match what {
        // A byte behind it means nothing.
        DeadlineKey::Session => prefix.due_session(),
        DeadlineKey::Will { epoch } => prefix.due_will(epoch),
        DeadlineKey::Sweep { incarnation } => prefix.due_sweep(incarnation),
    };
    assert!(key.starts_with(&again));
}
