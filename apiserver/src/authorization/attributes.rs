//! What a request wants to do, as authorization sees it, and what it answers.

use kontiki_api::{selector::FieldSelector, status::Status};

use crate::{auth::UserInfo, request::RequestInfo};

/// What a request wants to do. Empty text means "none": no namespace, no name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `get`, `list`, `create`, ...; the lower-case method for paths that are no resource.
    pub verb: String,
    /// API group.
    pub group: String,
    /// API version.
    pub version: String,
    /// Plural of the resource; empty for a path that is no resource.
    pub resource: String,
    /// Subresource, such as `log`.
    pub subresource: String,
    /// Namespace.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// Path of a request that is no resource, such as `/healthz`.
    pub path: String,
    /// Fields that a list, watch or collection is limited to.
    pub fields: FieldSelector,
}

impl Attributes {
    /// What a request wants. A collection that is limited to one name is about the object of that name.
    #[must_use]
    pub fn of_request(info: &RequestInfo) -> Self {
        let collection = info.is_resource && matches!(info.verb.as_str(), "list" | "watch" | "deletecollection");
        // What cannot be read limits nothing; the handler refuses it.
        let fields = if collection {
            FieldSelector::parse(info.parameter("fieldSelector")).unwrap_or_default()
        } else {
            FieldSelector::default()
        };
        let name = if info.name.is_empty() { fields.required("metadata.name").unwrap_or_default() } else { &info.name };
        Self {
            verb: info.verb.clone(),
            group: info.group.clone(),
            version: info.version.clone(),
            resource: info.resource.clone(),
            subresource: info.subresource.clone(),
            namespace: info.namespace.clone(),
            name: name.to_owned(),
            path: info.path.clone(),
            fields,
        }
    }

    /// A request for a path that is no resource.
    #[must_use]
    pub fn of_path(verb: &str, path: &str) -> Self {
        Self { verb: verb.to_owned(), path: path.to_owned(), ..Self::default() }
    }

    /// Whether the request is about a resource.
    #[must_use]
    pub fn is_resource(&self) -> bool {
        !self.resource.is_empty()
    }

    /// `pods` or `pods/log`, as rules name it.
    #[must_use]
    pub fn resource_path(&self) -> String {
        if self.subresource.is_empty() { self.resource.clone() } else { format!("{}/{}", self.resource, self.subresource) }
    }

    /// The answer to a user who may not do this.
    #[must_use]
    pub fn forbidden(&self, user: &UserInfo, reason: &str) -> Status {
        let mut why = format!("User {:?} cannot {}", user.name, self.verb);
        if self.is_resource() {
            why = format!("{why} resource {:?} in API group {:?}", self.resource_path(), self.group);
            why += &if self.namespace.is_empty() {
                " at the cluster scope".to_owned()
            } else {
                format!(" in the namespace {:?}", self.namespace)
            };
        } else {
            why = format!("{why} path {:?}", self.path);
        }
        if !reason.is_empty() {
            why = format!("{why}: {reason}");
        }
        Status::forbidden(&self.group, &self.resource, &self.name, &why)
    }
}

/// Whether a request may go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Somebody allowed it; the text says by which rule.
    Allowed(String),
    /// Nobody did; the text says what stood in the way, and is usually empty.
    Denied(String),
}

impl Decision {
    /// Whether the request may go on.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_who_cannot_do_what_where() {
        let user = UserInfo::authenticated("u", [""; 0]);
        let text = |text: &str| text.to_owned();
        let pod = Attributes { verb: text("get"), version: text("v1"), resource: text("pods"), ..Attributes::default() };
        let cases = [
            (
                Attributes { namespace: text("default"), name: text("x"), ..pod.clone() },
                r#"pods "x" is forbidden: User "u" cannot get resource "pods" in API group "" in the namespace "default""#,
            ),
            (
                Attributes { verb: text("list"), ..pod.clone() },
                r#"pods is forbidden: User "u" cannot list resource "pods" in API group "" at the cluster scope"#,
            ),
            (
                Attributes { namespace: text("a"), name: text("x"), subresource: text("log"), ..pod },
                r#"pods "x" is forbidden: User "u" cannot get resource "pods/log" in API group "" in the namespace "a""#,
            ),
            (
                Attributes {
                    verb: text("create"),
                    group: text("apps"),
                    resource: text("deployments"),
                    namespace: text("a"),
                    ..Attributes::default()
                },
                r#"deployments.apps is forbidden: User "u" cannot create resource "deployments" in API group "apps" in the namespace "a""#,
            ),
            (Attributes::of_path("get", "/metrics"), r#"forbidden: User "u" cannot get path "/metrics""#),
        ];
        for (attributes, message) in cases {
            assert_eq!(attributes.forbidden(&user, "").message, message);
        }
    }
}
