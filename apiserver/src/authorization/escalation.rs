//! Nobody hands out more than they hold: the check on writes of roles and bindings.
//!
//! In: the user, the object before and after. Out: 403 in Kubernetes' words, unless the user is a
//! master, holds every permission that is granted, or may `escalate` the role or `bind` it.
//! <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#privilege-escalation-prevention-and-bootstrapping>

use kontiki_api::{resources, resources::ResourceKey, status::Status};
use serde::Deserialize;
use serde_json::Value;

use super::{
    Attributes,
    index::{Index, RoleRef},
    rules::{self, PolicyRule},
};
use crate::auth::{UserInfo, user};

const GROUP: &str = "rbac.authorization.k8s.io";

/// Checks a write of an object of any kind; kinds that grant nothing pass.
pub fn check(index: &Index, user: &UserInfo, key: &ResourceKey, new: &Value, old: Option<&Value>) -> Result<(), Status> {
    let is_role = matches!(*key, resources::ROLES | resources::CLUSTER_ROLES);
    let is_binding = matches!(*key, resources::ROLE_BINDINGS | resources::CLUSTER_ROLE_BINDINGS);
    if !(is_role || is_binding) || user.is_in(user::GROUP_MASTERS) || old.is_some_and(|old| !grants_change(old, new)) {
        return Ok(());
    }
    let write = Write { index, user, key, new, old };
    if is_role { write.check_role() } else { write.check_binding() }
}

fn grants_change(old: &Value, new: &Value) -> bool {
    ["rules", "aggregationRule", "roleRef", "subjects"].iter().any(|field| old.get(field) != new.get(field))
}

struct Write<'a> {
    index: &'a Index,
    user: &'a UserInfo,
    key: &'a ResourceKey,
    new: &'a Value,
    old: Option<&'a Value>,
}

impl Write<'_> {
    fn metadata(&self, field: &str) -> &str {
        self.new["metadata"][field].as_str().unwrap_or_default()
    }

    fn may(&self, verb: &str, resource: &str, name: &str) -> bool {
        let request = Attributes {
            verb: verb.to_owned(),
            group: GROUP.to_owned(),
            version: "v1".to_owned(),
            resource: resource.to_owned(),
            namespace: self.metadata("namespace").to_owned(),
            name: name.to_owned(),
            ..Attributes::default()
        };
        self.index.authorize(self.user, &request).is_allowed()
    }

    fn check_role(&self) -> Result<(), Status> {
        if self.may("escalate", self.key.plural, self.metadata("name")) {
            return Ok(());
        }
        let rules = Option::<Vec<PolicyRule>>::deserialize(&self.new["rules"]).ok().flatten().unwrap_or_default();
        self.check_rules(&rules)?;
        let aggregation = self.new.get("aggregationRule").filter(|rule| !rule.is_null());
        if aggregation.is_some() && aggregation != self.old.and_then(|old| old.get("aggregationRule")) {
            let everything = [PolicyRule::resources(&["*"], &["*"], &["*"]), PolicyRule::paths(&["*"], &["*"])];
            self.check_rules(&everything)
                .map_err(|_| self.refuse("must have cluster-admin privileges to use the aggregationRule"))?;
        }
        Ok(())
    }

    fn check_binding(&self) -> Result<(), Status> {
        let reference = RoleRef::deserialize(&self.new["roleRef"]).unwrap_or_default();
        let resource = if reference.kind == "ClusterRole" { "clusterroles" } else { "roles" };
        if self.may("bind", resource, &reference.name) {
            return Ok(());
        }
        let Some(rules) = self.index.rules_of(&reference, self.metadata("namespace")) else {
            return Err(Status::not_found(GROUP, resource, &reference.name));
        };
        let rules: Vec<PolicyRule> = rules.into_iter().cloned().collect();
        self.check_rules(&rules)
    }

    fn check_rules(&self, wanted: &[PolicyRule]) -> Result<(), Status> {
        let held = self.index.rules_for(self.user, self.metadata("namespace"));
        let mut missing: Vec<String> = rules::missing(&held, wanted).iter().map(PolicyRule::compact).collect();
        if missing.is_empty() {
            return Ok(());
        }
        missing.sort();
        missing.dedup();
        Err(self.refuse(&format!(
            "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
            self.user.name,
            rules::quoted(&self.user.groups),
            missing.join("\n"),
        )))
    }

    fn refuse(&self, why: &str) -> Status {
        Status::forbidden(GROUP, self.key.plural, self.metadata("name"), why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn index() -> Index {
        let mut index = Index::default();
        let mut role = |name: &str, rules: Value| {
            index.set_role("", name, Some(json!({"rules": rules}).to_string().as_bytes()));
        };
        role("pods", json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]));
        role("all", json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]));
        role(
            "binder",
            json!([{"verbs": ["bind"], "apiGroups": [GROUP], "resources": ["clusterroles"], "resourceNames": ["all"]}]),
        );
        role("escalator", json!([{"verbs": ["escalate"], "apiGroups": [GROUP], "resources": ["roles"]}]));
        for (user, role) in [("reader", "pods"), ("binder", "binder"), ("escalator", "escalator")] {
            let binding = json!({"roleRef": {"kind": "ClusterRole", "name": role}, "subjects": [{"kind": "User", "name": user}]});
            index.set_binding("", user, Some(binding.to_string().as_bytes()));
        }
        index
    }

    fn role(verbs: &[&str]) -> Value {
        json!({"metadata": {"namespace": "a", "name": "x"}, "rules": [{"verbs": verbs, "apiGroups": [""], "resources": ["pods"]}]})
    }

    fn binding(role: &str) -> Value {
        json!({"metadata": {"namespace": "a", "name": "x"}, "roleRef": {"kind": "ClusterRole", "name": role}})
    }

    #[test]
    fn grants_end_where_the_granter_ends() {
        let index = index();
        let lacks = "is attempting to grant RBAC permissions not currently held:\n";
        let cases = [
            ("reader", resources::ROLES, role(&["get"]), None),
            (
                "reader",
                resources::ROLES,
                role(&["get", "list"]),
                Some(format!(
                    "roles.{GROUP} \"x\" is forbidden: user \"reader\" (groups=[\"system:authenticated\"]) {lacks}\
                     {{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"list\"]}}"
                )),
            ),
            ("escalator", resources::ROLES, role(&["list"]), None),
            ("reader", resources::ROLE_BINDINGS, binding("pods"), None),
            (
                "reader",
                resources::ROLE_BINDINGS,
                binding("all"),
                Some(format!(
                    "rolebindings.{GROUP} \"x\" is forbidden: user \"reader\" (groups=[\"system:authenticated\"]) {lacks}\
                     {{APIGroups:[\"*\"], Resources:[\"*\"], Verbs:[\"*\"]}}"
                )),
            ),
            ("reader", resources::ROLE_BINDINGS, binding("gone"), Some(format!("clusterroles.{GROUP} \"gone\" not found"))),
            ("binder", resources::ROLE_BINDINGS, binding("all"), None),
            ("reader", resources::PODS, json!({}), None),
            (
                "reader",
                resources::CLUSTER_ROLES,
                json!({"metadata": {"name": "x"}, "aggregationRule": {"clusterRoleSelectors": []}}),
                Some(format!(
                    "clusterroles.{GROUP} \"x\" is forbidden: must have cluster-admin privileges to use the aggregationRule"
                )),
            ),
        ];
        for (user, key, object, message) in cases {
            let user = UserInfo::authenticated(user, [""; 0]);
            let found = check(&index, &user, &key, &object, None).err().map(|status| status.message);
            assert_eq!(found, message, "{} {object}", user.name);
        }
        let master = UserInfo::authenticated("root", ["system:masters"]);
        assert!(check(&index, &master, &resources::ROLE_BINDINGS, &binding("all"), None).is_ok());
    }

    #[test]
    fn an_update_that_grants_nothing_new_passes() {
        let old = role(&["delete"]);
        let mut new = old.clone();
        new["metadata"]["labels"] = json!({"a": "b"});
        let user = UserInfo::authenticated("reader", [""; 0]);
        assert!(check(&index(), &user, &resources::ROLES, &new, Some(&old)).is_ok());
        assert!(check(&index(), &user, &resources::ROLES, &role(&["create"]), Some(&old)).is_err());
    }
}
