//! Work that blocks on the disk, and where it is done.
//!
//! A runtime with several threads gives it to a thread apart, so that no heartbeat waits. A runtime
//! with one thread has nobody to give it to: there it is done in place, and so a simulation, which
//! runs on one thread, decides the order of everything.

use std::future::Future;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::JoinError;

/// Whether the caller's runtime has several threads. Outside of any, threads are at hand too.
fn has_threads() -> bool {
    Handle::try_current().map_or(true, |handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread)
}

/// Does something that takes a while.
pub async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    if has_threads() { tokio::task::spawn_blocking(work).await } else { Ok(work()) }
}

/// Does something for which two changes of thread would cost more than it does itself. Other tasks
/// move away meanwhile.
pub fn here<T>(work: impl FnOnce() -> T) -> T {
    if has_threads() { tokio::task::block_in_place(work) } else { work() }
}

/// Does something that blocks again and again, for as long as it lasts.
pub fn apart(name: &str, work: impl Future<Output = ()> + Send + 'static) -> std::io::Result<()> {
    if has_threads() {
        let thread = std::thread::Builder::new().name(name.to_owned());
        return thread.spawn(move || futures::executor::block_on(work)).map(drop);
    }
    tokio::spawn(work);
    Ok(())
}
