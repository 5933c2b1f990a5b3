//! `Priority`: how important a pod is, by the class that it names.

use async_trait::async_trait;
use kontiki_api::{object::text, resources::PODS, status::Status};
use serde_json::{Value, json};

use super::{Operation, Plugin, Request};
use crate::service::ApiServer;

/// Priority classes that every cluster has.
const CLASSES: [(&str, i64); 2] = [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];

/// The plugin.
pub struct Priority;

#[async_trait]
impl Plugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn handles(&self, request: &Request<'_>) -> bool {
        request.operation == Operation::Create && request.is(&PODS)
    }

    async fn mutate(&self, _: &ApiServer, request: &Request<'_>, object: &mut Value, _: &Value) -> Result<(), Status> {
        prioritize(request, object)
    }
}

fn prioritize(request: &Request<'_>, pod: &mut Value) -> Result<(), Status> {
    let class = text(pod, "/spec/priorityClassName").to_owned();
    let priority = if class.is_empty() {
        0
    } else {
        let found = CLASSES.iter().find(|(name, _)| *name == class).map(|(_, priority)| *priority);
        found.ok_or_else(|| request.forbidden(format!("no PriorityClass with name {class} was found")))?
    };
    let spec = &mut pod["spec"];
    spec["priority"] = json!(priority);
    if spec["preemptionPolicy"].is_null() {
        spec["preemptionPolicy"] = json!("PreemptLowerPriority");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use kontiki_api::registry;

    use super::*;
    use crate::auth::UserInfo;

    #[test]
    fn an_unknown_class_is_refused() {
        let mut pod = json!({"metadata": {"name": "a"}, "spec": {"priorityClassName": "high"}});
        let user = UserInfo::apiserver();
        let request = Request::new(&user, registry::of(&PODS).unwrap(), Operation::Create, "default", "a");
        let refused = prioritize(&request, &mut pod).unwrap_err();
        assert_eq!(refused.message, "pods \"a\" is forbidden: no PriorityClass with name high was found");
    }
}
