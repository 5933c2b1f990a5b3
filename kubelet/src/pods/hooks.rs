//! Lifecycle hooks: what runs after a container has started and before it is stopped.
//! <https://kubernetes.io/docs/concepts/containers/container-lifecycle-hooks/>

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Container as ContainerSpec, LifecycleHandler};

use super::worker::Worker;
use crate::probes::{Asker, ask_http};

/// Longest time for a hook that the pod's grace period does not bound.
const HOOK_TIMEOUT: Duration = Duration::from_secs(600);

impl Worker {
    /// Runs a hook in a running container.
    pub(super) async fn hook(
        &self,
        spec: &ContainerSpec,
        id: &str,
        address: std::net::IpAddr,
        handler: &LifecycleHandler,
        timeout: Option<Duration>,
    ) -> Result<(), String> {
        let timeout = timeout.unwrap_or(HOOK_TIMEOUT);
        if let Some(exec) = &handler.exec {
            let command = exec.command.clone().unwrap_or_default();
            let result = self.options.runtime.exec_sync(id, command, timeout).await.map_err(|error| error.to_string())?;
            return if result.exit_code == 0 {
                Ok(())
            } else {
                Err(format!("command exited with {}: {}", result.exit_code, String::from_utf8_lossy(&result.stderr)))
            };
        }
        if let Some(get) = &handler.http_get {
            let runtime = Arc::clone(&self.options.runtime);
            let asker = Asker { runtime, container_id: id.to_owned(), address, spec: Arc::new(spec.clone()) };
            return tokio::time::timeout(timeout, ask_http(&asker, get)).await.map_err(|_| "timed out".to_owned())?;
        }
        if let Some(sleep) = &handler.sleep {
            let wanted = Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0));
            tokio::time::sleep(wanted.min(timeout)).await;
        }
        Ok(())
    }
}
