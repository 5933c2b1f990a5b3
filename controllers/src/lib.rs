//! The reconcilers: they make what is what was asked for.
//!
//! In: a client with the controller manager's identity, and changes from its reflectors. Out: objects
//! created, updated and deleted through the API, and events that say so. Each reconciler is a pure
//! plan over what it observes and a loop that acts.
//! Invariant: only the holder of the `kube-controller-manager` Lease acts.
