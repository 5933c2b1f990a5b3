//! IPAddress.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::{
    kinds::{
        check::At,
        common::{AGE, NAME, age, column, name},
        kind::Kind,
    },
    names,
    object::text,
};

/// IPAddress.
pub static IP_ADDRESS: Kind = Kind {
    name: |name| match name.parse::<IpAddr>() {
        Ok(address) if address.to_string() == name => Vec::new(),
        Ok(address) => vec![format!("must be in canonical form ({:?})", address.to_string())],
        Err(_) => vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()],
    },
    validate: |object, errors| {
        let parent = At::root(object).get("spec.parentRef");
        if parent.is_absent() {
            return parent.required("", errors);
        }
        parent.get("group").named(names::dns_subdomain, errors);
        parent.get("resource").must_be_named(names::path_segment, errors);
        parent.get("name").must_be_named(names::path_segment, errors);
        parent.get("namespace").named(names::path_segment, errors);
    },
    validate_update: |new, old, errors| {
        At::root(new).get("spec.parentRef").immutable(&At::root(old).get("spec.parentRef"), errors);
    },
    fields: &["spec.parentRef.group", "spec.parentRef.resource", "spec.parentRef.namespace", "spec.parentRef.name"],
    columns: &[NAME, column("ParentRef", "string", 0, "Object that has the address."), AGE],
    cells: |object, now| vec![name(object), json!(parent(object)), age(object, now)],
    ..Kind::NEW
};

/// `services/default/kubernetes`.
fn parent(object: &Value) -> String {
    let parent = &object["spec"]["parentRef"];
    if parent.is_null() {
        return "<none>".to_owned();
    }
    let group = text(parent, "/group");
    let resource = if group.is_empty() { String::new() } else { format!(".{group}") };
    let resource = format!("{}{resource}", text(parent, "/resource")).to_lowercase();
    let parts = [resource.as_str(), text(parent, "/namespace"), text(parent, "/name")];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::Strategy;

    #[test]
    fn an_address_is_written_in_one_way_only() {
        for (name, good) in [("10.0.0.1", true), ("fd00::1", true), ("fd00:0::1", false), ("x", false)] {
            assert_eq!(IP_ADDRESS.validate_name(name).is_empty(), good, "{name}");
        }
        let object = json!({"spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "kubernetes"}}});
        assert_eq!(parent(&object), "services/default/kubernetes");
    }
}
