//! The kernel's memory of datagram flows: what leads to an endpoint that is gone must be forgotten, or a client that
//! goes on sending would be led there for ever. Connections end by themselves; datagrams have no end.
//!
//! In: where Services' datagrams may go now. Out: deletions. Which flows are stale is a pure function; the kernel is
//! spoken to over netlink.

mod message;
mod socket;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

pub use self::message::Flow;
use crate::endpoints::Family;

/// An address and port of a Service; without an address, the port on every node.
pub type Frontend = (Option<IpAddr>, u16);
/// Endpoints that datagrams to each frontend may go to; none where the frontend is gone.
pub type Frontends = BTreeMap<Frontend, BTreeSet<IpAddr>>;

/// Number of UDP.
const UDP: u8 = 17;

/// What of `after` differs from `before`, with frontends that are gone.
#[must_use]
pub fn changed(before: &Frontends, after: &Frontends) -> Frontends {
    let gone = before.keys().filter(|frontend| !after.contains_key(*frontend)).map(|frontend| (*frontend, BTreeSet::new()));
    let other = after.iter().filter(|(frontend, endpoints)| before.get(*frontend) != Some(*endpoints));
    // A frontend that is new may have been asked in vain: its flows lead nowhere.
    other.map(|(frontend, endpoints)| (*frontend, endpoints.clone())).chain(gone).collect()
}

/// Whether a flow leads where nothing may lead any more.
#[must_use]
pub fn is_stale(flow: &Flow, frontends: &Frontends) -> bool {
    let (address, port) = flow.destination;
    let endpoints = frontends.get(&(Some(address), port)).or_else(|| frontends.get(&(None, port)));
    let Some(endpoints) = endpoints.filter(|_| flow.protocol == UDP) else { return false };
    let translated = flow.answered_by != address;
    // What was never led to an endpoint is in the way as soon as there is one.
    !endpoints.contains(&flow.answered_by) && (translated || !endpoints.is_empty())
}

/// Forgets stale flows; says how many. Blocks for as long as the kernel takes.
pub fn forget(family: Family, frontends: &Frontends) -> std::io::Result<usize> {
    let mut socket = socket::Socket::open()?;
    let stale: Vec<Flow> = socket.flows(family)?.into_iter().filter(|flow| is_stale(flow, frontends)).collect();
    for flow in &stale {
        socket.delete(family, flow)?;
    }
    Ok(stale.len())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn flow(to: &str, port: u16, answered_by: &str) -> Flow {
        let destination = (to.parse().unwrap(), port);
        Flow { protocol: UDP, destination, answered_by: answered_by.parse().unwrap(), tuple: Vec::new() }
    }

    fn frontends(list: &[(Option<&str>, u16, &[&str])]) -> Frontends {
        let one = |(address, port, endpoints): &(Option<&str>, u16, &[&str])| {
            let endpoints = endpoints.iter().map(|endpoint| endpoint.parse().unwrap()).collect();
            ((address.map(|address| address.parse().unwrap()), *port), endpoints)
        };
        list.iter().map(one).collect()
    }

    #[test]
    fn flows_to_endpoints_that_are_gone_are_stale() {
        let now =
            frontends(&[(Some("10.96.0.7"), 53, &["10.244.0.2"]), (Some("10.96.0.8"), 53, &[]), (None, 30053, &["10.244.0.2"])]);
        for (flow, stale) in [
            (flow("10.96.0.7", 53, "10.244.0.2"), false),
            (flow("10.96.0.7", 53, "10.244.0.3"), true),
            (flow("10.96.0.7", 53, "10.96.0.7"), true),
            (flow("10.96.0.7", 54, "10.244.0.3"), false),
            (flow("10.96.0.8", 53, "10.244.0.2"), true),
            (flow("10.96.0.8", 53, "10.96.0.8"), false),
            (flow("192.168.0.1", 30053, "10.244.0.3"), true),
            (flow("8.8.8.8", 53, "8.8.8.8"), false),
            (Flow { protocol: 6, ..flow("10.96.0.7", 53, "10.244.0.3") }, false),
        ] {
            assert_eq!(is_stale(&flow, &now), stale, "{flow:?}");
        }
    }

    #[test]
    fn only_what_changed_is_looked_for() {
        let before = frontends(&[(Some("10.96.0.7"), 53, &["10.244.0.2"]), (Some("10.96.0.8"), 53, &["10.244.0.2"])]);
        let after = frontends(&[(Some("10.96.0.7"), 53, &["10.244.0.2"]), (Some("10.96.0.9"), 53, &["10.244.0.2"])]);
        let wanted = frontends(&[(Some("10.96.0.8"), 53, &[]), (Some("10.96.0.9"), 53, &["10.244.0.2"])]);
        assert_eq!(changed(&before, &after), wanted);
        assert!(changed(&after, &after).is_empty());
    }
}
