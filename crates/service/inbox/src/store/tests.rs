mod model;
mod ownership;
mod queue;
mod repetition;
mod subscriptions;
mod wills;

use std::sync::Arc;

use bifrust_dist::RoutingKey;
use bifrust_kv::testing::Bed;
use bifrust_model::{
    ClientId, Hlc, Incarnation, Message, NodeId, NodeRef, Qos, SessionKey, Subscription,
    SubscriptionOptions, TenantNumber, Topic, TopicFilter,
};
use bifrust_session_dict::ConnectionRef;
use smallvec::SmallVec;

use super::*;
use crate::schema::{Body, EntryHeader, SessionDeadline};
use crate::{PageLimit, Subscribed};

const NEVER: u32 = u32::MAX;

pub(super) const BOUNDS: Bounds = Bounds {
    messages: 6,
    bytes: 10_000,
    queues_qos0: true,
    drops_oldest_qos0: false,
};

pub(super) const ALL: PageLimit = PageLimit {
    messages: 1000,
    bytes: usize::MAX,
};

pub(super) fn session() -> SessionKey {
    SessionKey {
        tenant: TenantNumber(7),
        client: client(),
    }
}

fn client() -> ClientId {
    ClientId::new("c").unwrap()
}

pub(super) fn connection(node_incarnation: u64, slot: u32) -> ConnectionRef {
    ConnectionRef {
        node: NodeRef {
            id: NodeId(1),
            incarnation: Incarnation(node_incarnation),
        },
        shard: 0,
        slot,
        generation: 0,
    }
}

pub(super) fn message(text: &str, qos: Qos) -> Arc<Message> {
    Arc::new(Message {
        topic: Topic::new("t".into()).unwrap(),
        payload: text.to_owned().into(),
        qos,
        retain: false,
        stamp: Hlc::from_millis(1_000),
        expiry_seconds: None,
        properties: bytes::Bytes::new(),
        publisher: ClientId::new("p").unwrap(),
    })
}

pub(super) fn header(qos: Qos) -> EntryHeader {
    EntryHeader {
        qos,
        retain: false,
        ids: SmallVec::new(),
        group: None,
    }
}

pub(super) fn at(ms: u64) -> Hlc {
    Hlc::from_millis(ms)
}

pub(super) fn attach_at(ms: u64) -> Attach {
    Attach {
        session: session(),
        stamp: at(ms),
        user: Some("u".into()),
        owner: connection(1, u32::try_from(ms).unwrap()),
        clean_start: false,
        expiry_seconds: 100,
        window: 2,
        will: None,
    }
}

pub(super) fn detach_at(ms: u64, epoch: u64) -> Detach {
    Detach {
        session: session(),
        epoch,
        stamp: at(ms),
        will: WillFate::Due,
        expiry_seconds: None,
        sent_before: None,
        routed: Vec::new(),
    }
}

pub(super) fn insert(incarnation: u64, text: &str, qos: Qos) -> Insert {
    Insert {
        tenant: TenantNumber(7),
        body: Body::new(message(text, qos)),
        key: None,
        bounds: BOUNDS,
        targets: vec![Target {
            client: client(),
            incarnation,
            header: header(qos),
        }],
    }
}

pub(super) fn keyed(insert: Insert, packet_id: u16, generation: u64, floor: u64) -> Insert {
    let key = RoutingKey {
        session: 77,
        packet_id,
        generation,
    };
    Insert {
        key: Some(Keyed { key, floor }),
        ..insert
    }
}

fn attached((reply, _): (Reply, Vec<Effect>)) -> Attached {
    match reply {
        Reply::Attached(attached) => attached,
        other => panic!("{other:?}"),
    }
}

pub(super) fn fetch(bed: &Bed<Store>, incarnation: u64, sent_before: u64) -> Vec<Delivery> {
    let page = Page {
        session: session(),
        incarnation,
        from: 0,
        before: u64::MAX,
        sent_before,
        limit: ALL,
        now_ms: 0,
    };
    match bed.query(Query::Entries(page)) {
        Answer::Entries { deliveries, .. } => deliveries,
        other => panic!("{other:?}"),
    }
}

fn payloads(deliveries: &[Delivery]) -> Vec<&str> {
    let payloads = deliveries.iter().map(|delivery| &delivery.message.payload);
    payloads
        .map(|payload| std::str::from_utf8(payload).unwrap())
        .collect()
}

fn subscription(filter: &str, level: u8) -> Subscription {
    Subscription {
        filter: TopicFilter::new(filter.to_owned().into()).unwrap(),
        options: SubscriptionOptions {
            qos: Qos::from_level(level).unwrap(),
            ..SubscriptionOptions::default()
        },
    }
}
