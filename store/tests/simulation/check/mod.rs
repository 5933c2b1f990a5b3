//! What must hold, whatever the workload did and whatever broke. In comes what was observed; out
//! comes a sentence about what is wrong. Nothing here knows of members, disks or networks.

pub mod leases;
pub mod linearizability;
pub mod model;
pub mod past;
pub mod watch;
