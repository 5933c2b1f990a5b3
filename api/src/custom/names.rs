//! Whether a definition's names are free, and the conditions that follow.
//!
//! In: a definition, the names that others of its group have, the time. Out: `status.acceptedNames` and the conditions
//! NamesAccepted and Established. Two definitions of one group never share a plural, singular, short name or kind.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use super::{definition::Names, structural};
use crate::object::set_condition;

/// Names that are taken in a group.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    /// Plurals, singulars and short names.
    pub resources: BTreeSet<String>,
    /// Kinds and kinds of lists.
    pub kinds: BTreeSet<String>,
}

impl Taken {
    /// Adds the names that a definition was given.
    pub fn add(&mut self, names: &Names) {
        self.resources.extend([names.plural.clone(), names.singular.clone()].into_iter().chain(names.short_names.clone()));
        self.kinds.extend([names.kind.clone(), names.list_kind.clone()]);
        self.resources.remove("");
        self.kinds.remove("");
    }
}

/// The names that are accepted, and what is wrong with the others: a reason and a message.
fn accept(requested: &Names, accepted: &Names, taken: &Taken) -> (Names, Option<(&'static str, String)>) {
    let mut names = accepted.clone();
    let mut problem = None;
    let in_use = |name: &str| format!("{name:?} is already in use");
    let mut one = |requested: &str, accepted: &mut String, taken: &BTreeSet<String>, reason: &'static str| {
        if requested != accepted && taken.contains(requested) {
            problem = Some((reason, in_use(requested)));
        } else {
            requested.clone_into(accepted);
        }
    };
    one(&requested.plural, &mut names.plural, &taken.resources, "PluralConflict");
    one(&requested.singular, &mut names.singular, &taken.resources, "SingularConflict");
    one(&requested.kind, &mut names.kind, &taken.kinds, "KindConflict");
    one(&requested.list_kind, &mut names.list_kind, &taken.kinds, "ListKindConflict");
    let conflicts: Vec<String> = requested
        .short_names
        .iter()
        .filter(|name| !accepted.short_names.contains(name) && taken.resources.contains(*name))
        .map(|name| in_use(name))
        .collect();
    match conflicts.as_slice() {
        [] => names.short_names.clone_from(&requested.short_names),
        [one] => problem = Some(("ShortNamesConflict", one.clone())),
        many => problem = Some(("ShortNamesConflict", format!("[{}]", many.join(", ")))),
    }
    names.categories.clone_from(&requested.categories);
    (names, problem)
}

/// The definition with its status as it should be.
#[must_use]
pub fn reconcile(object: &Value, taken: &Taken, now: Timestamp) -> Value {
    let mut next = object.clone();
    let accepted = Names::parse(object.pointer("/status/acceptedNames").unwrap_or(&Value::Null));
    let (names, problem) = accept(&Names::parse(&object["spec"]["names"]), &accepted, taken);
    match &problem {
        Some((reason, message)) => set_condition(&mut next, "NamesAccepted", "False", reason, message, now),
        None => set_condition(&mut next, "NamesAccepted", "True", "NoConflicts", "no conflicts found", now),
    }
    let established = super::definition::has_condition(object, "Established");
    if !established && problem.is_none() {
        let message = "the initial names have been accepted";
        set_condition(&mut next, "Established", "True", "InitialNamesAccepted", message, now);
    } else if !established {
        set_condition(&mut next, "Established", "False", "NotAccepted", "not all names are accepted", now);
    }
    next["status"]["acceptedNames"] = names.to_value();
    let versions: Vec<(String, Option<Value>)> = object["spec"]["versions"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|version| (String::new(), version.pointer("/schema/openAPIV3Schema").cloned()))
        .collect();
    match structural::condition_message(&versions) {
        Some(message) => set_condition(&mut next, "NonStructuralSchema", "True", "Violations", &message, now),
        None => {
            if let Some(conditions) = next["status"]["conditions"].as_array_mut() {
                conditions.retain(|condition| condition["type"] != "NonStructuralSchema");
            }
        }
    }
    next
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn definition() -> Value {
        json!({"spec": {"names": {"plural": "foos", "singular": "foo", "kind": "Foo", "listKind": "FooList", "shortNames": ["fo"]}}})
    }

    #[test]
    fn free_names_are_accepted_and_the_definition_established() {
        let now = Timestamp::UNIX_EPOCH;
        let next = reconcile(&definition(), &Taken::default(), now);
        assert_eq!(next["status"]["acceptedNames"]["shortNames"], json!(["fo"]));
        assert_eq!(next["status"]["conditions"][0]["reason"], "NoConflicts");
        assert_eq!(next["status"]["conditions"][1]["reason"], "InitialNamesAccepted");
        assert_eq!(reconcile(&next, &Taken::default(), now), next, "once is enough");
    }

    #[test]
    fn a_name_of_another_definition_is_refused_and_what_is_accepted_stays() {
        let now = Timestamp::UNIX_EPOCH;
        let mut taken = Taken::default();
        taken.add(&Names { kind: "Foo".into(), plural: "bars".into(), ..Names::default() });
        let next = reconcile(&definition(), &taken, now);
        assert_eq!(next["status"]["conditions"][0]["reason"], "KindConflict");
        assert_eq!(next["status"]["conditions"][0]["message"], "\"Foo\" is already in use");
        assert_eq!(next["status"]["conditions"][1]["status"], "False");
        assert_eq!(next["status"]["acceptedNames"]["kind"], "");
        let established = reconcile(&definition(), &Taken::default(), now);
        let later = reconcile(&established, &taken, now);
        assert_eq!(later["status"]["conditions"][1]["status"], "True", "accepted names are not taken back");
    }
}
