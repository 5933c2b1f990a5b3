//! The node: what makes pods run.
//!
//! In: the pods that are bound to this node. Out: running containers and their exact status, logs and sessions
//! for those who ask on the kubelet's port. What to do is decided by pure functions ([`pods::plan`],
//! [`pods::status`]); what acts is thin.
//! Invariant: a status says only what has happened; stopping the kubelet stops no container.

pub mod cgroups;
pub mod configuration;
mod disk;
pub mod eviction;
pub mod health;
pub mod images;
pub mod log_rotation;
pub mod network;
pub mod node;
mod options;
pub mod pods;
pub mod probes;
pub mod runtime;
pub mod server;
pub mod shutdown;
pub mod static_pods;
pub mod volumes;

use kontiki_client::events::Recorder;
use tokio_util::sync::CancellationToken;

pub use self::options::{Error, Options};

/// Runs the kubelet until `cancel`, or until the machine goes down and all pods have ended.
pub async fn run(options: Options, cancel: CancellationToken) -> Result<(), Error> {
    let make =
        |path: &std::path::PathBuf| std::fs::create_dir_all(path).map_err(|source| Error::Folder { path: path.clone(), source });
    make(&options.root)?;
    make(&options.logs)?;
    let cancel = cancel.child_token();
    let health = health::NodeHealth::default();
    let recorder = Recorder::start(options.client.clone(), "kubelet", &options.node_name, cancel.clone());
    let manager = pods::Manager::start(options.clone(), health.clone(), recorder.clone(), cancel.clone());
    let pods = manager.pods();
    let server = server::Server::bind(&options, pods.clone())?;
    let handle = manager.handle();
    let images = images::collect::Collector::default();
    let eviction = eviction::Manager { options: &options, health: &health, pods: &handle, recorder: &recorder, images: &images };
    let until_the_machine_stops = async {
        tokio::select! {
            () = options.machine_stops.cancelled() => shutdown::run(&options, &health, &handle, &recorder).await,
            () = cancel.cancelled() => {}
        }
        cancel.cancel();
    };
    tokio::join!(
        node::run(options.clone(), health.clone(), cancel.clone()),
        server.serve(cancel.clone()),
        manager.run(cancel.clone()),
        log_rotation::run(options.clone(), cancel.clone()),
        eviction.run(cancel.clone()),
        static_pods::mirror::run(&options, &pods, cancel.clone()),
        images.run(&options, &handle, cancel.clone()),
        until_the_machine_stops,
    );
    Ok(())
}
