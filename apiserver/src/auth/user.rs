//! The user of a request, and the names that Kubernetes gives to users and groups.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Every user that proved who it is.
pub const GROUP_AUTHENTICATED: &str = "system:authenticated";
/// Every user that did not.
pub const GROUP_UNAUTHENTICATED: &str = "system:unauthenticated";
/// Users who may do everything.
pub const GROUP_MASTERS: &str = "system:masters";
/// Nodes.
pub const GROUP_NODES: &str = "system:nodes";
/// Every service account; with `:NAMESPACE` behind it, those of one namespace.
pub const GROUP_SERVICE_ACCOUNTS: &str = "system:serviceaccounts";
/// Name of who did not prove anything.
pub const USER_ANONYMOUS: &str = "system:anonymous";

/// A user, as `authentication.k8s.io/v1` writes one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UserInfo {
    /// Name, unique among active users.
    #[serde(rename = "username", skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Identifier that outlives the name's re-use.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Groups the user belongs to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// What else the authenticator knows.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    /// A user known by name, in these groups and in `system:authenticated`.
    #[must_use]
    pub fn authenticated<G: Into<String>>(name: impl Into<String>, groups: impl IntoIterator<Item = G>) -> Self {
        let mut groups: Vec<String> = groups.into_iter().map(Into::into).collect();
        if !groups.iter().any(|group| group == GROUP_AUTHENTICATED) {
            groups.push(GROUP_AUTHENTICATED.to_owned());
        }
        Self { name: name.into(), groups, ..Self::default() }
    }

    /// Who shows no credentials.
    #[must_use]
    pub fn anonymous() -> Self {
        Self { name: USER_ANONYMOUS.to_owned(), groups: vec![GROUP_UNAUTHENTICATED.to_owned()], ..Self::default() }
    }

    /// The API server itself, for what it does on its own behalf.
    #[must_use]
    pub fn apiserver() -> Self {
        Self::authenticated("system:apiserver", [GROUP_MASTERS])
    }

    /// The API server, where it asks servers that extend it on its own behalf.
    #[must_use]
    pub fn aggregator() -> Self {
        Self { name: "system:kube-aggregator".to_owned(), groups: vec![GROUP_MASTERS.to_owned()], ..Self::default() }
    }

    /// A service account.
    #[must_use]
    pub fn service_account(namespace: &str, name: &str, uid: &str) -> Self {
        let groups = [GROUP_SERVICE_ACCOUNTS.to_owned(), format!("{GROUP_SERVICE_ACCOUNTS}:{namespace}")];
        Self { uid: uid.to_owned(), ..Self::authenticated(service_account_name(namespace, name), groups) }
    }

    /// Whether the user belongs to a group.
    #[must_use]
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }
}

/// Name of a service account as a user.
#[must_use]
pub fn service_account_name(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

/// Name of the node that a user is, if it is one.
#[must_use]
pub fn node_name(user: &UserInfo) -> Option<&str> {
    user.name.strip_prefix("system:node:").filter(|_| user.is_in(GROUP_NODES))
}

/// Namespace and name of a service account, if a user name is one's.
#[must_use]
pub fn split_service_account_name(user: &str) -> Option<(&str, &str)> {
    user.strip_prefix("system:serviceaccount:")?
        .split_once(':')
        .filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_account_is_a_user_with_three_groups() {
        let user = UserInfo::service_account("default", "builder", "1");
        assert_eq!(user.name, "system:serviceaccount:default:builder");
        assert_eq!(user.groups, ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"]);
        assert_eq!(split_service_account_name(&user.name), Some(("default", "builder")));
        assert_eq!(split_service_account_name("system:serviceaccount:default"), None);
    }
}
