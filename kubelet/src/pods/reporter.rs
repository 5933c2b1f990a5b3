//! Sends a pod's status, the newest only, without holding up its worker.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kontiki_api::resources::PODS;
use kontiki_client::{Client, Patch};
use rand::Rng;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::Pods;

/// First and longest pause after an error.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(10));

/// Where a status goes.
#[derive(Clone)]
pub struct Target {
    /// The API.
    pub client: Client,
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub name: String,
    /// UID of the pod: another one of the same name gets nothing.
    pub uid: String,
    /// Knows under which UID the API has it.
    pub pods: Pods,
    /// Set when the API has something else than what was sent last.
    pub again: Arc<AtomicBool>,
}

/// Whether an object has all that a status says. What it has beside that is somebody else's.
pub fn covers(object: &Value, status: &Value) -> bool {
    match (object, status) {
        (_, Value::Null) => true,
        (Value::Object(object), Value::Object(status)) => status.iter().all(|(name, value)| match object.get(name) {
            Some(own) => covers(own, value),
            None => value.is_null() || matches!(value, Value::Object(fields) if fields.is_empty()),
        }),
        (Value::Array(object), Value::Array(status)) => {
            object.len() == status.len() && object.iter().zip(status).all(|(own, value)| covers(own, value))
        }
        _ => object == status,
    }
}

/// Sends each new status until the sender is gone; `sent` follows what has arrived.
pub async fn run(target: Target, mut statuses: watch::Receiver<Value>, sent: watch::Sender<Value>) {
    let mut pause = RETRY.0;
    loop {
        let status = statuses.borrow_and_update().clone();
        let again = target.again.swap(false, Ordering::AcqRel);
        if !status.is_null() && (again || *sent.borrow() != status) {
            let Some(uid) = target.pods.api_uid(&target.namespace, &target.name, &target.uid) else {
                // A static pod that has no mirror yet: its coming is news, and then this is told.
                sent.send_replace(status);
                if statuses.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let patch = Patch::Merge(json!({ "metadata": { "uid": uid }, "status": status }));
            match target.client.patch::<Value>(PODS, &target.namespace, &target.name, Some("status"), patch).await {
                Ok(_) => {
                    sent.send_replace(status);
                    pause = RETRY.0;
                }
                // It is gone or replaced: nobody is left to tell.
                Err(error) if error.is_not_found() || error.is_conflict() => {
                    sent.send_replace(status);
                }
                Err(error) => {
                    tracing::warn!(pod = target.name, %error, "cannot report a pod's status; trying again");
                    let jitter = rand::rng().random_range(0.75..1.25);
                    tokio::time::sleep(pause.mul_f64(jitter)).await;
                    pause = (pause * 2).min(RETRY.1);
                    continue;
                }
            }
        }
        if statuses.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_changed_is_seen() {
        let sent = json!({"phase": "Running", "conditions": [{"type": "Ready", "lastProbeTime": null}], "lastState": {}});
        let shown = json!({"phase": "Running", "conditions": [{"type": "Ready"}], "qosClass": "Burstable"});
        assert!(covers(&shown, &sent));
        assert!(!covers(&json!({"phase": "Failed", "conditions": [{"type": "Ready"}]}), &sent));
        assert!(!covers(&json!({"phase": "Running", "conditions": []}), &sent));
        assert!(!covers(&json!({"conditions": [{"type": "Ready"}]}), &sent));
    }
}
