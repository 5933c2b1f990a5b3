//! A StatefulSet's plans, claims and status as tables.
#![allow(clippy::unwrap_used)]

use super::{plan::*, *};
use crate::{model::OwnerReference, volume::Claim};

const READY: &str = "2026-01-01T00:00:00Z";

fn set(replicas: i64, extra: Value) -> StatefulSet {
    let mut spec = json!({
        "replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "podManagementPolicy": "OrderedReady",
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
    });
    for (key, value) in extra.as_object().unwrap() {
        spec[key] = value.clone();
    }
    serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "n", "uid": "set"}, "spec": spec})).unwrap()
}

/// `ordinal:revision` and marks: `+` ready, `!` failed, `-` being deleted, `?` pending.
fn pod(text: &str) -> Arc<Pod> {
    let body = text.trim_end_matches(['+', '!', '-', '?']);
    let (number, revision) = body.split_once(':').unwrap();
    let has = |mark: char| text.ends_with(mark) || text[body.len()..].contains(mark);
    let name = format!("web-{number}");
    let mut pod = json!({
        "metadata": {"name": name, "uid": name, "labels": {REVISION_HASH: revision, POD_NAME: name}},
        "status": {
            "phase": if has('!') { "Failed" } else if has('?') { "Pending" } else { "Running" },
            "conditions": [{"type": "Ready", "status": if has('+') { "True" } else { "False" }, "lastTransitionTime": READY}],
        },
    });
    if has('-') {
        pod["metadata"]["deletionTimestamp"] = json!(READY);
    }
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn pods(texts: &str) -> Vec<Arc<Pod>> {
    texts.split(' ').filter(|text| !text.is_empty()).map(pod).collect()
}

fn now() -> Timestamp {
    "2026-01-01T00:01:00Z".parse().unwrap()
}

fn decide(set: &StatefulSet, existing: &str) -> String {
    let pods = pods(existing);
    let none = |_: &str| None;
    let seen = Observed { set, pods: &pods, current: "a", update: "b", claims: &none, now: now() };
    let show = |action: &Action| match action {
        Action::Create(number, revision) => format!("+{number}:{revision}"),
        Action::Delete(pod) => format!("-{}", pod.metadata.name.trim_start_matches("web-")),
        Action::Claims(pod) => format!("claims {}", pod.metadata.name),
        Action::Repair(pod) => format!("repair {}", pod.metadata.name),
    };
    plan(&seen).actions.iter().map(show).collect::<Vec<_>>().join(" ")
}

#[test]
fn pods_come_and_go_in_order_and_halt_when_one_is_ill() {
    let cases = [
        (3, "", "+0:b"),
        (3, "0:b", ""),
        (3, "0:b+", "+1:b"),
        (3, "0:b+ 1:b?", ""),
        (3, "0:b+ 2:b+", "+1:b"),
        (3, "0:b! 1:b+ 2:b+", "-0"),
        (3, "0:b!- 1:b+ 2:b+", ""),
        (1, "0:b+ 1:b+ 2:b+", "-2"),
        (1, "0:b+ 1:b+ 2:b+-", ""),
        (1, "0:b 1:b+ 2:b+", ""),
        (1, "0:b+ 1:b 2:b+", "-2"),
        (1, "0:b+ 1:b 2:b", ""),
        (0, "0:b", "-0"),
    ];
    for (replicas, existing, wanted) in cases {
        assert_eq!(decide(&set(replicas, json!({})), existing), wanted, "{replicas} | {existing}");
    }
}

#[test]
fn parallel_sets_do_not_wait() {
    let parallel = json!({"podManagementPolicy": "Parallel"});
    let cases = [(3, "", "+0:b +1:b +2:b"), (3, "0:b 1:b!", "-1 +2:b"), (1, "0:b 1:b 2:b-", "-1"), (0, "0:b 1:b", "-1 -0")];
    for (replicas, existing, wanted) in cases {
        assert_eq!(decide(&set(replicas, parallel.clone()), existing), wanted, "{replicas} | {existing}");
    }
}

#[test]
fn updates_go_from_the_highest_down_to_the_partition() {
    let rolling = |partition: i64, unavailable: Value| {
        let rolling = json!({"partition": partition, "maxUnavailable": unavailable});
        json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling}})
    };
    let cases = [
        (rolling(0, Value::Null), "0:a+ 1:a+ 2:a+", "-2"),
        (rolling(0, Value::Null), "0:a+ 1:a+ 2:b+", "-1"),
        (rolling(2, Value::Null), "0:a+ 1:a+ 2:b+", ""),
        (rolling(2, Value::Null), "0:a+ 2:b+", "+1:a"),
        (rolling(0, json!(2)), "0:a+ 1:a+ 2:a+", "-2 -1"),
        (rolling(0, json!("70%")), "0:a+ 1:a+ 2:a+", "-2 -1"),
        (json!({"updateStrategy": {"type": "OnDelete"}}), "0:a+ 1:a+ 2:a+", ""),
    ];
    for (extra, existing, wanted) in cases {
        assert_eq!(decide(&set(3, extra.clone()), existing), wanted, "{extra} | {existing}");
    }
}

#[test]
fn numbers_may_begin_elsewhere_and_strangers_are_left_alone() {
    assert_eq!(decide(&set(2, json!({"ordinals": {"start": 5}})), "5:b+"), "+6:b");
    assert_eq!(ordinal("web", "web-10"), Some(10));
    for stranger in ["web-01", "web-x", "web", "other-1", "web-1-2"] {
        assert_eq!(ordinal("web", stranger), None, "{stranger}");
    }
}

#[test]
fn claims_go_with_whom_the_policy_says() {
    let template = json!([{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}]);
    let policy = |deleted: &str, scaled: &str| {
        let policy = json!({"whenDeleted": deleted, "whenScaled": scaled});
        set(1, json!({"volumeClaimTemplates": template, "persistentVolumeClaimRetentionPolicy": policy}))
    };
    let (kept, condemned) = (pod("0:a+"), pod("1:a+"));
    let uids =
        |owners: Option<Vec<OwnerReference>>| owners.map(|owners| owners.into_iter().map(|owner| owner.uid).collect::<Vec<_>>());
    let owned = |uids: Vec<&str>| Some(uids.into_iter().map(str::to_owned).collect::<Vec<_>>());
    let bare = Meta::default();
    let cases = [
        ("Retain", "Retain", &kept, None),
        ("Delete", "Retain", &kept, owned(vec!["set"])),
        ("Retain", "Delete", &kept, None),
        ("Retain", "Delete", &condemned, owned(vec!["web-1"])),
        ("Delete", "Delete", &kept, owned(vec!["set"])),
        ("Delete", "Delete", &condemned, owned(vec!["web-1"])),
    ];
    for (deleted, scaled, pod, wanted) in cases {
        assert_eq!(
            uids(claims::owners(&policy(deleted, scaled), pod, &bare)),
            wanted,
            "{deleted} {scaled} {}",
            pod.metadata.name
        );
    }
    let old: Meta =
        serde_json::from_value(json!({"ownerReferences": [{"kind": "StatefulSet", "name": "web", "uid": "earlier"}]})).unwrap();
    assert_eq!(claims::owners(&policy("Delete", "Retain"), &kept, &old), None, "an earlier set's claim is not ours");
    let set = policy("Retain", "Delete");
    let stale =
        json!({"metadata": {"name": "data-web-0", "ownerReferences": [{"kind": "Pod", "name": "web-0", "uid": "earlier"}]}});
    let stale: Arc<Claim> = Arc::new(serde_json::from_value(stale).unwrap());
    assert!(claims::hold_up(&set, 0, &|_| Some(Arc::clone(&stale))) && !claims::hold_up(&set, 0, &|_| None));
}

#[test]
fn a_pod_is_named_numbered_and_has_its_claims() {
    let set = set(1, json!({"serviceName": "svc", "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}]}));
    let owner = Owner { key: STATEFUL_SETS, meta: &set.metadata };
    let template =
        json!({"metadata": {"labels": {"app": "web"}}, "spec": {"volumes": [{"name": "data", "emptyDir": {}}, {"name": "tmp"}]}});
    let pod = body(&set, owner, 3, "web-abc", &template);
    assert_eq!(
        (&pod["metadata"]["name"], &pod["spec"]["hostname"], &pod["spec"]["subdomain"]),
        (&json!("web-3"), &json!("web-3"), &json!("svc"))
    );
    assert_eq!(pod["metadata"]["labels"], json!({"app": "web", POD_NAME: "web-3", POD_INDEX: "3", REVISION_HASH: "web-abc"}));
    assert_eq!(
        pod["spec"]["volumes"],
        json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data-web-3"}}, {"name": "tmp"}])
    );
    let (name, claim) = claims::bodies(&set, 3).remove(0);
    assert_eq!((name.as_str(), &claim["metadata"]["labels"]), ("data-web-3", &json!({"app": "web"})));
}

#[test]
fn a_complete_update_becomes_the_current_revision() {
    let set = set(2, json!({}));
    let of = |texts: &str| {
        let pods = pods(texts);
        status::status(&set, pods.iter().map(AsRef::as_ref), ("a", "b"), 0, now())
    };
    let halfway = of("0:a+ 1:b+");
    assert_eq!(
        (&halfway["currentRevision"], &halfway["currentReplicas"], &halfway["updatedReplicas"]),
        (&json!("a"), &json!(1), &json!(1))
    );
    let done = of("0:b+ 1:b+");
    assert_eq!((&done["currentRevision"], &done["currentReplicas"]), (&json!("b"), &json!(2)));
    assert!(status::differs(&halfway, &done) && !status::differs(&done, &done));
}
