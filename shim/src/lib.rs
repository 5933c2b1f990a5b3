//! What the kubelet and the shim say to each other.
//!
//! In: requests of one kubelet over a Unix socket. Out: replies, and events of containers that end.
//! The shim itself is the program of this crate; this library holds only the words, so that the
//! kubelet never links the code that clones processes.

pub mod frame;
pub mod protocol;
