//! Ports of the node that lead to pods: `hostPort`.
//!
//! In: the ports of all sandboxes. Out: one table of the kernel's, replaced as a whole in one transaction. What is sent
//! to an address of the node itself, from outside or from the node, is led on; 127.0.0.1 included.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    net::Ipv4Addr,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// Name of the table.
const TABLE: &str = "kontiki-host-ports";

/// One port of the node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HostPort {
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// Address of the node; none for all.
    pub address: Option<Ipv4Addr>,
    /// Port of the node.
    pub host_port: u16,
    /// Port of the pod.
    pub pod_port: u16,
}

/// The table for these ports, each with the address of its pod. Pure.
pub fn ruleset(ports: &[(Ipv4Addr, HostPort)]) -> String {
    let mut sorted: Vec<_> = ports.iter().collect();
    // A port of one address goes before the same port of all.
    sorted.sort_by_key(|(pod, port)| (port.address.is_none(), (*port).clone(), *pod));
    let mut text = format!("table ip {TABLE}\ndelete table ip {TABLE}\n");
    if sorted.is_empty() {
        return text;
    }
    let mut rules = String::new();
    for (pod, port) in sorted {
        let HostPort { protocol, host_port, pod_port, .. } = port;
        let address = port.address.map(|address| format!("ip daddr {address} ")).unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = writeln!(rules, "    {address}{protocol} dport {host_port} dnat to {pod}:{pod_port}");
    }
    let _ = write!(
        text,
        "table ip {TABLE} {{\n  chain ports {{\n{rules}  }}\n\
         \x20 chain incoming {{\n    type nat hook prerouting priority -105; policy accept;\n    fib daddr type local jump ports\n  }}\n\
         \x20 chain own {{\n    type nat hook output priority -105; policy accept;\n    fib daddr type local jump ports\n  }}\n\
         \x20 chain leaving {{\n    type nat hook postrouting priority 95; policy accept;\n\
         \x20   ct status dnat ip saddr 127.0.0.0/8 masquerade\n  }}\n}}\n"
    );
    text
}

/// Puts a table in place. Blocks.
pub fn apply(ruleset: &str) -> Result<()> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("start nft (Debian and Ubuntu: apt-get install nftables)")?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(ruleset.as_bytes()).context("write to nft")?;
    }
    let output = child.wait_with_output().context("wait for nft")?;
    if !output.status.success() {
        bail!("nft: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Lets answers to 127.0.0.1 come in on a pod's interface.
pub fn allow_loopback(host_interface: &str) -> Result<()> {
    let file = format!("/proc/sys/net/ipv4/conf/{host_interface}/route_localnet");
    fs::write(&file, "1").with_context(|| format!("write {file}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn port(protocol: &str, address: Option<&str>, host_port: u16) -> (Ipv4Addr, HostPort) {
        let address = address.map(|address| address.parse().unwrap());
        (Ipv4Addr::new(10, 244, 1, 2), HostPort { protocol: protocol.into(), address, host_port, pod_port: 80 })
    }

    #[test]
    fn a_port_of_one_address_goes_first() {
        let text = ruleset(&[port("tcp", None, 8080), port("udp", Some("127.0.0.1"), 53), port("tcp", Some("10.0.0.1"), 8080)]);
        let rules: Vec<_> = text.lines().map(str::trim).filter(|line| line.contains("dnat to")).collect();
        assert_eq!(
            rules,
            [
                "ip daddr 10.0.0.1 tcp dport 8080 dnat to 10.244.1.2:80",
                "ip daddr 127.0.0.1 udp dport 53 dnat to 10.244.1.2:80",
                "tcp dport 8080 dnat to 10.244.1.2:80",
            ]
        );
        assert_eq!(ruleset(&[]), "table ip kontiki-host-ports\ndelete table ip kontiki-host-ports\n");
    }

    /// In a network namespace of its own; without the program or the right to make one there is nothing to show.
    #[test]
    fn the_kernels_program_takes_the_rules() {
        let text = ruleset(&[port("tcp", None, 8080), port("udp", Some("127.0.0.1"), 53)]);
        let started =
            Command::new("unshare").args(["--net", "nft", "-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let Ok(mut child) = started else { return };
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let cannot = said.contains("unshare") || said.contains("Operation not permitted") || said.contains("No such file");
        assert!(output.status.success() || cannot, "{said}\n{text}");
    }
}
