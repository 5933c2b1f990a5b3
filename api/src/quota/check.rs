//! Whether an object fits into the quotas of its namespace, and what these have used then.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{list::List, scope, usage::Evaluator};

/// A change of an object that is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// Counts objects of this resource.
    pub evaluator: Evaluator<'a>,
    /// The object as it will be.
    pub object: &'a Value,
    /// The object as it is; null where it is created.
    pub old: &'a Value,
    /// A status is changed: it is charged whether it fits or not.
    pub is_status: bool,
}

fn hard(quota: &Value) -> List {
    List::parse(quota.pointer("/status/hard"))
}

fn used(quota: &Value) -> List {
    List::parse(quota.pointer("/status/used"))
}

/// Whether an object falls under a quota: it uses something that the quota bounds and has its scopes.
#[must_use]
pub fn matches(evaluator: Evaluator<'_>, object: &Value, quota: &Value) -> bool {
    hard(quota).0.keys().any(|name| evaluator.measures(name)) && scope::matches(evaluator.plural, object, quota)
}

/// What a change adds to a quota's usage; nothing where it does not touch the quota. Otherwise why it does not fit.
pub fn admit(change: &Change<'_>, quota: &Value, now: Timestamp) -> Result<List, String> {
    let Change { evaluator, object, old, is_status } = *change;
    if !matches(evaluator, object, quota) {
        return Ok(List::default());
    }
    let name = quota["metadata"]["name"].as_str().unwrap_or_default();
    let (hard, used) = (hard(quota), used(quota));
    let bounded = hard.filtered(|name, _| evaluator.measures(name));
    if let Some(unspoken) = evaluator.unspoken(object, &bounded) {
        return Err(format!("failed quota: {name}: {unspoken}"));
    }
    if bounded.0.keys().any(|name| !used.0.contains_key(name)) {
        let names: Vec<&str> = bounded.0.keys().map(String::as_str).collect();
        return Err(format!("status unknown for quota: {name}, resources: {}", names.join(",")));
    }
    let mut usage = evaluator.usage(object, now);
    let negative: Vec<&str> =
        usage.0.iter().filter(|(_, amount)| amount.quantity.is_negative()).map(|(name, _)| name.as_str()).collect();
    if !negative.is_empty() {
        return Err(format!("quota usage is negative for resource(s): {}", negative.join(",")));
    }
    if !old.is_null() && matches(evaluator, old, quota) {
        usage = usage.beyond(&evaluator.usage(old, now));
    }
    let added = usage.filtered(|_, amount| !amount.quantity.is_zero()).masked(&hard);
    let mut after = used.clone();
    after.add_all(&added);
    let exceeded = added.filtered(|name, _| hard.0[name].quantity < after.0[name].quantity);
    if exceeded.0.is_empty() || is_status {
        return Ok(added);
    }
    let (used, limited) = (used.masked(&exceeded), hard.masked(&exceeded));
    Err(format!("exceeded quota: {name}, requested: {exceeded}, used: {used}, limited: {limited}"))
}

/// What an object uses of a quota, as the controller counts it.
#[must_use]
pub fn object_usage(evaluator: Evaluator<'_>, object: &Value, quota: &Value, now: Timestamp) -> List {
    if scope::matches(evaluator.plural, object, quota) { evaluator.usage(object, now) } else { List::default() }
}

/// The status of a quota whose objects use this in all, where it differs from what the quota says. `measured` tells
/// whether a resource is one that somebody counts.
#[must_use]
pub fn quota_status(quota: &Value, total: &List, measured: impl Fn(&str) -> bool) -> Option<Value> {
    let hard = List::parse(quota.pointer("/spec/hard"));
    let mut used = hard.filtered(|name, _| measured(name));
    for (name, amount) in &mut used.0 {
        *amount = total.0.get(name).copied().unwrap_or_default();
    }
    let (told_hard, told_used) = (self::hard(quota), self::used(quota));
    let known = quota.pointer("/status/hard").is_some() && quota.pointer("/status/used").is_some();
    let same = known && told_hard.same(&hard) && told_used.same(&used);
    (!same).then(|| json!({ "hard": quota["spec"].get("hard").cloned().unwrap_or_else(|| json!({})), "used": used.to_value() }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PODS: Evaluator<'static> = Evaluator { group: "", plural: "pods" };

    fn quota(hard: Value, used: Value) -> Value {
        json!({"metadata": {"name": "q"}, "spec": {"hard": hard}, "status": {"hard": hard, "used": used}})
    }

    fn pod(requests: Value) -> Value {
        json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "resources": {"requests": requests}}]}})
    }

    fn create(evaluator: Evaluator<'_>, object: &Value, quota: &Value) -> Result<String, String> {
        let change = Change { evaluator, object, old: &Value::Null, is_status: false };
        admit(&change, quota, Timestamp::UNIX_EPOCH).map(|added| added.to_string())
    }

    #[test]
    fn a_pod_fits_or_is_refused_in_kubernetes_words() {
        let bounds = json!({"pods": "2", "requests.memory": "1Gi", "count/pods": "5"});
        let asks = pod(json!({"memory": "512Mi"}));
        let free = quota(bounds.clone(), json!({"pods": "0", "requests.memory": "0", "count/pods": "0"}));
        assert_eq!(create(PODS, &asks, &free).unwrap(), "count/pods=1,pods=1,requests.memory=512Mi");
        let full = quota(bounds.clone(), json!({"pods": "2", "requests.memory": "768Mi", "count/pods": "2"}));
        assert_eq!(
            create(PODS, &asks, &full).unwrap_err(),
            "exceeded quota: q, requested: pods=1,requests.memory=512Mi, used: pods=2,requests.memory=768Mi, limited: pods=2,requests.memory=1Gi"
        );
        assert_eq!(create(PODS, &pod(json!({})), &free).unwrap_err(), "failed quota: q: must specify requests.memory for: c");
        let unknown = quota(bounds, json!({}));
        assert_eq!(
            create(PODS, &asks, &unknown).unwrap_err(),
            "status unknown for quota: q, resources: count/pods,pods,requests.memory"
        );
    }

    #[test]
    fn scopes_choose_the_pods() {
        let scoped = |scope: Value| {
            let mut quota = quota(json!({"pods": "1"}), json!({"pods": "1"}));
            quota["spec"]["scopeSelector"] = json!({"matchExpressions": [scope]});
            quota
        };
        let class = |operator: &str| scoped(json!({"scopeName": "PriorityClass", "operator": operator, "values": ["high"]}));
        let (mut high, low) = (pod(json!({"cpu": "1"})), pod(json!({"cpu": "1"})));
        high["spec"]["priorityClassName"] = json!("high");
        let fits = |object: &Value, quota: &Value| create(PODS, object, quota).is_ok();
        assert_eq!((fits(&high, &class("In")), fits(&low, &class("In"))), (false, true));
        assert_eq!((fits(&high, &class("NotIn")), fits(&low, &class("NotIn"))), (true, false));
        assert_eq!((fits(&high, &class("Exists")), fits(&low, &class("Exists"))), (false, true));
        let best = |scope: &str| scoped(json!({"scopeName": scope, "operator": "Exists"}));
        assert_eq!((fits(&pod(json!({})), &best("BestEffort")), fits(&low, &best("BestEffort"))), (false, true));
        assert_eq!((fits(&pod(json!({})), &best("NotBestEffort")), fits(&low, &best("NotBestEffort"))), (true, false));
        let services = Evaluator { group: "", plural: "services" };
        let mut all = best("BestEffort");
        all["status"]["hard"] = json!({"services": "0"});
        assert!(create(services, &json!({}), &all).is_ok());
    }

    #[test]
    fn services_claims_and_objects_are_counted() {
        let now = Timestamp::UNIX_EPOCH;
        let usage = |group: &str, plural: &str, object: Value| Evaluator { group, plural }.usage(&object, now).to_string();
        let balancer = json!({"spec": {"type": "LoadBalancer", "ports": [{}, {}]}});
        assert_eq!(usage("", "services", balancer), "count/services=1,services=1,services.loadbalancers=1,services.nodeports=2");
        let claim = json!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1Gi"}}}});
        assert_eq!(
            usage("", "persistentvolumeclaims", claim),
            "count/persistentvolumeclaims=1,gold.storageclass.storage.k8s.io/persistentvolumeclaims=1,\
             gold.storageclass.storage.k8s.io/requests.storage=1Gi,persistentvolumeclaims=1,requests.storage=1Gi"
        );
        assert_eq!(usage("apps", "deployments", json!({})), "count/deployments.apps=1");
        assert_eq!(usage("", "secrets", json!({})), "count/secrets=1,secrets=1");
        let ended = json!({"status": {"phase": "Succeeded"}, "spec": {}});
        assert_eq!(usage("", "pods", ended), "count/pods=1");
        let extended = pod(json!({"example.com/dongle": "3", "cpu": "1"}));
        assert_eq!(usage("", "pods", extended), "count/pods=1,cpu=1,pods=1,requests.cpu=1,requests.example.com/dongle=3");
    }

    #[test]
    fn an_update_is_charged_for_what_it_adds() {
        let services = Evaluator { group: "", plural: "services" };
        let quota =
            quota(json!({"services.nodeports": "1", "services": "1"}), json!({"services.nodeports": "0", "services": "1"}));
        let (old, new) = (json!({"spec": {"ports": [{}]}}), json!({"spec": {"type": "NodePort", "ports": [{}]}}));
        let change = Change { evaluator: services, object: &new, old: &old, is_status: false };
        assert_eq!(admit(&change, &quota, Timestamp::UNIX_EPOCH).unwrap().to_string(), "services.nodeports=1");
        let back = Change { evaluator: services, object: &old, old: &new, is_status: false };
        assert_eq!(admit(&back, &quota, Timestamp::UNIX_EPOCH).unwrap(), List::default());
    }

    #[test]
    fn a_status_is_written_when_it_is_not_true() {
        let mut total = List::default();
        total.add("pods", super::super::Amount::of(2));
        let told = quota(json!({"pods": "5", "unknown.io/x": "1"}), json!({"pods": "1"}));
        let status = quota_status(&told, &total, |name| name == "pods").unwrap();
        assert_eq!(status, json!({"hard": {"pods": "5", "unknown.io/x": "1"}, "used": {"pods": "2"}}));
        let mut true_now = told;
        true_now["status"] = status;
        assert_eq!(quota_status(&true_now, &total, |name| name == "pods"), None);
    }
}
