//! Clients that create objects and update others, and note each answer; an answer that does not come says nothing.

use std::time::Duration;

use http::Method;
use serde_json::json;
use tokio::task::JoinHandle;

use super::{Clock, Record};
use crate::{
    api::{Api, version},
    history::Write,
};

/// Pause after each write: the machine has other work.
const PAUSE: Duration = Duration::from_millis(60);
/// Pause after one that failed.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(200);

/// Writers at work until they are stopped.
pub struct Writers {
    /// Objects that were created.
    pub created: Record<Write>,
    /// Updates of one object each.
    pub updated: Record<Write>,
    tasks: Vec<JoinHandle<()>>,
}

/// Starts writers in a namespace.
#[must_use]
pub fn start(runtime: &tokio::runtime::Handle, api: &Api, clock: Clock, namespace: &str, count: usize) -> Writers {
    let (created, updated) = (Record::default(), Record::default());
    let tasks = (0..count).map(|writer| {
        let work = write(
            api.clone(),
            clock,
            format!("/api/v1/namespaces/{namespace}/configmaps"),
            writer,
            created.clone(),
            updated.clone(),
        );
        runtime.spawn(work)
    });
    Writers { tasks: tasks.collect(), created, updated }
}

impl Writers {
    /// Ends all.
    pub fn stop(&mut self) {
        self.tasks.drain(..).for_each(|task| task.abort());
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn write(api: Api, clock: Clock, path: String, writer: usize, created: Record<Write>, updated: Record<Write>) {
    let register = format!("register-{writer}");
    for number in 0_u64.. {
        let name = if number == 0 { register.clone() } else { format!("write-{writer}-{number}") };
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"number": "0"}});
        let mut failed = false;
        match api.call(Method::POST, &path, Some(&object)).await {
            Ok(object) if number > 0 => created.push(Write { name, version: version(&object), number, at: clock.now() }),
            answer => failed |= answer.is_err(),
        }
        let patch = json!({"data": {"number": number.to_string()}});
        match api.call(Method::PATCH, &format!("{path}/{register}"), Some(&patch)).await {
            Ok(object) => updated.push(Write { name: register.clone(), version: version(&object), number, at: clock.now() }),
            Err(_) => failed = true,
        }
        tokio::time::sleep(if failed { PAUSE_AFTER_FAILURE } else { PAUSE }).await;
    }
}
