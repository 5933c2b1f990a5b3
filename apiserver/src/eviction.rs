//! `pods/eviction`: a pod is deleted if its disruption budget lets it go.
//!
//! In: an Eviction. Out: the pod's deletion begun, or 429 with the cause `DisruptionBudget`. The budget is charged by an
//! optimistic change of its status before the pod goes, so that evictions through any server share one budget.
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/>

use bytes::Bytes;
use http::{Response, StatusCode};
use jiff::Timestamp;
use kontiki_api::{
    object::{meta, text},
    registry::{self, Resource},
    resources::POD_DISRUPTION_BUDGETS,
    selector::LabelSelector,
    status::Status,
};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::{
    admission::{Operation, Request, lookup},
    handlers::{delete, encode, write},
    negotiate,
    response::Body,
    service::{ApiServer, Call},
    storage::{Guard, Outcome},
};

const REFUSED: &str = "Cannot evict pod as it would violate the pod's disruption budget.";
/// Evictions that a budget remembers until its controller has seen them.
const DISRUPTED_MAX: usize = 2000;
/// Seconds after which a budget that is not counted yet is worth another try.
const PROCESSING_SECONDS: u32 = 10;

/// Evicts a pod.
pub async fn evict(server: &ApiServer, call: &Call, pods: &'static Resource) -> Result<Response<Body>, Status> {
    let accepted = negotiate::accept_without_tables(&call.headers)?;
    let body = write::json_body(call)?;
    let mut eviction: Value = serde_json::from_slice(&body).map_err(|error| Status::bad_request(error.to_string()))?;
    let name = call.info.name.as_str();
    if !meta::name(&eviction).is_empty() && meta::name(&eviction) != name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let asked = eviction["deleteOptions"]["dryRun"] == json!(["All"]);
    let mut request = Request::of(call, pods, Operation::Create, name)?;
    request.dry_run |= asked;
    server.admission.admit(server, &request, &mut eviction, &Value::Null).await?;
    let pod = server.storage.get(pods, request.namespace, name).await?.encoded.value();
    if !needs_no_budget(&pod) {
        charge(server, &request, &pod).await?;
        if !request.dry_run {
            mark(server, &request, pods).await?;
        }
    }
    remove(server, call, pods, &eviction["deleteOptions"], request.dry_run).await?;
    let mut status = Status::success("", "", "", "");
    status.code = 201;
    status.details = None;
    let status = serde_json::to_value(&status).map_err(|error| Status::internal_error(error.to_string()))?;
    encode::value_in(StatusCode::CREATED, &status, &accepted)
}

/// A pod that does not run, or goes anyway, is missed by nobody.
fn needs_no_budget(pod: &Value) -> bool {
    meta::is_deleting(pod) || matches!(text(pod, "/status/phase"), "Succeeded" | "Failed" | "Pending")
}

async fn charge(server: &ApiServer, request: &Request<'_>, pod: &Value) -> Result<(), Status> {
    let budgets = lookup::list(server, &POD_DISRUPTION_BUDGETS, request.namespace);
    let mut matching = budgets.iter().filter(|budget| covers(budget, pod));
    let Some(budget) = matching.next() else { return Ok(()) };
    if matching.next().is_some() {
        let message = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
        return Err(Status::internal_error(message));
    }
    let resource = registry::of(&POD_DISRUPTION_BUDGETS).ok_or_else(Status::no_such_path)?;
    let now = Timestamp::now();
    let mut transaction = server.storage.begin(resource, request.namespace, meta::name(budget)).await?;
    loop {
        let decided = charged(transaction.object(), pod, now);
        let decided = match decided {
            Ok(Some(_)) if request.dry_run => Ok(transaction.object().clone()),
            Ok(Some(changed)) => Ok(changed),
            Ok(None) => return Ok(()),
            Err(status) => Err(status),
        };
        if transaction.commit(decided.map(|budget| Outcome::Store(budget, Guard::default()))).await?.is_some() {
            return Ok(());
        }
    }
}

fn covers(budget: &Value, pod: &Value) -> bool {
    let Some(selector) = budget.pointer("/spec/selector").filter(|selector| !selector.is_null()) else { return false };
    let labels = meta::get(pod, "labels").cloned().unwrap_or_else(|| json!({}));
    LabelSelector::from_value(selector).matches(&labels)
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
    conditions.into_iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// The budget after one more disruption; `None` if the pod may go without one; otherwise why it may not.
fn charged(budget: &Value, pod: &Value, now: Timestamp) -> Result<Option<Value>, Status> {
    let name = meta::name(budget);
    let number = |field: &str| budget["status"][field].as_i64().unwrap_or(0);
    if !is_ready(pod) {
        let always = text(budget, "/spec/unhealthyPodEvictionPolicy") == "AlwaysAllow";
        let healthy = number("currentHealthy") >= number("desiredHealthy") && number("desiredHealthy") > 0;
        if always || healthy {
            return Ok(None);
        }
    }
    if number("observedGeneration") < meta::generation(budget) {
        let message = format!("The disruption budget {name} is still being processed by the server.");
        return Err(too_many(message, PROCESSING_SECONDS));
    }
    let forbidden = |why: &str| Status::forbidden("policy", "poddisruptionbudget", name, why);
    if number("disruptionsAllowed") < 0 {
        return Err(forbidden("pdb disruptions allowed is negative"));
    }
    let mut disrupted = budget["status"]["disruptedPods"].as_object().cloned().unwrap_or_default();
    if disrupted.len() > DISRUPTED_MAX {
        return Err(forbidden("DisruptedPods map too big - too many evictions not confirmed by PDB controller"));
    }
    if number("disruptionsAllowed") == 0 {
        return Err(too_many(shortage(budget), 0));
    }
    disrupted.insert(meta::name(pod).to_owned(), json!(meta::time(now)));
    let mut after = budget.clone();
    let left = number("disruptionsAllowed") - 1;
    after["status"]["disruptionsAllowed"] = json!(left);
    after["status"]["disruptedPods"] = Value::Object(disrupted);
    if left == 0 {
        for condition in after["status"]["conditions"].as_array_mut().into_iter().flatten() {
            if condition["type"] == "DisruptionAllowed" && condition["status"] != "False" {
                condition["status"] = json!("False");
                condition["reason"] = json!("InsufficientPods");
                condition["lastTransitionTime"] = json!(meta::time(now));
            }
        }
    }
    Ok(Some(after))
}

fn shortage(budget: &Value) -> String {
    let name = meta::name(budget);
    let mut conditions = budget["status"]["conditions"].as_array().into_iter().flatten();
    let failed = conditions.find(|condition| {
        condition["type"] == "DisruptionAllowed" && condition["status"] == "False" && condition["reason"] == "SyncFailed"
    });
    if let Some(failed) = failed {
        let why = failed["message"].as_str().unwrap_or_default();
        return format!("The disruption budget {name} does not allow evicting pods currently because it failed sync: {why}");
    }
    let number = |field: &str| budget["status"][field].as_i64().unwrap_or(0);
    let (needs, has) = (number("desiredHealthy"), number("currentHealthy"));
    format!("The disruption budget {name} needs {needs} healthy pods and has {has} currently")
}

fn too_many(cause: String, seconds: u32) -> Status {
    Status::too_many_requests(REFUSED, seconds).with_cause("DisruptionBudget", cause, "")
}

/// Says on the pod why it goes.
async fn mark(server: &ApiServer, request: &Request<'_>, pods: &'static Resource) -> Result<(), Status> {
    let condition = json!({
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
        "lastTransitionTime": meta::time(Timestamp::now()),
    });
    let change = |mut pod: Value| {
        let mut conditions = pod.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
        conditions.retain(|condition| condition["type"] != "DisruptionTarget");
        conditions.push(condition.clone());
        pod["status"]["conditions"] = Value::Array(conditions);
        Ok(Outcome::Store(pod, Guard::default()))
    };
    server.storage.change(pods, request.namespace, request.name, change).await.map(drop)
}

/// Deletes the pod as its user would.
async fn remove(server: &ApiServer, call: &Call, pods: &'static Resource, options: &Value, dry_run: bool) -> Result<(), Status> {
    let mut info = call.info.clone();
    info.verb = "delete".to_owned();
    info.subresource.clear();
    if dry_run {
        info.query.insert("dryRun".to_owned(), "All".to_owned());
    }
    let body = if options.is_object() { Bytes::from(options.to_string()) } else { Bytes::new() };
    let mut headers = http::HeaderMap::new();
    headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    let deletion =
        Call { user: call.user.clone(), info, headers, body, upgrade: Mutex::new(None), streamed: None, peer: call.peer };
    delete::one(server, &deletion, pods).await.map(drop)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn budget(status: Value) -> Value {
        json!({"metadata": {"name": "b", "generation": 1}, "spec": {"selector": {"matchLabels": {"app": "web"}}}, "status": status})
    }

    fn pod(ready: &str) -> Value {
        json!({
            "metadata": {"name": "p", "labels": {"app": "web"}},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]},
        })
    }

    #[test]
    fn a_budget_is_charged_until_it_is_used_up() {
        let free = budget(json!({"observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 3, "desiredHealthy": 2}));
        assert!(covers(&free, &pod("True")));
        let after = charged(&free, &pod("True"), Timestamp::UNIX_EPOCH).unwrap().unwrap();
        assert_eq!(after["status"]["disruptionsAllowed"], 0);
        assert_eq!(after["status"]["disruptedPods"], json!({"p": "1970-01-01T00:00:00Z"}));
        let refused = charged(&after, &pod("True"), Timestamp::UNIX_EPOCH).unwrap_err();
        assert_eq!((refused.code, refused.message.as_str()), (429, REFUSED));
        let cause = &refused.details.unwrap().causes[0];
        assert_eq!(cause.reason, "DisruptionBudget");
        assert_eq!(cause.message, "The disruption budget b needs 2 healthy pods and has 3 currently");
    }

    #[test]
    fn an_unhealthy_pod_goes_where_the_rest_is_well() {
        let well = budget(json!({"observedGeneration": 1, "disruptionsAllowed": 0, "currentHealthy": 2, "desiredHealthy": 2}));
        assert_eq!(charged(&well, &pod("False"), Timestamp::UNIX_EPOCH).unwrap(), None);
        let mut ill = budget(json!({"observedGeneration": 1, "disruptionsAllowed": 0, "currentHealthy": 1, "desiredHealthy": 2}));
        assert_eq!(charged(&ill, &pod("False"), Timestamp::UNIX_EPOCH).unwrap_err().code, 429);
        ill["spec"]["unhealthyPodEvictionPolicy"] = json!("AlwaysAllow");
        assert_eq!(charged(&ill, &pod("False"), Timestamp::UNIX_EPOCH).unwrap(), None);
        let unseen = budget(json!({"disruptionsAllowed": 1}));
        let refused = charged(&unseen, &pod("True"), Timestamp::UNIX_EPOCH).unwrap_err();
        assert_eq!(refused.details.unwrap().retry_after_seconds, 10);
    }

    #[test]
    fn what_does_not_run_needs_no_budget() {
        assert!(needs_no_budget(&json!({"status": {"phase": "Pending"}})));
        assert!(!needs_no_budget(&pod("True")));
    }
}
