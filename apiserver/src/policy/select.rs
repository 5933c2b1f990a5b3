//! Which policies apply to a request, under which bindings, with which parameters.

use kontiki_api::{
    object::meta,
    registry::{self, Resource},
    resources::ResourceKey,
    selector::LabelSelector,
};
use serde_json::Value;

use crate::{
    admission::Request,
    service::ApiServer,
    storage::keys,
    webhook::{matching, namespace_of, versions},
};

/// A policy under a binding, ready to be evaluated.
pub struct Bound {
    /// The policy.
    pub policy: Value,
    /// The binding.
    pub binding: Value,
    /// The resource as which the policy sees the request.
    pub matched: &'static Resource,
    /// Parameters: one evaluation each; null where the policy takes none.
    pub parameters: Result<Vec<Value>, String>,
}

impl Bound {
    /// Name of the policy.
    #[must_use]
    pub fn policy_name(&self) -> &str {
        meta::name(&self.policy)
    }

    /// Name of the binding.
    #[must_use]
    pub fn binding_name(&self) -> &str {
        meta::name(&self.binding)
    }

    /// Whether a failure to evaluate lets the request through.
    #[must_use]
    pub fn ignores_failures(&self) -> bool {
        self.policy["spec"]["failurePolicy"] == "Ignore"
    }
}

fn all(server: &ApiServer, key: &ResourceKey) -> Vec<Value> {
    let Some(cache) = registry::of(key).and_then(|resource| server.storage.caches.of(resource)) else { return Vec::new() };
    cache.snapshot().values().map(|object| object.encoded.value()).collect()
}

/// Everything that applies, in the order of the policies' names.
pub fn select(
    server: &ApiServer,
    (policies, bindings): (&ResourceKey, &ResourceKey),
    request: &Request<'_>,
    object: &Value,
    old: &Value,
) -> Vec<Bound> {
    let bindings = all(server, bindings);
    if bindings.is_empty() {
        return Vec::new();
    }
    let namespace = namespace_of(server, request);
    let versions = versions(server, request.resource);
    let mut bound = Vec::new();
    for policy in all(server, policies) {
        let name = meta::name(&policy);
        let own = bindings.iter().filter(|binding| binding["spec"]["policyName"] == name);
        let constraints = &policy["spec"]["matchConstraints"];
        let Some(matched) = matches(constraints, request, &versions, object, old, namespace.as_ref()) else { continue };
        for binding in own {
            let resources = &binding["spec"]["matchResources"];
            let narrowed = resources.is_null() || narrows(resources, request, &versions, object, old, namespace.as_ref());
            if narrowed {
                let parameters = parameters(server, &policy, binding, request);
                bound.push(Bound { policy: policy.clone(), binding: binding.clone(), matched, parameters });
            }
        }
    }
    bound
}

/// The resource as which `MatchResources` matches a request.
fn matches(
    constraints: &Value,
    request: &Request<'_>,
    versions: &[&'static Resource],
    object: &Value,
    old: &Value,
    namespace: Option<&Value>,
) -> Option<&'static Resource> {
    let selected = matching::namespace_matches(&constraints["namespaceSelector"], request, object, old, namespace)
        && matching::object_matches(&constraints["objectSelector"], object, old);
    let equivalent = constraints["matchPolicy"] != "Exact";
    if !selected || matching::matched_resource(&constraints["excludeResourceRules"], request, versions, equivalent).is_some() {
        return None;
    }
    matching::matched_resource(&constraints["resourceRules"], request, versions, equivalent)
}

/// As [`matches`] for a binding, which without rules of its own matches all that the policy does.
fn narrows(
    resources: &Value,
    request: &Request<'_>,
    versions: &[&'static Resource],
    object: &Value,
    old: &Value,
    namespace: Option<&Value>,
) -> bool {
    if resources["resourceRules"].as_array().is_some_and(|rules| !rules.is_empty()) {
        return matches(resources, request, versions, object, old, namespace).is_some();
    }
    let equivalent = resources["matchPolicy"] != "Exact";
    matching::namespace_matches(&resources["namespaceSelector"], request, object, old, namespace)
        && matching::object_matches(&resources["objectSelector"], object, old)
        && matching::matched_resource(&resources["excludeResourceRules"], request, versions, equivalent).is_none()
}

/// The parameters that a binding refers to.
fn parameters(server: &ApiServer, policy: &Value, binding: &Value, request: &Request<'_>) -> Result<Vec<Value>, String> {
    let (kind, reference) = (&policy["spec"]["paramKind"], &binding["spec"]["paramRef"]);
    if kind.is_null() || reference.is_null() {
        return Ok(vec![Value::Null]);
    }
    let text = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
    let (api_version, kind) = (text(kind, "apiVersion"), text(kind, "kind"));
    let custom = || {
        let table = server.storage.caches.custom.table();
        table.resources.iter().find(|resource| resource.key.api_version() == api_version && resource.key.kind == kind).copied()
    };
    let resource = registry::find_kind(&api_version, &kind).or_else(custom);
    let resource =
        resource.ok_or_else(|| format!("failed to find resource referenced by paramKind: '{api_version}, Kind={kind}'"))?;
    let namespace = match (resource.key.namespaced, text(reference, "namespace")) {
        (false, _) => String::new(),
        (true, own) if own.is_empty() => request.namespace.to_owned(),
        (true, own) => own,
    };
    let cache = server.storage.caches.of(resource).ok_or("params are not cached")?;
    let name = text(reference, "name");
    let found: Vec<Value> = if name.is_empty() {
        let selector = LabelSelector::from_value(&reference["selector"]);
        let prefix = keys::collection(resource, &namespace);
        let snapshot = cache.snapshot();
        let own = snapshot.iter().filter(|(key, object)| key.starts_with(&prefix) && selector.matches(&object.header.labels));
        own.map(|(_, object)| object.encoded.value()).collect()
    } else {
        cache.get(&keys::object(resource, &namespace, &name)).map(|object| object.encoded.value()).into_iter().collect()
    };
    if found.is_empty() && reference["parameterNotFoundAction"] == "Deny" {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".to_owned());
    }
    Ok(found)
}
