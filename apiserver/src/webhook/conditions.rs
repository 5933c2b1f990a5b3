//! Expressions about a request: match conditions of webhooks, and everything in policies.
//!
//! In: a request, its objects, the namespace. Out: the variables `object`, `oldObject`, `request`, `namespaceObject`,
//! `authorizer`. Compiled expressions are kept, each once, up to a bound.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, LazyLock},
};

use kontiki_api::{expressions::Constructed, registry::Resource};
use kontiki_cel::{Budget, Environment, EvalError, Host, Issues, Key, NoTypes, Program, Type, Value as CelValue, from_json};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::review;
use crate::{
    admission::Request,
    auth::UserInfo,
    authorization::{Attributes, Authorizer, Decision},
};

/// Compiled expressions that are kept.
const PROGRAMS_MAX: usize = 10_000;

type Compiled = Result<Program, Arc<Issues>>;

static PROGRAMS: LazyLock<Mutex<HashMap<String, Compiled>>> = LazyLock::new(Mutex::default);

/// An expression about a request, compiled without the types of its objects.
pub fn compile(source: &str) -> Compiled {
    let mut programs = PROGRAMS.lock();
    if let Some(known) = programs.get(source) {
        return known.clone();
    }
    let mut environment = Environment::new(Arc::new(Constructed));
    for name in ["object", "oldObject", "request", "namespaceObject", "params", "variables"] {
        environment = environment.with(name, Type::Dyn);
    }
    for name in ["authorizer", "authorizer.requestResource"] {
        environment = environment.with(name, Type::Dyn);
    }
    let compiled = Program::compile(source, &environment).map_err(Arc::new);
    if programs.len() >= PROGRAMS_MAX {
        programs.clear();
    }
    programs.insert(source.to_owned(), compiled.clone());
    compiled
}

/// JSON as a value of unknown type.
#[must_use]
pub fn dynamic(json: &Value) -> CelValue {
    from_json(json, &Type::Dyn, &NoTypes)
}

/// The variables of a request.
#[must_use]
pub fn variables(
    authorizer: &Arc<Authorizer>,
    request: &Request<'_>,
    matched: &Resource,
    object: &Value,
    old: &Value,
    namespace: Option<&Value>,
) -> BTreeMap<String, CelValue> {
    let asked = review::question("", request, matched, &Value::Null, &Value::Null)["request"].take();
    let mut asked = asked;
    for (field, empty) in
        [("name", json!("")), ("namespace", json!("")), ("subResource", json!("")), ("requestSubResource", json!(""))]
    {
        if asked.get(field).is_none() {
            asked[field] = empty;
        }
    }
    let check = Check::new(authorizer, request.user);
    let own = Check {
        group: request.resource.key.group.to_owned(),
        resource: request.resource.key.plural.to_owned(),
        subresource: request.subresource.to_owned(),
        namespace: request.namespace.to_owned(),
        name: request.name.to_owned(),
        step: Step::Resource,
        ..check.clone()
    };
    BTreeMap::from([
        ("object".to_owned(), dynamic(object)),
        ("oldObject".to_owned(), dynamic(old)),
        ("request".to_owned(), dynamic(&asked)),
        ("namespaceObject".to_owned(), namespace.map_or(CelValue::Null, dynamic)),
        ("authorizer".to_owned(), CelValue::Host(Arc::new(check))),
        ("authorizer.requestResource".to_owned(), CelValue::Host(Arc::new(own))),
    ])
}

/// Whether all conditions hold. One that is false decides; an error counts only if none is false.
///
/// # Errors
/// Which condition failed, and how.
pub fn all_hold(conditions: &Value, variables: &BTreeMap<String, CelValue>) -> Result<bool, String> {
    let mut budget = Budget::new(Budget::PER_OBJECT);
    let mut errors = Vec::new();
    for condition in conditions.as_array().into_iter().flatten() {
        let expression = condition["expression"].as_str().unwrap_or_default();
        let name = condition["name"].as_str().unwrap_or_default();
        let result = match compile(expression) {
            Ok(program) => program.evaluate(variables, &mut budget).map_err(|error| error.to_string()),
            Err(issues) => Err(format!("compilation error: compilation failed: {issues}")),
        };
        match result {
            Ok(CelValue::Bool(true)) => {}
            Ok(_) => return Ok(false),
            Err(error) => errors.push(format!("expression '{expression}' resulted in error: {error} ({name})")),
        }
    }
    if errors.is_empty() { Ok(true) } else { Err(errors.join(", ")) }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Authorizer,
    Path,
    Group,
    Resource,
}

/// `authorizer` and what its functions return.
#[derive(Clone)]
struct Check {
    authorizer: Arc<Authorizer>,
    user: UserInfo,
    step: Step,
    path: String,
    group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

impl std::fmt::Debug for Check {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.type_name())
    }
}

impl Check {
    fn new(authorizer: &Arc<Authorizer>, user: &UserInfo) -> Self {
        let empty = String::new;
        Self {
            authorizer: Arc::clone(authorizer),
            user: user.clone(),
            step: Step::Authorizer,
            path: empty(),
            group: empty(),
            resource: empty(),
            subresource: empty(),
            namespace: empty(),
            name: empty(),
        }
    }

    fn decide(&self, verb: &str) -> CelValue {
        let attributes = if self.step == Step::Path {
            Attributes::of_path(verb, &self.path)
        } else {
            Attributes {
                verb: verb.to_owned(),
                group: self.group.clone(),
                resource: self.resource.clone(),
                subresource: self.subresource.clone(),
                namespace: self.namespace.clone(),
                name: self.name.clone(),
                ..Attributes::default()
            }
        };
        CelValue::Host(Arc::new(Answer(self.authorizer.authorize(&self.user, &attributes))))
    }
}

impl Host for Check {
    fn type_name(&self) -> &'static str {
        match self.step {
            Step::Authorizer => "kubernetes.authorization.Authorizer",
            Step::Path => "kubernetes.authorization.PathCheck",
            Step::Group => "kubernetes.authorization.GroupCheck",
            Step::Resource => "kubernetes.authorization.ResourceCheck",
        }
    }

    fn call(&self, function: &str, arguments: &[CelValue]) -> Result<CelValue, EvalError> {
        let texts: Vec<&str> = arguments.iter().filter_map(CelValue::as_text).collect();
        if texts.len() != arguments.len() {
            return Err(EvalError::no_such_overload());
        }
        let mut next = self.clone();
        match (self.step, function, texts.as_slice()) {
            (Step::Authorizer, "path", [path]) => {
                next.step = Step::Path;
                (*path).clone_into(&mut next.path);
            }
            (Step::Authorizer, "group", [group]) => {
                next.step = Step::Group;
                (*group).clone_into(&mut next.group);
            }
            (Step::Authorizer, "serviceAccount", [namespace, name]) => {
                next.user = UserInfo::service_account(namespace, name, "");
            }
            (Step::Group, "resource", [resource]) => {
                next.step = Step::Resource;
                (*resource).clone_into(&mut next.resource);
            }
            (Step::Resource, "subresource", [value]) => (*value).clone_into(&mut next.subresource),
            (Step::Resource, "namespace", [value]) => (*value).clone_into(&mut next.namespace),
            (Step::Resource, "name", [value]) => (*value).clone_into(&mut next.name),
            (Step::Resource, "fieldSelector" | "labelSelector", [_]) => {}
            (Step::Path | Step::Resource, "check", [verb]) => return Ok(self.decide(verb)),
            _ => return Err(EvalError::no_such_overload()),
        }
        Ok(CelValue::Host(Arc::new(next)))
    }
}

#[derive(Debug)]
struct Answer(Decision);

impl Host for Answer {
    fn type_name(&self) -> &'static str {
        "kubernetes.authorization.Decision"
    }

    fn call(&self, function: &str, arguments: &[CelValue]) -> Result<CelValue, EvalError> {
        match (function, arguments) {
            ("allowed", []) => Ok(CelValue::Bool(self.0.is_allowed())),
            ("reason", []) => Ok(CelValue::text(match &self.0 {
                Decision::Denied(reason) => reason,
                _ => "",
            })),
            ("errored", []) => Ok(CelValue::Bool(false)),
            ("error", []) => Ok(CelValue::text("")),
            _ => Err(EvalError::no_such_overload()),
        }
    }
}

/// A map of text to values, as `params` of a policy or its `variables` are.
#[must_use]
pub fn map(entries: impl IntoIterator<Item = (String, CelValue)>) -> CelValue {
    CelValue::map(entries.into_iter().map(|(name, value)| (Key::text(&name), value)).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::admission::Operation;
    use kontiki_api::{registry, resources::PODS};

    #[test]
    fn conditions_see_the_request_and_its_user() {
        let pods = registry::of(&PODS).unwrap();
        let user = UserInfo::authenticated("ann", ["devs"]);
        let request = Request::new(&user, pods, Operation::Create, "default", "p");
        let object = json!({"metadata": {"name": "p", "labels": {"a": "1"}}});
        let authorizer = Arc::new(Authorizer::default());
        let variables = variables(&authorizer, &request, pods, &object, &Value::Null, None);
        let hold = |expression: &str| all_hold(&json!([{"name": "c", "expression": expression}]), &variables);
        assert_eq!(hold("object.metadata.labels.a == '1' && request.operation == 'CREATE'"), Ok(true));
        assert_eq!(hold("request.userInfo.username == 'bob'"), Ok(false));
        assert_eq!(hold("oldObject == null && 'devs' in request.userInfo.groups"), Ok(true));
        assert_eq!(hold("authorizer.group('').resource('pods').namespace('default').check('get').allowed()"), Ok(false));
        assert_eq!(hold("authorizer.requestResource.check('create').allowed()"), Ok(false));
        assert!(hold("object.spec.none == 1").unwrap_err().contains("no such key: spec"));
        assert!(hold("object.").unwrap_err().contains("compilation failed"));
    }
}
