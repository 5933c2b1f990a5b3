//! Jobs of one pod each, asked for again and again: whoever acts twice makes a second pod.

use std::time::Duration;

use http::Method;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::api::Api;

/// Pause between two.
const PAUSE: Duration = Duration::from_secs(5);

/// Jobs that are made until this is dropped.
pub struct Jobs(JoinHandle<()>);

/// Starts making Jobs in a namespace.
#[must_use]
pub fn start(runtime: &tokio::runtime::Handle, api: &Api, namespace: &str) -> Jobs {
    let (api, path) = (api.clone(), format!("/apis/batch/v1/namespaces/{namespace}/jobs"));
    Jobs(runtime.spawn(async move {
        for number in 0_u64.. {
            let container = json!({"name": "main", "image": "nginx:1.21", "command": ["sh", "-c", "exit 0"]});
            // A pod whose node fails goes on in the same pod: a second one has no excuse.
            let pod = json!({"restartPolicy": "OnFailure", "containers": [container]});
            let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": format!("once-{number}")},
                "spec": {"template": {"spec": pod}}});
            // Whether it was made is seen by the watch of pods.
            let _ = api.call(Method::POST, &path, Some(&job)).await;
            tokio::time::sleep(PAUSE).await;
        }
    }))
}

impl Drop for Jobs {
    fn drop(&mut self) {
        self.0.abort();
    }
}
