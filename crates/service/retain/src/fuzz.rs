//! What must hold for any bytes: the checks of the fuzzer.

use bifrust_kv::fuzz::check_command;
use bifrust_model::fuzz::check_record;
use bifrust_model::{ClientId, Hlc, Message, Qos, TenantNumber, Topic, TopicFilter};
use bifrust_storage::{Engine as _, WriteBatch, open_memory};
use bytes::Bytes;

use crate::PageLimit;
use crate::schema::{self, body, command::Command, meta::Meta};
use crate::store::{BODY, Scan, page};

/// Rows and commands.
pub fn check_records(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    check_command::<Command>(&bytes);
    check_record(&bytes, body::decode, body::encode);
    check_record(&bytes, Meta::decode, Meta::encode);
}

/// Those of the topics whose messages a scan for the filter brings, in order.
pub fn matching(filter: &TopicFilter, topics: &[Topic]) -> Vec<Topic> {
    let engine = open_memory(crate::keyspaces());
    let tenant = TenantNumber(1);
    let mut batch = WriteBatch::new();
    for topic in topics {
        let message = Message {
            topic: topic.clone(),
            payload: Bytes::new(),
            qos: Qos::AtMostOnce,
            retain: true,
            stamp: Hlc(1),
            expiry_seconds: None,
            properties: Bytes::new(),
            publisher: ClientId::new("p").expect("a client id"),
        };
        batch.put(
            BODY,
            schema::key(tenant, topic.as_str()),
            body::encode(&message),
        );
    }
    engine.write(batch).expect("memory takes rows of this size");
    let query = Scan {
        tenant,
        filter: filter.clone(),
        after: None,
        limit: PageLimit {
            messages: usize::MAX,
            bytes: usize::MAX,
        },
        now_ms: 0,
    };
    let found = page(&engine, &query).expect("memory can be read");
    found
        .messages
        .into_iter()
        .map(|message| message.topic)
        .collect()
}
