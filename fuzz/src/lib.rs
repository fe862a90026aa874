//! Bytes from outside into every parser: for each a function that must hold for any input.
//!
//! ```text
//! corpus/NAME/* -> cargo test                 what was found once stays mended
//!               -> cargo xtask fuzz           libFuzzer goes on from there, guided by coverage
//! a finding     -> cargo run -p bifrust-fuzz -- NAME FILE
//! ```
//!
//! A target asserts more than "no panic": what is read must be written and read again to the same,
//! two ways to the same answer must agree, and memory stays in bounds (the program caps its own).

mod codec;
mod differential;
mod text;
mod topics;

/// A parser and what must hold of it.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, which is that of its corpus folder too.
    pub name: &'static str,
    /// Panics if something does not hold for these bytes.
    pub check: fn(&[u8]),
}

/// All targets, by name.
pub const TARGETS: [Target; 28] = [
    target("certificate", bifrust_mqtt::fuzz::check_certificate),
    target("cluster_messages", bifrust_cluster::fuzz::check_message),
    target("cluster_packets", bifrust_cluster::fuzz::check_packet),
    target("codec_v31", codec::v31),
    target("codec_v311", codec::v311),
    target("codec_v5", codec::v5),
    target("config", text::config),
    target("differential_v3", differential::v3),
    target("differential_v5", differential::v5),
    target("journal", bifrust_storage::fuzz::check_journal),
    target("manifest", bifrust_storage::fuzz::check_manifest),
    target("matching", topics::matching),
    target("proxy_v1", bifrust_mqtt::fuzz::check_proxy_v1),
    target("proxy_v2", bifrust_mqtt::fuzz::check_proxy_v2),
    target("records_dist", bifrust_dist::fuzz::check_records),
    target("records_inbox", bifrust_inbox::fuzz::check_records),
    target("records_kv", bifrust_kv::fuzz::check_records),
    target("records_registry", bifrust_registry::fuzz::check_records),
    target("records_retain", bifrust_retain::fuzz::check_records),
    target("retained_scan", topics::scan),
    target("rpc_frames", bifrust_rpc::fuzz::check_frames),
    target("rpc_hello", bifrust_rpc::fuzz::check_hello),
    target("rpc_link", bifrust_rpc::fuzz::check_link),
    target("topic_filters", topics::filters),
    target("topic_names", topics::names),
    target("users", text::users),
    target(
        "websocket_frames",
        bifrust_mqtt::fuzz::check_websocket_frames,
    ),
    target("websocket_upgrade", bifrust_mqtt::fuzz::check_websocket),
];

const fn target(name: &'static str, check: fn(&[u8])) -> Target {
    Target { name, check }
}

/// The target of this name.
pub fn find(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}
