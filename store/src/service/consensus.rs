//! The runtime that consensus has to itself, so that nothing else delays a heartbeat.

use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};

/// Up to so many cores, one thread does all of consensus.
const FEW_CORES: usize = 4;

/// The runtime. It must not wait for its tasks on another runtime's threads, so one that is dropped
/// without having been taken leaves them to end by themselves.
pub(super) struct Consensus {
    runtime: Mutex<Option<Runtime>>,
    handle: Handle,
}

/// Threads that consensus needs. Where cores are few, a second one only costs: each step of a write wakes the next, and on one
/// thread that is a queue, not a change of thread: half as many changes a put were counted on two cores.
fn workers() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if cores > FEW_CORES { 2 } else { 1 }
}

impl Consensus {
    /// Starts its threads.
    pub(super) fn start() -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(workers())
            .max_blocking_threads(8)
            .thread_name("kontiki-raft")
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        Ok(Self { runtime: Mutex::new(Some(runtime)), handle })
    }

    /// The runtime of the caller, who ends it.
    pub(super) fn of_caller() -> Self {
        Self { runtime: Mutex::new(None), handle: Handle::current() }
    }

    /// The way to start tasks on it.
    pub(super) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The runtime itself, to whoever ends it; once.
    pub(super) fn take(&self) -> Option<Runtime> {
        self.runtime.lock().take()
    }
}

impl Drop for Consensus {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.get_mut().take() {
            runtime.shutdown_background();
        }
    }
}
