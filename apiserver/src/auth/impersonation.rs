//! Impersonation: a user who may speaks as somebody else.
//!
//! In: the `Impersonate-*` headers of a request. Out: who is to be spoken as, and every permission that this needs: one
//! for the name and one for each group, identifier and extra value.
//! <https://kubernetes.io/docs/reference/access-authn-authz/user-impersonation/>

use std::collections::BTreeMap;

use http::HeaderMap;
use kontiki_api::status::Status;
use percent_encoding::percent_decode_str;

use super::{UserInfo, user};
use crate::authorization::Attributes;

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";
const AUTHENTICATION: &str = "authentication.k8s.io";

/// Whom a request wants to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Impersonation {
    name: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

impl Impersonation {
    /// Reads the headers; `None` where the request speaks for its user.
    pub fn of(headers: &HeaderMap) -> Result<Option<Self>, Status> {
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let mut wanted = Self {
            name: headers.get(USER).map(text).unwrap_or_default(),
            uid: headers.get(UID).map(text).unwrap_or_default(),
            groups: headers.get_all(GROUP).iter().map(text).collect(),
            extra: BTreeMap::new(),
        };
        for (name, value) in headers {
            if let Some(key) = name.as_str().strip_prefix(EXTRA) {
                let key = percent_decode_str(key).decode_utf8_lossy().to_lowercase();
                wanted.extra.entry(key).or_default().push(text(value));
            }
        }
        if wanted == Self::default() {
            return Ok(None);
        }
        if wanted.name.is_empty() {
            return Err(Status::internal_error("requested impersonation of groups, uid or extra without impersonating a user"));
        }
        Ok(Some(wanted))
    }

    /// What the real user must be allowed to do, the name first.
    #[must_use]
    pub fn needs(&self) -> Vec<Attributes> {
        let need = |group: &str, resource: &str, name: &str| Attributes {
            verb: "impersonate".into(),
            group: group.into(),
            version: "v1".into(),
            resource: resource.into(),
            name: name.into(),
            ..Attributes::default()
        };
        let mut needs = vec![match user::split_service_account_name(&self.name) {
            Some((namespace, name)) => Attributes { namespace: namespace.into(), ..need("", "serviceaccounts", name) },
            None => need("", "users", &self.name),
        }];
        needs.extend(self.groups.iter().map(|group| need("", "groups", group)));
        for (key, values) in &self.extra {
            let extra = |value: &String| Attributes { subresource: key.clone(), ..need(AUTHENTICATION, "userextras", value) };
            needs.extend(values.iter().map(extra));
        }
        if !self.uid.is_empty() {
            needs.push(need(AUTHENTICATION, "uids", &self.uid));
        }
        needs
    }

    /// The user that the request speaks for then.
    #[must_use]
    pub fn user(self) -> UserInfo {
        let mut groups = self.groups;
        if groups.is_empty()
            && let Some((namespace, _)) = user::split_service_account_name(&self.name)
        {
            let all = user::GROUP_SERVICE_ACCOUNTS;
            groups = vec![all.to_owned(), format!("{all}:{namespace}")];
        }
        let everybody = if self.name == user::USER_ANONYMOUS { user::GROUP_UNAUTHENTICATED } else { user::GROUP_AUTHENTICATED };
        let known = [user::GROUP_AUTHENTICATED, user::GROUP_UNAUTHENTICATED];
        if !groups.iter().any(|group| known.contains(&group.as_str())) {
            groups.push(everybody.to_owned());
        }
        UserInfo { name: self.name, uid: self.uid, groups, extra: self.extra }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::HeaderName;

    use super::*;

    fn of(headers: &[(&str, &str)]) -> Result<Option<Impersonation>, Status> {
        let entries = headers.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()));
        Impersonation::of(&entries.collect())
    }

    #[test]
    fn a_name_groups_and_extras_each_need_a_permission() {
        let wanted = of(&[
            ("Impersonate-User", "jane"),
            ("Impersonate-Group", "developers"),
            ("Impersonate-Group", "admins"),
            ("Impersonate-Extra-acme.com%2fproject", "some"),
            ("Impersonate-Uid", "7"),
        ]);
        let wanted = wanted.unwrap().unwrap();
        let needs: Vec<String> = wanted
            .needs()
            .iter()
            .map(|need| format!("{} {} {} {}", need.verb, need.group, need.resource_path(), need.name))
            .collect();
        assert_eq!(
            needs,
            [
                "impersonate  users jane",
                "impersonate  groups developers",
                "impersonate  groups admins",
                "impersonate authentication.k8s.io userextras/acme.com/project some",
                "impersonate authentication.k8s.io uids 7",
            ]
        );
        let user = wanted.user();
        assert_eq!(user.groups, ["developers", "admins", "system:authenticated"]);
        assert_eq!((user.uid.as_str(), user.extra["acme.com/project"].as_slice()), ("7", &["some".to_owned()][..]));
    }

    #[test]
    fn an_account_brings_its_groups_and_nobody_is_nobody() {
        assert_eq!(of(&[("accept", "x")]).unwrap(), None);
        assert_eq!(of(&[("Impersonate-Group", "a")]).unwrap_err().code, 500);
        let account = of(&[("Impersonate-User", "system:serviceaccount:a:b")]).unwrap().unwrap();
        let need = &account.needs()[0];
        assert_eq!((need.resource.as_str(), need.namespace.as_str(), need.name.as_str()), ("serviceaccounts", "a", "b"));
        assert_eq!(account.user().groups, ["system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated"]);
        let anonymous = of(&[("Impersonate-User", "system:anonymous")]).unwrap().unwrap();
        assert_eq!(anonymous.user().groups, ["system:unauthenticated"]);
    }
}
