//! Nobody acts twice: a Job that wants one pod gets one.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::Event;

/// Jobs that got more pods than the one that they want. `pods` are all events of their namespace.
#[must_use]
pub fn twice(pods: &[Event]) -> Vec<String> {
    let mut made: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for event in pods {
        if let Some(job) = event.object["metadata"]["labels"]["batch.kubernetes.io/job-name"].as_str() {
            made.entry(job).or_default().insert(&event.name);
        }
    }
    let many = made.into_iter().filter(|(_, pods)| pods.len() > 1);
    many.map(|(job, pods)| format!("job {job} got {} pods: {pods:?}", pods.len())).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_second_pod_is_found() {
        let event = |name: &str, job: &str| {
            let object = json!({"metadata": {"labels": {"batch.kubernetes.io/job-name": job}}});
            Event { change: "ADDED".into(), name: name.into(), version: 0, object }
        };
        assert_eq!(twice(&[event("a-1", "a"), event("a-1", "a"), event("b-1", "b")]), [""; 0]);
        assert_eq!(twice(&[event("a-1", "a"), event("a-2", "a")]), ["job a got 2 pods: {\"a-1\", \"a-2\"}"]);
    }
}
