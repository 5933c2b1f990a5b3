//! The protocol buffers of the etcd v3 API, of Kontiki's own API and of its peers.
//!
//! In come the `.proto` files under `etcd/` and `kontiki/`; out come messages, clients and servers,
//! one module per package, with `bytes::Bytes` for byte fields so that a value is never copied.
//! A new package is a new file below `kontiki/` and one more module here.
//! Invariant: field numbers and names of `etcd/` are etcd's, for every client library relies on them.

#![allow(missing_docs)]

/// The compiled descriptors of all files, for gRPC server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// etcd v3: keys, values, events.
#[allow(clippy::all, clippy::large_futures)]
pub mod mvccpb {
    include!(concat!(env!("OUT_DIR"), "/mvccpb.rs"));
}

/// etcd v3: users and permissions.
#[allow(clippy::all)]
pub mod authpb {
    include!(concat!(env!("OUT_DIR"), "/authpb.rs"));
}

/// etcd v3: requests, responses and services.
#[allow(clippy::all)]
pub mod etcdserverpb {
    include!(concat!(env!("OUT_DIR"), "/etcdserverpb.rs"));
}

/// etcd v3: locks.
#[allow(clippy::all)]
pub mod v3lockpb {
    include!(concat!(env!("OUT_DIR"), "/v3lockpb.rs"));
}

/// etcd v3: elections.
#[allow(clippy::all)]
pub mod v3electionpb {
    include!(concat!(env!("OUT_DIR"), "/v3electionpb.rs"));
}

/// Kontiki's own packages, nested as they are named.
#[allow(clippy::all)]
pub mod kontiki {
    /// The Kubernetes API over gRPC.
    pub mod api {
        /// Version 1.
        #[allow(clippy::large_futures)]
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/kontiki.api.v1.rs"));
        }
    }
    /// What members of the store write and say to each other.
    pub mod store {
        /// Version 1.
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/kontiki.store.v1.rs"));
        }
    }
}
