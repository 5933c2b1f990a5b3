//! componentstatuses: made from what this server knows when somebody asks, and kept nowhere.
//!
//! Kubernetes has deprecated the resource; what is left of it are old habits and old clients. A
//! controller manager and a scheduler are healthy while somebody renews their Lease.

use http::{Response, StatusCode};
use jiff::{SignedDuration, Timestamp};
use kontiki_api::{
    object::text,
    registry::{self, Resource},
    resources::LEASES,
    status::Status,
};
use serde_json::{Value, json};

use super::encode;
use crate::{
    negotiate::{self, Form},
    response::{self, Body},
    service::{ApiServer, Call},
};

/// Namespace of the components' Leases.
const NAMESPACE: &str = "kube-system";
/// Components that hold a Lease.
const LED: [(&str, &str); 2] = [("controller-manager", "kube-controller-manager"), ("scheduler", "kube-scheduler")];
/// What every answer warns of.
const WARNING: &str = "v1 ComponentStatus is deprecated in v1.19+";

/// get and list.
pub fn answer(server: &ApiServer, call: &Call, resource: &'static Resource) -> Result<Response<Body>, Status> {
    let accepted = negotiate::accept(&call.headers)?;
    let all = statuses(server);
    let name = call.info.name.as_str();
    let shown = if name.is_empty() {
        all
    } else {
        let found: Vec<Value> = all.into_iter().filter(|status| status["metadata"]["name"] == name).collect();
        if found.is_empty() {
            return Err(Status::not_found("", resource.key.plural, name));
        }
        found
    };
    let include = encode::include_object(&call.info)?;
    let value = match &accepted.form {
        Form::Table(version) => {
            let version = encode::meta_version(version);
            let metadata = serde_json::Map::new();
            kontiki_api::table::table(resource, &version, metadata, shown.iter(), Timestamp::now(), include)
        }
        _ if !name.is_empty() => shown.into_iter().next().unwrap_or_default(),
        _ => json!({ "kind": "ComponentStatusList", "apiVersion": "v1", "metadata": {}, "items": shown }),
    };
    let mut answer = encode::value_in(StatusCode::OK, &value, &accepted)?;
    response::warn(&mut answer, &[WARNING.to_owned()]);
    Ok(answer)
}

fn statuses(server: &ApiServer) -> Vec<Value> {
    let leader = server.options.kv.leadership().borrow().leader_id.is_some();
    let store = component("etcd-0", if leader { Ok("ok") } else { Err("the store has no leader") });
    let leases = registry::of(&LEASES);
    let led = LED.into_iter().map(|(name, lease)| {
        let lease = leases.and_then(|leases| server.storage.get_cached(leases, NAMESPACE, lease).ok());
        let alive = lease.is_some_and(|lease| is_held(&lease.encoded.value(), Timestamp::now()));
        component(name, if alive { Ok("ok") } else { Err("nobody renews the component's lease") })
    });
    led.chain(std::iter::once(store)).collect()
}

/// Whether a Lease was renewed within its duration.
fn is_held(lease: &Value, now: Timestamp) -> bool {
    let Ok(renewed) = text(lease, "/spec/renewTime").parse::<Timestamp>() else { return false };
    let seconds = lease["spec"]["leaseDurationSeconds"].as_i64().unwrap_or(0);
    now.duration_since(renewed) <= SignedDuration::from_secs(seconds)
}

fn component(name: &str, health: Result<&str, &str>) -> Value {
    let condition = match health {
        Ok(message) => json!({ "type": "Healthy", "status": "True", "message": message }),
        Err(error) => json!({ "type": "Healthy", "status": "False", "message": "", "error": error }),
    };
    json!({
        "kind": "ComponentStatus",
        "apiVersion": "v1",
        "metadata": { "name": name },
        "conditions": [condition],
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_component_is_healthy_while_its_lease_is_renewed() {
        let lease = json!({"spec": {"renewTime": "2026-01-01T00:00:00.000000Z", "leaseDurationSeconds": 15}});
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert!(is_held(&lease, at("2026-01-01T00:00:15Z")));
        assert!(!is_held(&lease, at("2026-01-01T00:00:16Z")));
        assert!(!is_held(&json!({}), at("2026-01-01T00:00:16Z")));
    }
}
