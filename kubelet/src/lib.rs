//! The node: what makes pods run.
//!
//! In: the pods that are bound to this node. Out: running containers and their exact status, logs and sessions
//! for those who ask on the kubelet's port. What to do is decided by pure functions ([`pods::plan`],
//! [`pods::status`]); what acts is thin.
//! Invariant: a status says only what has happened; stopping the kubelet stops no container.

pub mod cgroups;
pub mod images;
pub mod network;
pub mod node;
mod options;
pub mod pods;
pub mod probes;
pub mod runtime;
pub mod server;
pub mod volumes;

use tokio_util::sync::CancellationToken;

pub use self::options::{Error, Options};

/// Runs the kubelet until `cancel`.
pub async fn run(options: Options, cancel: CancellationToken) -> Result<(), Error> {
    let make =
        |path: &std::path::PathBuf| std::fs::create_dir_all(path).map_err(|source| Error::Folder { path: path.clone(), source });
    make(&options.root)?;
    make(&options.logs)?;
    let manager = pods::Manager::start(options.clone(), cancel.clone());
    let server = server::Server::bind(&options, manager.pods())?;
    tokio::join!(node::run(options.clone(), cancel.clone()), server.serve(cancel.clone()), manager.run(cancel));
    Ok(())
}
