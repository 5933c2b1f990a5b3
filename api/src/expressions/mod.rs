//! Expressions about a request: what they may name, and what is wrong with one when it is written down.
//!
//! In: the source of a match condition, or of a part of an admission policy, and what is declared around it. Out:
//! nothing, or why it cannot be: it is no expression, names what is not there, or is of the wrong type.
//! <https://kubernetes.io/docs/reference/using-api/cel/>

mod declare;
pub mod typecheck;

use std::{collections::BTreeMap, sync::Arc};

use kontiki_cel::{Environment, Program, Type, TypeTable, Types};

/// Object type of `request`.
const REQUEST: &str = "kubernetes.AdmissionRequest";
/// Object type of `namespaceObject`.
const NAMESPACE: &str = "kubernetes.Namespace";
/// Object type of `variables`.
const VARIABLES: &str = "kubernetes.variables";

/// What an expression must evaluate to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returns {
    /// Anything.
    Any,
    /// A verdict.
    Bool,
    /// A message.
    Text,
    /// The value of an annotation, or none.
    TextOrNull,
    /// A configuration that is applied.
    Configuration,
    /// Operations of a JSON patch.
    Patch,
}

impl Returns {
    fn allows(self, type_: &Type) -> bool {
        match self {
            Self::Any => true,
            Self::Bool => *type_ == Type::Bool,
            Self::Text => *type_ == Type::String,
            Self::TextOrNull => matches!(type_, Type::String | Type::Null),
            Self::Configuration => *type_ == Type::object("Object"),
            // An empty list has items of any type.
            Self::Patch => {
                matches!(type_, Type::List(item) if matches!(**item, Type::Dyn | Type::Parameter(_)) || **item == Type::object("JSONPatch"))
            }
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Any => "dyn",
            Self::Bool => "bool",
            Self::Text => "string",
            Self::TextOrNull => "one of [string null_type]",
            Self::Configuration => "Object",
            Self::Patch => "list(JSONPatch)",
        }
    }
}

/// What is declared around an expression.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Type of `object` and `oldObject`.
    pub object: Type,
    /// Type of `params`; `None` where there are none.
    pub params: Option<Type>,
    /// Whether there is an `authorizer`.
    pub authorizer: bool,
    /// Whether mutations may be constructed.
    pub constructs: bool,
    /// Object types that `object` and `params` lead to.
    pub types: TypeTable,
    variables: BTreeMap<String, Type>,
}

impl Scope {
    /// A request about an object of unknown type.
    #[must_use]
    pub fn new() -> Self {
        Self {
            object: Type::Dyn,
            params: None,
            authorizer: true,
            constructs: false,
            types: TypeTable::default(),
            variables: BTreeMap::new(),
        }
    }

    /// The same with a variable that later expressions may use.
    pub fn declare(&mut self, name: &str, type_: Type) {
        self.variables.insert(name.to_owned(), type_);
    }

    fn environment(&self) -> Environment {
        let mut table = self.types.clone();
        declare_request(&mut table);
        table.insert(VARIABLES, self.variables.clone());
        let types = Known { table, constructs: self.constructs };
        let mut environment = Environment::new(Arc::new(types))
            .with("object", self.object.clone())
            .with("oldObject", self.object.clone())
            .with("request", Type::object(REQUEST))
            .with("namespaceObject", Type::object(NAMESPACE))
            .with("variables", Type::object(VARIABLES));
        if let Some(params) = &self.params {
            environment = environment.with("params", params.clone());
        }
        if self.authorizer {
            let opaque = |name: &str| Type::Opaque(format!("kubernetes.authorization.{name}").into());
            environment =
                environment.with("authorizer", opaque("Authorizer")).with("authorizer.requestResource", opaque("ResourceCheck"));
        }
        environment
    }

    /// The type of an expression.
    ///
    /// # Errors
    /// Why it is none, or not one that may be returned, in kube-apiserver's words.
    pub fn check(&self, source: &str, returns: Returns) -> Result<Type, String> {
        let program = Program::compile(source, &self.environment()).map_err(|issues| format!("compilation failed: {issues}"))?;
        let type_ = program.type_().clone();
        if returns.allows(&type_) { Ok(type_) } else { Err(format!("must evaluate to {} but got {type_}", returns.words())) }
    }
}

impl Default for Scope {
    fn default() -> Self {
        Self::new()
    }
}

/// Object types of a table, and what mutations construct.
struct Known {
    table: TypeTable,
    constructs: bool,
}

impl Types for Known {
    fn field(&self, object: &str, field: &str) -> Option<Type> {
        let constructed = || Constructed.field(object, field).filter(|_| self.constructs && Constructed.contains(object));
        self.table.field(object, field).or_else(constructed)
    }

    fn contains(&self, object: &str) -> bool {
        self.table.contains(object) || (self.constructs && Constructed.contains(object))
    }
}

/// What mutations of policies construct: `Object`, the types of its fields, and `JSONPatch`.
pub struct Constructed;

impl Types for Constructed {
    fn field(&self, object: &str, field: &str) -> Option<Type> {
        let of_patch = matches!(field, "op" | "path" | "from" | "value");
        (object != "JSONPatch" || of_patch).then_some(Type::Dyn)
    }

    fn contains(&self, object: &str) -> bool {
        object == "JSONPatch" || object == "Object" || object.starts_with("Object.")
    }
}

fn declare_request(table: &mut TypeTable) {
    let mut add = |name: &str, fields: &[(&str, Type)]| {
        table.insert(name, fields.iter().map(|(field, type_)| ((*field).to_owned(), type_.clone())).collect());
    };
    let texts = |names: &[&'static str]| names.iter().map(|name| (*name, Type::String)).collect::<Vec<_>>();
    add("kubernetes.GroupVersionKind", &texts(&["group", "version", "kind"]));
    add("kubernetes.GroupVersionResource", &texts(&["group", "version", "resource"]));
    let (kind, resource) = (Type::object("kubernetes.GroupVersionKind"), Type::object("kubernetes.GroupVersionResource"));
    let mut user = texts(&["username", "uid"]);
    user.push(("groups", Type::list(Type::String)));
    user.push(("extra", Type::map(Type::list(Type::String))));
    add("kubernetes.UserInfo", &user);
    let mut request = texts(&["subResource", "requestSubResource", "name", "namespace", "operation"]);
    request.extend([
        ("kind", kind.clone()),
        ("resource", resource.clone()),
        ("requestKind", kind),
        ("requestResource", resource),
        ("userInfo", Type::object("kubernetes.UserInfo")),
        ("dryRun", Type::Bool),
        ("options", Type::Dyn),
    ]);
    add(REQUEST, &request);
    let mut metadata = texts(&["name", "generateName", "namespace", "UID", "resourceVersion"]);
    metadata.extend([
        ("labels", Type::map(Type::String)),
        ("annotations", Type::map(Type::String)),
        ("creationTimestamp", Type::Timestamp),
        ("deletionTimestamp", Type::Timestamp),
        ("deletionGracePeriodSeconds", Type::Int),
        ("generation", Type::Int),
        ("finalizers", Type::list(Type::String)),
    ]);
    add("kubernetes.NamespaceMetadata", &metadata);
    add("kubernetes.NamespaceSpec", &[("finalizers", Type::list(Type::String))]);
    let mut condition = texts(&["status", "type", "message", "reason"]);
    condition.push(("lastTransitionTime", Type::Timestamp));
    add("kubernetes.NamespaceCondition", &condition);
    let conditions = Type::list(Type::object("kubernetes.NamespaceCondition"));
    add("kubernetes.NamespaceStatus", &[("conditions", conditions), ("phase", Type::String)]);
    let parts = [("metadata", "Metadata"), ("spec", "Spec"), ("status", "Status")];
    let parts = parts.map(|(field, name)| (field, Type::object(&format!("kubernetes.Namespace{name}"))));
    add(NAMESPACE, &parts);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(scope: &Scope, source: &str, returns: Returns, words: &str) {
        let found = scope.check(source, returns);
        assert!(found.as_ref().is_err_and(|error| error.contains(words)), "{source}: {found:?}");
    }

    #[test]
    fn what_is_named_must_be_there_and_of_the_right_type() {
        let mut scope = Scope::new();
        for source in [
            "object.metadata.name != 'skip-me'",
            "request.userInfo.groups.exists(group, group == 'a') && !has(request.subResource)",
            "namespaceObject.metadata.labels['a'] == 'b'",
            "authorizer.group('').resource('pods').namespace('default').check('get').allowed()",
            "authorizer.requestResource.check('create').allowed()",
            "oldObject == null || object.spec == oldObject.spec",
        ] {
            assert_eq!(scope.check(source, Returns::Bool), Ok(Type::Bool), "{source}");
        }
        refused(&scope, "... [] bad expression", Returns::Bool, "compilation failed: ERROR: <input>:1:2: Syntax error");
        refused(&scope, "request.nothing == ''", Returns::Bool, "undefined field 'nothing'");
        refused(&scope, "params.max > 1", Returns::Bool, "undeclared reference to 'params'");
        refused(&scope, "variables.a", Returns::Any, "undefined field 'a'");
        refused(&scope, "1", Returns::Bool, "must evaluate to bool but got int");
        refused(&scope, "object.spec", Returns::Bool, "must evaluate to bool but got dyn");
        refused(&scope, "1", Returns::TextOrNull, "must evaluate to one of [string null_type] but got int");
        scope.declare("a", Type::Int);
        scope.params = Some(Type::Dyn);
        assert_eq!(scope.check("variables.a > params.max", Returns::Bool), Ok(Type::Bool));
        scope.authorizer = false;
        refused(&scope, "authorizer.path('/').check('get').allowed()", Returns::Bool, "undeclared reference to 'authorizer'");
    }

    #[test]
    fn mutations_construct_configurations_and_patches() {
        let mut scope = Scope::new();
        let (configuration, patch) = ("Object{spec: Object.spec{replicas: 1}}", "[JSONPatch{op: 'add', path: '/a', value: 'b'}]");
        refused(&scope, configuration, Returns::Any, "compilation failed");
        scope.constructs = true;
        for (source, returns) in [(configuration, Returns::Configuration), (patch, Returns::Patch), ("[]", Returns::Patch)] {
            assert!(scope.check(source, returns).is_ok(), "{source}: {:?}", scope.check(source, returns));
        }
        refused(&scope, patch, Returns::Configuration, "must evaluate to Object but got list(JSONPatch)");
        refused(&scope, "'x'", Returns::Patch, "must evaluate to list(JSONPatch) but got string");
    }
}
