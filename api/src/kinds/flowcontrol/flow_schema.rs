//! FlowSchema.

use serde_json::json;

use crate::{
    kinds::{
        check::At,
        common::{AGE, NAME, age, column, default, items, map_of, name},
        kind::{Errors, Kind},
    },
    names,
    object::{meta, text},
};

const PRECEDENCE_MAX: i64 = 10_000;
const VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];
/// Kinds of subjects, and the member that each fills.
const SUBJECTS: [(&str, &str); 3] = [("Group", "group"), ("ServiceAccount", "serviceAccount"), ("User", "user")];

/// FlowSchema.
pub static FLOW_SCHEMA: Kind = Kind {
    status_keeps: crate::strategy::USERS_METADATA,
    defaults: |object| {
        if let Some(spec) = map_of(object, "spec") {
            default(spec, "matchingPrecedence", 1000);
        }
    },
    validate: |object, errors| {
        let spec = At::root(object).get("spec");
        let precedence = spec.get("matchingPrecedence");
        match precedence.number().unwrap_or(0) {
            number if number <= 0 => precedence.invalid("must be a positive value", errors),
            number if number > PRECEDENCE_MAX => precedence.invalid(format!("must not be greater than {PRECEDENCE_MAX}"), errors),
            1 if meta::name(object) != "exempt" => {
                precedence.invalid("only the schema named 'exempt' may have matchingPrecedence 1", errors);
            }
            _ => {}
        }
        spec.get("distinguisherMethod").get("type").one_of(&["ByNamespace", "ByUser"], errors);
        let level = spec.get("priorityLevelConfiguration.name");
        if level.is_empty() {
            level.required("must reference a priority level", errors);
        }
        level.named(names::dns_subdomain, errors);
        spec.items("rules").for_each(|rule| check_rule(&rule, errors));
    },
    columns: &[
        NAME,
        column("PriorityLevel", "string", 0, "Priority level that requests go to."),
        column("MatchingPrecedence", "string", 0, "The least of the schemas that match decides."),
        column("DistinguisherMethod", "string", 0, "What tells flows apart."),
        AGE,
        column("MissingPL", "string", 0, "Whether there is no such priority level."),
    ],
    cells: |object, now| {
        let method = text(object, "/spec/distinguisherMethod/type");
        let dangling = items(object, "/status/conditions").find(|condition| condition["type"] == "Dangling");
        vec![
            name(object),
            json!(text(object, "/spec/priorityLevelConfiguration/name")),
            json!(object["spec"]["matchingPrecedence"].as_i64().unwrap_or(0)),
            json!(if method.is_empty() { "<none>" } else { method }),
            age(object, now),
            json!(dangling.map_or("?", |condition| text(condition, "/status"))),
        ]
    },
    ..Kind::COUNTED_WITH_STATUS
};

fn check_rule(rule: &At<'_>, errors: &mut Errors) {
    let subjects = rule.get("subjects");
    if subjects.is_empty() {
        subjects.required("subjects must contain at least one value", errors);
    }
    subjects.each().for_each(|subject| check_subject(&subject, errors));
    if rule.get("resourceRules").is_empty() && rule.get("nonResourceRules").is_empty() {
        rule.required("at least one of resourceRules and nonResourceRules has to be non-empty", errors);
    }
    for rule in rule.items("resourceRules") {
        check_verbs(&rule, errors);
        check_words(&rule.get("apiGroups"), "resource rules must supply at least one api group", "api groups", errors);
        check_words(&rule.get("resources"), "resource rules must supply at least one resource", "resources", errors);
        if *rule.get("clusterScope").value != json!(true) || !rule.get("namespaces").is_empty() {
            let detail = "resource rules that are not cluster scoped must supply at least one namespace";
            check_words(&rule.get("namespaces"), detail, "namespaces", errors);
        }
    }
    for rule in rule.items("nonResourceRules") {
        check_verbs(&rule, errors);
        let urls = rule.get("nonResourceURLs");
        check_words(&urls, "nonResourceURLs must contain at least one value", "non-resource URLs", errors);
    }
}

fn check_subject(subject: &At<'_>, errors: &mut Errors) {
    subject.get("kind").one_of(&["Group", "ServiceAccount", "User"], errors);
    for (kind, field) in SUBJECTS {
        let (own, at) = (subject.get("kind").text() == kind, subject.get(field));
        match (own, at.is_set()) {
            (true, false) => at.required(&format!("{field} is required when subject kind is '{kind}'"), errors),
            (false, true) => at.forbidden(format!("{field} is forbidden when subject kind is not '{kind}'"), errors),
            (true, true) => {
                at.get("name").must_be_set(errors);
            }
            (false, false) => {}
        }
    }
}

fn check_verbs(rule: &At<'_>, errors: &mut Errors) {
    let verbs = rule.get("verbs");
    check_words(&verbs, "verbs must contain at least one value", "verbs", errors);
    let known = |verb: &At<'_>| verb.text() == "*" || VERBS.contains(&verb.text());
    if !verbs.each().all(|verb| known(&verb)) && rule.path.contains("resourceRules") {
        errors.push(crate::field::FieldError::not_supported(&verbs.path, verbs.value, VERBS));
    }
}

/// Something, or everything and nothing else.
fn check_words(words: &At<'_>, missing: &str, what: &str, errors: &mut Errors) {
    if words.is_empty() {
        words.required(missing, errors);
    } else if words.len() > 1 && words.each().any(|word| word.text() == "*") {
        words.invalid(format!("if '*' is present, must not specify other {what}"), errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::Strategy;

    #[test]
    fn a_schema_says_whom_it_means_and_where_they_go() {
        let rule = json!({"subjects": [{"kind": "User", "user": {"name": "jo"}}],
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true}]});
        let mut schema =
            json!({"metadata": {"name": "a"}, "spec": {"priorityLevelConfiguration": {"name": "b"}, "rules": [rule]}});
        FLOW_SCHEMA.set_defaults(&mut schema);
        assert_eq!(schema["spec"]["matchingPrecedence"], 1000);
        assert_eq!(FLOW_SCHEMA.validate(&schema), vec![]);
        schema["spec"]["rules"][0]["subjects"][0] = json!({"kind": "User", "group": {"name": "x"}});
        schema["spec"]["matchingPrecedence"] = json!(1);
        let fields: Vec<_> = FLOW_SCHEMA.validate(&schema).into_iter().map(|error| error.field).collect();
        let subject = "spec.rules[0].subjects[0]";
        assert_eq!(fields, ["spec.matchingPrecedence".to_owned(), format!("{subject}.group"), format!("{subject}.user")]);
    }
}
