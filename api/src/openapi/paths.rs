//! Paths and what may be done at them.

use serde_json::{Map, Value, json};

use super::schemas::{Style, group_version_kind, list_type_name, meta_type_name, type_name};
use crate::registry::{Resource, Subresource};

/// Media types of patches that the server takes.
const PATCHES: [&str; 3] =
    ["application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json"];

/// Query parameter: name, type, one sentence.
type Parameter = (&'static str, &'static str, &'static str);

const WRITE: &[Parameter] = &[
    ("dryRun", "string", "All: go through everything but the storing."),
    ("fieldManager", "string", "Name of who makes the change; at most 128 characters."),
    (
        "fieldValidation",
        "string",
        "What happens to unknown and repeated fields: Strict refuses the request, Warn drops them with a warning, Ignore drops them silently.",
    ),
];
const DELETE: &[Parameter] = &[
    ("dryRun", "string", "All: go through everything but the deleting."),
    ("gracePeriodSeconds", "integer", "Seconds until the object goes; 0 is at once."),
    ("propagationPolicy", "string", "What happens to dependents: Orphan, Background or Foreground."),
];
const SELECT: &[Parameter] = &[
    ("continue", "string", "Token of an earlier list with a limit; the next page follows."),
    ("fieldSelector", "string", "Only objects with these field values."),
    ("labelSelector", "string", "Only objects with these labels."),
    ("limit", "integer", "Objects a page has at most."),
    ("resourceVersion", "string", "State to answer from, or to watch from."),
    ("resourceVersionMatch", "string", "How exactly resourceVersion is meant: Exact or NotOlderThan."),
    ("sendInitialEvents", "boolean", "Whether a watch begins with what is there."),
    ("timeoutSeconds", "integer", "Seconds after which the request ends."),
];
const WATCH: &[Parameter] = &[
    ("allowWatchBookmarks", "boolean", "Whether a watch may send bookmarks."),
    ("watch", "boolean", "Send changes as they happen instead of a list."),
];
const LOG: &[Parameter] = &[
    ("container", "string", "Container whose log is read; needed where there are several."),
    ("follow", "boolean", "Go on with what is written from now on."),
    ("limitBytes", "integer", "Bytes to send at most."),
    ("previous", "boolean", "Read the log of the container's last run."),
    ("sinceSeconds", "integer", "Only lines of the last seconds."),
    ("tailLines", "integer", "Only so many lines from the end."),
    ("timestamps", "boolean", "Begin each line with its time."),
];
const COMMAND: &[Parameter] = &[("command", "string", "Program and arguments, one a parameter.")];
const STREAMS: &[Parameter] = &[
    ("container", "string", "Container to run in; needed where there are several."),
    ("stderr", "boolean", "Send what the command writes to standard error."),
    ("stdin", "boolean", "Pass standard input to the command."),
    ("stdout", "boolean", "Send what the command writes to standard output."),
    ("tty", "boolean", "Give the command a terminal."),
];
const PORTS: &[Parameter] = &[("ports", "integer", "Ports of the pod, one a parameter.")];
const PATH: &[Parameter] = &[("path", "string", "Where the request goes behind the proxy.")];

/// What a client may do at each kind of path, as verbs.
const AT_COLLECTION: &[&str] = &["list", "create", "deletecollection"];
const AT_OBJECT: &[&str] = &["get", "update", "patch", "delete"];
const AT_PART: &[&str] = &["get", "create", "update", "patch"];
/// A proxy passes every method on; those that are no verbs go by their own names.
const AT_PROXY: &[&str] = &["get", "create", "update", "patch", "delete", "head", "options"];

/// Everything that these resources are served at.
pub(super) fn of(resources: &[&Resource], style: Style) -> Map<String, Value> {
    let mut paths = Map::new();
    for resource in resources {
        let namespace = if resource.key.namespaced { "{namespace}" } else { "" };
        let collection = Place { resource, part: None, style, all_namespaces: false, with_path: false };
        add(&mut paths, resource.key.path(namespace, ""), &collection, AT_COLLECTION);
        if resource.key.namespaced && resource.is_stored() {
            let everywhere = Place { all_namespaces: true, ..collection };
            add(&mut paths, resource.key.path("", ""), &everywhere, &["list"]);
        }
        let object = resource.key.path(namespace, "{name}");
        for part in resource.subresources {
            let place = Place { part: Some(part), ..collection };
            let path = format!("{object}/{}", part.name);
            if part.name == "proxy" {
                add(&mut paths, format!("{path}/{{path}}"), &Place { with_path: true, ..place }, AT_PROXY);
                add(&mut paths, path, &place, AT_PROXY);
            } else {
                add(&mut paths, path, &place, AT_PART);
            }
        }
        add(&mut paths, object, &collection, AT_OBJECT);
    }
    paths
}

#[derive(Clone, Copy)]
struct Place<'a> {
    resource: &'a Resource,
    part: Option<&'a Subresource>,
    style: Style,
    all_namespaces: bool,
    /// Whether the path goes on behind a proxy.
    with_path: bool,
}

fn add(paths: &mut Map<String, Value>, path: String, place: &Place<'_>, verbs: &[&str]) {
    let served = place.part.map_or(place.resource.verbs, |part| part.verbs);
    let mut item = Map::new();
    for verb in verbs.iter().filter(|verb| served.contains(verb) || matches!(**verb, "head" | "options")) {
        item.insert(method(verb).to_owned(), operation(place, verb));
    }
    if item.is_empty() {
        return;
    }
    let in_path = ["name", "namespace", "path"].into_iter().filter(|name| path.contains(&format!("{{{name}}}")));
    let parameters: Vec<Value> = in_path
        .map(|name| {
            let description = match name {
                "name" => "Name of the object.",
                "namespace" => "Namespace of the object.",
                _ => "Rest of the path behind the proxy.",
            };
            let mut parameter = typed(place.style, name, "string", description, "path");
            parameter["required"] = true.into();
            parameter
        })
        .collect();
    if !parameters.is_empty() {
        item.insert("parameters".to_owned(), parameters.into());
    }
    paths.insert(path, Value::Object(item));
}

/// HTTP method of a verb.
fn method(verb: &str) -> &str {
    match verb {
        "create" => "post",
        "update" => "put",
        "deletecollection" => "delete",
        "patch" | "delete" | "head" | "options" => verb,
        _ => "get",
    }
}

fn typed(style: Style, name: &str, type_: &str, description: &str, place: &str) -> Value {
    let type_ = json!({ "type": type_, "uniqueItems": true });
    let mut parameter = json!({ "name": name, "in": place, "description": description });
    match (style, type_) {
        (Style::V2, Value::Object(type_)) => parameter.as_object_mut().into_iter().for_each(|map| map.extend(type_.clone())),
        (_, type_) => parameter["schema"] = type_,
    }
    parameter
}

impl Place<'_> {
    /// Name of the type that is sent and received.
    fn type_name(&self) -> Option<String> {
        match self.part {
            Some(part) if part.kind != self.resource.key.kind || self.resource.strategy.custom().is_none() => {
                part.type_(&self.resource.key).map(|type_| type_.name.to_owned())
            }
            _ => type_name(self.resource),
        }
    }

    /// Exec and its like are no objects but connections.
    fn is_connection(&self) -> bool {
        self.part.is_some_and(|part| part.kind.ends_with("Options"))
    }

    fn is_log(&self) -> bool {
        self.part.is_some_and(|part| part.name == "log")
    }

    fn parameters(&self, verb: &str) -> Vec<Value> {
        let groups: &[&[Parameter]] = match verb {
            _ if self.is_connection() => match self.part.map(|part| part.name) {
                Some("exec") => &[COMMAND, STREAMS],
                Some("attach") => &[STREAMS],
                Some("portforward") => &[PORTS],
                _ => &[PATH],
            },
            _ if self.is_log() => &[LOG],
            "create" | "update" | "patch" => &[WRITE],
            "delete" => &[DELETE],
            "deletecollection" => &[DELETE, SELECT],
            "list" => &[SELECT, WATCH],
            _ => &[],
        };
        let all = groups.iter().flat_map(|group| group.iter());
        all.map(|(name, type_, text)| typed(self.style, name, type_, text, "query")).collect()
    }

    /// Such as `patchAppsV1NamespacedDeploymentStatus`: generated clients name their functions so.
    fn operation_id(&self, verb: &str) -> String {
        let key = self.resource.key;
        let group = capital(&group_words(key.group));
        let version = capital(key.version);
        let namespaced = if key.namespaced && !self.all_namespaces { "Namespaced" } else { "" };
        let everywhere = if self.all_namespaces { "ForAllNamespaces" } else { "" };
        let part = self.part.map(|part| capital(part.name)).unwrap_or_default();
        let (action, before) = match verb {
            _ if self.is_connection() => ("connect", capital(method(verb))),
            "get" => ("read", String::new()),
            "update" => ("replace", String::new()),
            "deletecollection" => ("delete", "Collection".to_owned()),
            other => (other, String::new()),
        };
        let behind = if self.with_path { "WithPath" } else { "" };
        format!("{action}{group}{version}{before}{namespaced}{}{part}{behind}{everywhere}", key.kind)
    }
}

/// Name of a group in one word, such as `rbacAuthorization`.
fn group_words(group: &str) -> String {
    let mut words = group.strip_suffix(".k8s.io").unwrap_or(group).split('.');
    let first = words.next().filter(|word| !word.is_empty()).unwrap_or("core");
    words.fold(first.to_owned(), |name, word| name + &capital(word))
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
}

fn operation(place: &Place<'_>, verb: &str) -> Value {
    let key = place.resource.key;
    let action = match verb {
        _ if place.is_connection() => "connect",
        "create" => "post",
        "update" => "put",
        other => other,
    };
    let (group_version, kind) = match place.part {
        Some(part) => (part.group_version.unwrap_or((key.group, key.version)), part.kind),
        None => ((key.group, key.version), key.kind),
    };
    let tag = format!("{}_{}", group_words(key.group), key.version);
    let mut operation = json!({
        "operationId": place.operation_id(verb),
        "tags": [tag],
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": group_version_kind(group_version, kind),
    });
    let mut parameters = place.parameters(verb);
    let body = body_of(place, verb);
    let media: Vec<&str> = if verb == "patch" { PATCHES.to_vec() } else { vec!["*/*"] };
    match (place.style, body) {
        (_, None) => {}
        (Style::V2, Some(schema)) => {
            parameters.push(json!({ "name": "body", "in": "body", "required": !verb.starts_with("delete"), "schema": schema }));
            operation["consumes"] = json!(media);
        }
        (Style::V3, Some(schema)) => {
            let content: Map<_, _> = media.into_iter().map(|media| (media.to_owned(), json!({ "schema": schema }))).collect();
            operation["requestBody"] = json!({ "content": content, "required": !verb.starts_with("delete") });
        }
    }
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    operation["responses"] = responses(place, verb);
    if place.style == Style::V2 {
        operation["produces"] = json!(response_media(place));
    }
    operation
}

/// Schema of a request's body.
fn body_of(place: &Place<'_>, verb: &str) -> Option<Value> {
    match verb {
        _ if place.is_connection() => None,
        "create" | "update" => place.type_name().map(|name| place.style.reference(&name)),
        "patch" => Some(json!({ "type": "object" })),
        "delete" | "deletecollection" => Some(place.style.reference(&meta_type_name("DeleteOptions"))),
        _ => None,
    }
}

fn response_media(place: &Place<'_>) -> &'static [&'static str] {
    match (place.is_connection(), place.is_log()) {
        (true, _) => &["*/*"],
        (_, true) => &["text/plain"],
        _ => &["application/json", "application/yaml"],
    }
}

fn responses(place: &Place<'_>, verb: &str) -> Value {
    let schema = match verb {
        _ if place.is_connection() || place.is_log() => json!({ "type": "string" }),
        "list" => place.style.reference(&list_type_name(place.resource)),
        "delete" | "deletecollection" => place.style.reference(&meta_type_name("Status")),
        _ => place.type_name().map_or_else(|| json!({ "type": "object" }), |name| place.style.reference(&name)),
    };
    let codes: &[(&str, &str)] = match verb {
        _ if place.is_connection() => &[("200", "OK")],
        "create" => &[("200", "OK"), ("201", "Created"), ("202", "Accepted")],
        "update" | "patch" => &[("200", "OK"), ("201", "Created")],
        "delete" => &[("200", "OK"), ("202", "Accepted")],
        _ => &[("200", "OK")],
    };
    let mut responses: Map<String, Value> = codes
        .iter()
        .map(|(code, text)| {
            let response = match place.style {
                Style::V2 => json!({ "description": text, "schema": schema }),
                Style::V3 => {
                    let media = response_media(place).iter();
                    let content: Map<_, _> = media.map(|media| ((*media).to_owned(), json!({ "schema": schema }))).collect();
                    json!({ "description": text, "content": content })
                }
            };
            ((*code).to_owned(), response)
        })
        .collect();
    responses.insert("401".to_owned(), json!({ "description": "Unauthorized" }));
    Value::Object(responses)
}
