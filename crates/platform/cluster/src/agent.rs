//! Instances of services, and how they are addressed.

use std::{fmt, sync::Arc};

use bifrust_model::NodeRef;

/// The longest name of a service, in bytes.
const SERVICE_NAME_BYTES_MAX: usize = 48;

/// What a service is called in the whole cluster: 1 to 48 of `a-z`, `0-9`, `-`, `.`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName(Arc<str>);

/// A text that is no name of a service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a service name is 1 to {SERVICE_NAME_BYTES_MAX} of a-z, 0-9, '-', '.'")]
pub struct InvalidServiceName;

impl ServiceName {
    /// The name, if it is one.
    pub fn new(name: &str) -> Result<Self, InvalidServiceName> {
        let is_fine = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
        if !(1..=SERVICE_NAME_BYTES_MAX).contains(&name.len()) || !name.bytes().all(is_fine) {
            return Err(InvalidServiceName);
        }
        Ok(Self(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One instance of a service: where calls to it go.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AgentAddress {
    /// The service.
    pub service: ServiceName,
    /// The node it runs on; another start of the node has other agents.
    pub host: NodeRef,
    /// Which of the service's instances on that node.
    pub instance: u32,
}

impl fmt::Display for AgentAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.host;
        write!(
            f,
            "{}/{}@{}.{}",
            self.service, self.instance, host.id, host.incarnation.0
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_services_are_checked() {
        assert_eq!(
            ServiceName::new("dist.store-2").unwrap().as_str(),
            "dist.store-2"
        );
        for wrong in ["", "Dist", "a b", "a/b", &"x".repeat(49)] {
            assert_eq!(ServiceName::new(wrong), Err(InvalidServiceName), "{wrong}");
        }
    }
}
