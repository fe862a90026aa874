//! Reading and writing of fixed fields, big-endian. Reading never panics and never takes more than
//! there is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bifrust_model::{Incarnation, NodeId, NodeRef};
use bytes::BufMut;

use crate::{ClusterId, Host};

/// What is left of the bytes from outside. Each method takes a field off the front, or answers `None`
/// if it is not there whole.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_be_bytes)
    }

    pub(crate) fn cookie(&mut self) -> Option<[u8; 16]> {
        self.array()
    }

    pub(crate) fn flag(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            // A byte that is not written back as it was.
            2 if cfg!(planted_bugs) => Some(true),
            _ => None,
        }
    }

    pub(crate) fn node_id(&mut self) -> Option<NodeId> {
        self.u128().map(NodeId)
    }

    pub(crate) fn node(&mut self) -> Option<NodeRef> {
        Some(NodeRef {
            id: self.node_id()?,
            incarnation: Incarnation(self.u64()?),
        })
    }

    /// Zero stands for "no cluster yet".
    pub(crate) fn cluster(&mut self) -> Option<Option<ClusterId>> {
        self.u128().map(ClusterId::new)
    }

    fn address(&mut self) -> Option<SocketAddr> {
        let ip = match self.u8()? {
            4 => IpAddr::V4(Ipv4Addr::from(self.array::<4>()?)),
            6 => IpAddr::V6(Ipv6Addr::from(self.array::<16>()?)),
            _ => return None,
        };
        Some(SocketAddr::new(ip, self.u16()?))
    }

    pub(crate) fn host(&mut self) -> Option<Host> {
        Some(Host {
            node: self.node()?,
            revision: self.u32()?,
            protocol: self.u16()?,
            udp: self.address()?,
            rpc: self.address()?,
        })
    }

    /// A list of at most `max` items, each of them read by `item`.
    pub(crate) fn list<T>(
        &mut self,
        max: usize,
        mut item: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        let count = usize::from(self.u16()?);
        if count > max {
            return None;
        }
        // Grows with what is really there, not with what the count announces.
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(item(self)?);
        }
        Some(items)
    }

    /// Passes `value` on if nothing is left over.
    pub(crate) fn end<T>(self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }
}

/// The writing of the same fields.
pub(crate) trait Write: BufMut + Sized {
    fn put_node(&mut self, node: NodeRef) {
        self.put_u128(node.id.0);
        self.put_u64(node.incarnation.0);
    }

    fn put_cluster(&mut self, cluster: Option<ClusterId>) {
        self.put_u128(cluster.map_or(0, ClusterId::number));
    }

    fn put_address(&mut self, address: SocketAddr) {
        match address.ip() {
            IpAddr::V4(ip) => {
                self.put_u8(4);
                self.put_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                self.put_u8(6);
                self.put_slice(&ip.octets());
            }
        }
        self.put_u16(address.port());
    }

    fn put_host(&mut self, host: &Host) {
        self.put_node(host.node);
        self.put_u32(host.revision);
        self.put_u16(host.protocol);
        self.put_address(host.udp);
        self.put_address(host.rpc);
    }

    /// Whoever builds a list keeps it below 65,536 items; what is beyond is left out.
    fn put_list<T>(&mut self, items: &[T], mut item: impl FnMut(&mut Self, &T)) {
        let count = u16::try_from(items.len()).unwrap_or(u16::MAX);
        self.put_u16(count);
        for each in &items[..usize::from(count)] {
            item(self, each);
        }
    }
}

impl Write for Vec<u8> {}
