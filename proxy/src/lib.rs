//! Services on the node: load balancing in the kernel and the cluster's DNS server.
//!
//! In: Services and EndpointSlices from reflectors. Out: nftables maps that lead to ready endpoints,
//! and answers to DNS queries. The ruleset and the answers are pure functions of what was observed.
//! Invariant: a change touches only the elements that changed, in one transaction.
