//! Figures of containers, pods and the node: from groups, interfaces and file systems.

use std::fs;

use super::{Embedded, blocking};
use crate::{
    cgroups::available_memory,
    disk::{file_system, size},
    runtime::{ContainerStats, Network, NodeStats, RuntimeError, SandboxStats},
};

impl Embedded {
    pub(super) async fn stats_of_container(&self, id: &str) -> Result<ContainerStats, RuntimeError> {
        let record = self.shared.state.container(id).ok_or_else(|| RuntimeError::NotFound(format!("container {id}")))?;
        let runtime = self.clone();
        blocking("read figures", move || {
            let options = &runtime.shared.options;
            let (written_bytes, written_inodes) = size(&options.writable(&record.id).join("upper"));
            Ok(ContainerStats { usage: options.hierarchies.usage(&record.cgroup), written_bytes, written_inodes })
        })
        .await
    }

    pub(super) async fn stats_of_sandbox(&self, id: &str) -> Result<SandboxStats, RuntimeError> {
        let record = self.shared.state.sandbox(id).ok_or_else(|| RuntimeError::NotFound(format!("sandbox {id}")))?;
        let runtime = self.clone();
        blocking("read figures", move || {
            let usage = runtime.shared.options.hierarchies.usage(&record.cgroup);
            let file = format!("/proc/{}/net/dev", record.shim_pid);
            let network = record.address.and_then(|_| network(&fs::read_to_string(file).ok()?, "eth0"));
            Ok(SandboxStats { usage, network })
        })
        .await
    }

    pub(super) async fn stats_of_node(&self) -> Result<NodeStats, RuntimeError> {
        let runtime = self.clone();
        blocking("read figures", move || {
            let options = &runtime.shared.options;
            let images = options.images.list();
            Ok(NodeStats {
                pods: options.hierarchies.usage("kubepods"),
                node: options.hierarchies.usage(""),
                file_system: file_system(&options.data),
                memory_available: available_memory(&options.hierarchies),
                image_bytes: images.iter().map(|image| image.size).sum(),
            })
        })
        .await
    }
}

/// What an interface has carried, from /proc/net/dev.
fn network(text: &str, interface: &str) -> Option<Network> {
    let line = text.lines().find_map(|line| line.trim().strip_prefix(interface)?.strip_prefix(':'))?;
    let numbers: Vec<u64> = line.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    Some(Network { received: (*numbers.first()?, *numbers.get(2)?), sent: (*numbers.get(8)?, *numbers.get(10)?) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_an_interface_has_carried() {
        let text = "Inter-|   Receive\n face |bytes\n    lo: 1 2 3 0 0 0 0 0 4 5 6 0 0 0 0 0\n  eth0: 100 9 1 0 0 0 0 0 200 8 2 0 0 0 0 0\n";
        assert_eq!(network(text, "eth0"), Some(Network { received: (100, 1), sent: (200, 2) }));
        assert_eq!(network(text, "eth1"), None);
    }
}
