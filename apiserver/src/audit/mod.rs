//! The audit log: who did what, by a policy, as lines of JSON in a file.
//!
//! In: a request at its stages. Out: `audit.k8s.io/v1` Events. Invariant: recording never makes a request wait.
//! <https://kubernetes.io/docs/tasks/debug/debug-cluster/audit/>

mod event;
mod log;
mod policy;
mod request;

pub use event::Record;
pub use log::Log;
pub use policy::{Level, Policy, PolicyError, Stage};

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::{Method, StatusCode};
    use serde_json::{Value, json};

    use super::*;
    use crate::{auth::UserInfo, testing};

    #[tokio::test]
    async fn who_did_what_is_a_line_in_the_file() {
        let policy = "{apiVersion: audit.k8s.io/v1, kind: Policy, omitStages: [RequestReceived], rules: [\
            {level: None, users: [system:apiserver]}, \
            {level: RequestResponse, resources: [{group: '', resources: [configmaps]}]}, {level: Metadata}]}";
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let log = Log::open(Policy::parse(policy.as_bytes()).unwrap(), &path).await.unwrap();
        let handle = testing::server_of(crate::service::Options { audit: Some(log), ..testing::options() }).await;
        let jane = UserInfo::authenticated("jane", ["system:masters"]);
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}});
        let (code, body) = testing::call(&handle, &jane, Method::POST, "/api/v1/namespaces/default/configmaps", &map).await;
        assert_eq!(code, StatusCode::CREATED, "{body}");
        testing::call(&handle, &jane, Method::GET, "/version", &json!(null)).await;
        let lines = testing::eventually(async || {
            let text = tokio::fs::read_to_string(&path).await.ok()?;
            let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            (lines.len() == 2).then_some(lines)
        });
        let lines = lines.await;
        let created = &lines[0];
        assert_eq!((&created["stage"], &created["level"]), (&json!("ResponseComplete"), &json!("RequestResponse")));
        assert_eq!((&created["user"]["username"], &created["verb"]), (&json!("jane"), &json!("create")));
        assert_eq!(created["objectRef"]["resource"], "configmaps");
        assert_eq!((&created["requestObject"]["data"]["k"], &created["responseStatus"]["code"]), (&json!("v"), &json!(201)));
        assert!(created["responseObject"]["metadata"]["uid"].is_string());
        assert_eq!((&lines[1]["requestURI"], &lines[1]["level"]), (&json!("/version"), &json!("Metadata")));
        assert!(lines[1].get("requestObject").is_none());
    }
}
