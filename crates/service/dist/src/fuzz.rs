//! What must hold for any bytes: the checks of the fuzzer.

use bifrust_kv::fuzz::check_command;
use bifrust_model::fuzz::check_record;
use bifrust_model::{ClientId, Hlc, SubscriptionOptions, TenantNumber, Topic, TopicFilter};
use bifrust_storage::{Engine as _, WriteBatch, open_memory};
use bytes::Bytes;

use crate::schema::command::Command;
use crate::schema::inbox_route::InboxRoute;
use crate::schema::live_route::LiveRoute;
use crate::schema::route_key::{self, ReceiverKey};
use crate::store::{ROUTES, targets};

/// Rows and commands.
pub fn check_records(bytes: &[u8]) {
    if let Some(key) = route_key::decode(bytes) {
        assert_eq!(
            route_key::encode(key.tenant, &key.filter, &key.receiver),
            bytes
        );
    }
    let bytes = Bytes::copy_from_slice(bytes);
    check_command::<Command>(&bytes);
    check_record(&bytes, InboxRoute::decode, InboxRoute::encode);
    check_record(&bytes, LiveRoute::decode, LiveRoute::encode);
}

/// Which of these filters, none of them shared, the rows of a range lead the topic to.
pub fn matching(filters: &[TopicFilter], topic: &Topic) -> Vec<usize> {
    let engine = open_memory(crate::keyspaces());
    let tenant = TenantNumber(1);
    let mut batch = WriteBatch::new();
    for (number, filter) in (0u64..).zip(filters) {
        let client = ClientId::new("c").expect("a client id");
        let receiver = ReceiverKey::Inbox {
            client,
            incarnation: number,
        };
        let route = InboxRoute {
            options: SubscriptionOptions::default(),
            stamp: Hlc(1),
        };
        let key = route_key::encode(tenant, filter, &receiver);
        batch.put(ROUTES, key, route.encode());
    }
    engine.write(batch).expect("memory takes rows of this size");
    let (found, _) = targets(&engine, tenant, topic.as_str()).expect("memory can be read");
    let mut numbers: Vec<_> = found
        .inboxes
        .iter()
        .map(|inbox| inbox.incarnation as usize)
        .collect();
    numbers.sort_unstable();
    numbers
}
