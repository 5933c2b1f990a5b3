//! The scheduler: which pod runs on which node.
//!
//! In: a client with the scheduler's identity; pods without a node, and nodes. Out: bindings, and
//! conditions and events on pods that fit nowhere. A decision is a pure function of a pod and a
//! snapshot of the cluster.
//! Invariant: only the holder of the `kube-scheduler` Lease binds, and no node gets more than it has.
