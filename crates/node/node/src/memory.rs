//! One limit for what a node keeps in memory beyond its connections, and how it is divided.
//!
//! `limits.memory_limit` bounds caches, memtables and queues together. Every part has a share of it, a
//! bound of its own, and an answer for "full":
//!
//! | Part | Share | At most | When it is full |
//! |---|---|---|---|
//! | table blocks (`storage`) | 12/96 | | cold ones are read again |
//! | memtables (`storage`) | 14/96 | 256 MiB | the fullest is flushed; writes wait if flushing lags |
//! | matches (`dist`) | 8/96 | | those not used lately are matched again |
//! | gaps between routes (`dist`) | 2/96 | 64 MiB | some are read again |
//! | sessions in use (`inbox`) | 8/96 | | those not used lately are read again |
//! | commands that wait (`kv`) | 25/96 | 128 MiB a range | refused: the client is told or sends again |
//! | publishes on their way to stores (`mqtt`) | 1/96 | 32 MiB | publishers wait |
//! | publishes between shards (`mqtt`) | 6/96 | 32 MiB a shard | publishers wait |
//! | sessions of recent topics (`mqtt`) | 4/96 | 32 MiB a shard | all are looked up again |
//! | queues of transient sessions (`mqtt`) | 16/96 | | QoS 0 is dropped, others end the session (0x97), the fullest first |
//!
//! Not in it: connections and their buffers, live subscriptions, what the engine holds while it compacts
//! tables, the program itself.

use std::fs;

const MIB: u64 = 1 << 20;

/// Less than this and the parts are too small to work.
pub const LIMIT_MIN: u64 = 128 * MIB;

/// The default where a quarter of the memory is less.
const DEFAULT_LEAST: u64 = 256 * MIB;

/// The default where a quarter of the memory is more: plenty for most, and whoever wants the rest says so.
const DEFAULT_MOST: u64 = 1024 * MIB;

/// Where the memory is not known.
const DEFAULT_UNKNOWN: u64 = 768 * MIB;

const PARTS: u64 = 96;

/// Ranges with commands: registry, dist, retain, inbox.
const RANGES: u64 = 4;

/// What each part may take, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// All of them.
    pub limit: u64,
    /// Table blocks.
    pub blocks: u64,
    /// Memtables of all keyspaces, those being flushed included.
    pub memtables: u64,
    /// Matches.
    pub matches: u64,
    /// Gaps between routes.
    pub gaps: u64,
    /// Sessions in use.
    pub sessions: u64,
    /// Commands that wait, for each range.
    pub commands: u64,
    /// Publishes on their way to stores, for each shard.
    pub stores: u64,
    /// Publishes from other shards, for each shard.
    pub mailbox: u64,
    /// Sessions that recent topics lead to, for each shard.
    pub results: u64,
    /// Queues of transient sessions, for each shard.
    pub queues: u64,
}

impl Memory {
    /// Divides a limit for a node with so many connection shards.
    pub fn divide(limit: u64, shards: usize) -> Self {
        let shards = (shards as u64).max(1);
        let part = |parts: u64| limit / PARTS * parts;
        Self {
            limit,
            blocks: part(12),
            memtables: part(14).min(256 * MIB),
            matches: part(8),
            gaps: part(2).min(64 * MIB),
            sessions: part(8),
            commands: (part(25) / RANGES).min(128 * MIB),
            // A third of a tenant's half of the commands, as each publisher may be ahead by one publish:
            // they wait before anything is refused.
            stores: part(1).min(32 * MIB) / shards,
            mailbox: (part(6) / shards).min(32 * MIB),
            results: (part(4) / shards).min(32 * MIB),
            queues: part(16) / shards,
        }
    }
}

/// The limit where none is set: a quarter of the memory that the process may use, within 256 MiB and
/// 1 GiB.
pub fn default_limit() -> u64 {
    available().map_or(DEFAULT_UNKNOWN, |bytes| {
        (bytes / 4).clamp(DEFAULT_LEAST, DEFAULT_MOST)
    })
}

/// Bytes of memory that this process may use: the machine's, or less if its cgroup says so.
fn available() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.as_deref().and_then(total_of);
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = cgroup_files(&groups).into_iter().filter_map(|file| {
        // "max", and what version 1 says for no limit, are above every machine's memory.
        fs::read_to_string(file).ok()?.trim().parse().ok()
    });
    limits.chain(machine).min()
}

fn total_of(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kib: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// The files that may say a limit: of this group and of those above it, and as a container sees its own.
fn cgroup_files(groups: &str) -> Vec<String> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let (root, name) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            names if names.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let mut path = path.trim_end_matches('/');
        loop {
            files.push(format!("{root}{path}/{name}"));
            match path.rsplit_once('/') {
                Some((above, _)) => path = above,
                None => break,
            }
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_never_more_than_the_limit() {
        for shards in [1, 2, 16, 64] {
            for limit in [LIMIT_MIN, 768 * MIB, 1 << 40] {
                let memory = Memory::divide(limit, shards);
                let of_shards = memory.stores + memory.mailbox + memory.results + memory.queues;
                let sum = memory.blocks
                    + memory.memtables
                    + memory.matches
                    + memory.gaps
                    + memory.sessions
                    + memory.commands * RANGES
                    + of_shards * shards as u64;
                assert!(sum <= limit, "{sum} of {limit} with {shards} shards");
                assert!(memory.stores * shards as u64 <= memory.commands / 2 / 2);
            }
        }
    }

    #[test]
    fn a_cgroup_and_those_above_it_are_asked() {
        assert_eq!(
            cgroup_files("0::/a/b\n"),
            [
                "/sys/fs/cgroup/a/b/memory.max",
                "/sys/fs/cgroup/a/memory.max",
                "/sys/fs/cgroup/memory.max"
            ]
        );
        assert_eq!(
            cgroup_files("5:cpu,memory:/x\n4:pids:/x\n"),
            [
                "/sys/fs/cgroup/memory/x/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes"
            ]
        );
        assert!(cgroup_files("nonsense").is_empty());
    }

    #[test]
    fn the_machine_says_how_much_it_has() {
        assert_eq!(
            total_of("MemTotal:  2048 kB\nMemFree: 1 kB\n"),
            Some(2 << 20)
        );
        let limit = default_limit();
        assert!((DEFAULT_LEAST..=DEFAULT_MOST).contains(&limit));
    }
}
