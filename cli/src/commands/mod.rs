//! One file a subcommand: its flags, and the few lines that hand them to the crate that does it.

pub mod agent;
pub mod chaos;
pub mod down;
pub mod image;
pub mod logs;
pub mod node;
pub mod server;
pub mod snapshot;
pub mod status;
pub mod store;
pub mod supervise;
pub mod up;

use anyhow::{Context, Result};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Logs to standard error; `KONTIKI_LOG` chooses what.
fn start_logging() {
    let filter = EnvFilter::try_from_env("KONTIKI_LOG").unwrap_or_else(|_| EnvFilter::new("info,hickory_server=warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}

/// A token that is cancelled by SIGTERM or SIGINT.
fn until_signal() -> Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let cancel = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let token = cancel.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        token.cancel();
    });
    Ok(cancel)
}

/// The runtime of everything but consensus, which has its own.
fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("kontiki").build().context("start the runtime")
}
