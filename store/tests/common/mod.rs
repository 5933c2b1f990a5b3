//! What the tests of whole members share.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Deref;
use std::sync::atomic::{AtomicU8, Ordering};

use kontiki_store::Handle;

/// A loopback address that no other cluster of this or another test process uses. Ports of the range
/// that outgoing connections take would be taken while a member is down.
pub fn own_address() -> IpAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    // Each file of tests is a process of its own.
    let process = std::process::id() % 0x3f00;
    let [.., high, low] = process.to_be_bytes();
    Ipv4Addr::new(127, 64 + high, low, NEXT.fetch_add(1, Ordering::Relaxed)).into()
}

/// A member that is shut down at the end of its test: one whose threads outlive the test's process takes that down.
pub struct Running(pub Handle);

impl Deref for Running {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Once more does no harm.
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(self.0.shutdown()));
    }
}
