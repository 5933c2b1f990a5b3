//! What a claim on devices asks for.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    kinds::{
        check::At,
        common::{default, items_mut},
        kind::Errors,
    },
    names,
};

const REQUESTS_MAX: usize = 32;
const CONSTRAINTS_MAX: usize = 32;
/// Configurations of a claim or class.
pub(super) const CONFIG_MAX: usize = 32;
const SELECTORS_MAX: usize = 32;
const EXPRESSION_BYTES_MAX: usize = 10 * 1024;

/// One device, unless the request says otherwise.
pub(super) fn set_defaults(spec: &mut Value) {
    for request in items_mut(spec, "/devices/requests") {
        if let Some(exactly) = request.get_mut("exactly") {
            set_request_defaults(exactly);
        }
        items_mut(request, "/firstAvailable").for_each(set_request_defaults);
    }
}

fn set_request_defaults(request: &mut Value) {
    let Some(request) = request.as_object_mut() else { return };
    default(request, "allocationMode", "ExactCount");
    if request["allocationMode"] == "ExactCount" {
        default(request, "count", 1);
    }
}

/// Checks of a claim's specification.
pub(super) fn check(spec: &At<'_>, errors: &mut Errors) {
    let devices = spec.get("devices");
    devices.get("requests").too_many(REQUESTS_MAX, errors);
    devices.get("constraints").too_many(CONSTRAINTS_MAX, errors);
    devices.get("config").too_many(CONFIG_MAX, errors);
    let mut seen = BTreeSet::new();
    for request in devices.items("requests") {
        let name = request.get("name");
        name.must_be_named(names::dns_label, errors);
        if !seen.insert(name.text().to_owned()) {
            name.duplicate(errors);
        }
        let (exactly, first) = (request.get("exactly"), request.get("firstAvailable"));
        match (exactly.is_set(), !first.is_empty()) {
            (false, false) => request.required("exactly one of `exactly` or `firstAvailable` is required", errors),
            (true, true) => request.invalid_unquoted("exactly one of `exactly` or `firstAvailable` is required", errors),
            (true, false) => check_request(&exactly, errors),
            (false, true) => first.each().for_each(|request| {
                request.get("name").must_be_named(names::dns_label, errors);
                check_request(&request, errors);
            }),
        }
    }
    for (constraint, request) in devices
        .items("constraints")
        .flat_map(|constraint| constraint.items("requests").map(move |request| (constraint.clone(), request)))
    {
        let own = request.text().split('/').next().unwrap_or_default();
        if !seen.contains(own) {
            At::new(request.value, request.path.clone()).invalid(
                "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'",
                errors,
            );
        }
        constraint.get("matchAttribute").named(names::qualified_name, errors);
    }
}

fn check_request(request: &At<'_>, errors: &mut Errors) {
    request.get("deviceClassName").must_be_named(names::dns_subdomain, errors);
    check_selectors(&request.get("selectors"), errors);
    let (mode, count) = (request.get("allocationMode"), request.get("count"));
    match mode.text() {
        "All" if count.number().unwrap_or(0) != 0 => {
            count.invalid("must not be specified when allocationMode is 'All'", errors);
        }
        "ExactCount" if count.number().unwrap_or(0) <= 0 => count.invalid("must be greater than zero", errors),
        "All" | "ExactCount" => {}
        _ => mode.one_of(&["All", "ExactCount"], errors),
    }
}

/// Expressions that choose devices.
pub(super) fn check_selectors(selectors: &At<'_>, errors: &mut Errors) {
    selectors.too_many(SELECTORS_MAX, errors);
    for selector in selectors.each() {
        let cel = selector.get("cel");
        if cel.is_absent() {
            cel.required("", errors);
            continue;
        }
        let expression = cel.get("expression");
        expression.must_be_set(errors);
        expression.at_most_bytes(EXPRESSION_BYTES_MAX, errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_request_asks_for_one_device_of_a_class() {
        let mut spec = json!({"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpu.example.com"}}]}});
        set_defaults(&mut spec);
        assert_eq!(spec["devices"]["requests"][0]["exactly"]["count"], 1);
        let mut errors = Vec::new();
        check(&At::new(&spec, "spec"), &mut errors);
        assert_eq!(errors, vec![]);
        check(&At::new(&json!({"devices": {"requests": [{"name": "gpu"}]}}), "spec"), &mut errors);
        assert_eq!(errors[0].field, "spec.devices.requests[0]");
    }
}
