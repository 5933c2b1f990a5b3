//! Pods against levels.
use serde_json::json;

use super::*;

fn level(text: &str) -> policy::LevelVersion {
    let (level, version) = text.split_once(':').unwrap_or((text, "latest"));
    let labels = json!({
        "pod-security.kubernetes.io/enforce": level, "pod-security.kubernetes.io/enforce-version": version,
    });
    Policy::of(&json!({"metadata": {"labels": labels}})).0.enforce
}

fn broken(text: &str, pod: &Value) -> String {
    evaluate(level(text), &Pod::of(pod)).map_or_else(String::new, |violations| violations.details())
}

fn hardened() -> Value {
    json!({"spec": {
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "c", "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
        "volumes": [{"name": "v", "emptyDir": {}}],
    }})
}

#[test]
fn a_plain_pod_is_baseline_and_not_restricted() {
    let plain = json!({"spec": {"containers": [{"name": "c"}, {"name": "d"}]}});
    assert_eq!(broken("baseline", &plain), "");
    assert_eq!(
        broken("restricted", &plain),
        "allowPrivilegeEscalation != false (containers \"c\", \"d\" must set securityContext.allowPrivilegeEscalation=false), \
         unrestricted capabilities (containers \"c\", \"d\" must set securityContext.capabilities.drop=[\"ALL\"]), \
         runAsNonRoot != true (pod or containers \"c\", \"d\" must set securityContext.runAsNonRoot=true), \
         seccompProfile (pod or containers \"c\", \"d\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
    );
    assert_eq!(broken("restricted", &hardened()), "");
}

#[test]
fn each_check_refuses_in_kubernetes_words() {
    let context = |context: Value| json!({"spec": {"containers": [{"name": "c", "securityContext": context}]}});
    let of_pod = |context: Value| json!({"spec": {"securityContext": context, "containers": []}});
    for (pod, expected) in [
        (context(json!({"privileged": true})), "privileged (container \"c\" must not set securityContext.privileged=true)"),
        (json!({"spec": {"hostNetwork": true, "hostPID": true}}), "host namespaces (hostNetwork=true, hostPID=true)"),
        (json!({"spec": {"volumes": [{"name": "v", "hostPath": {}}]}}), "hostPath volumes (volume \"v\")"),
        (
            json!({"spec": {"containers": [{"name": "c", "ports": [{"hostPort": 80}, {"hostPort": 443}]}]}}),
            "hostPort (container \"c\" uses hostPorts 443, 80)",
        ),
        (
            context(json!({"capabilities": {"add": ["SYS_ADMIN", "CHOWN"]}})),
            "non-default capabilities (container \"c\" must not include \"SYS_ADMIN\" in securityContext.capabilities.add)",
        ),
        (
            context(json!({"procMount": "Unmasked"})),
            "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (
            of_pod(json!({"seLinuxOptions": {"type": "spc_t", "user": "u"}})),
            "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not be set)",
        ),
        (
            of_pod(json!({"seccompProfile": {"type": "Unconfined"}})),
            "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
        (
            of_pod(json!({"sysctls": [{"name": "kernel.msgmax"}, {"name": "net.ipv4.tcp_rmem"}]})),
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            of_pod(json!({"appArmorProfile": {"type": "Unconfined"}})),
            "forbidden AppArmor profile (pod must not set AppArmor profile type to \"Unconfined\")",
        ),
        (
            of_pod(json!({"windowsOptions": {"hostProcess": true}})),
            "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
        ),
        (
            json!({"spec": {"containers": [{"name": "c", "livenessProbe": {"httpGet": {"host": "1.2.3.4"}}}]}}),
            "probe or lifecycle host (container \"c\" uses probe or lifecycle host \"1.2.3.4\")",
        ),
    ] {
        assert_eq!(broken("baseline", &pod), expected);
        assert_eq!(broken("privileged", &pod), "");
    }
    let mut root = hardened();
    root["spec"]["securityContext"]["runAsUser"] = json!(0);
    root["spec"]["volumes"] = json!([{"name": "n", "nfs": {}}]);
    assert_eq!(
        broken("restricted", &root),
        "restricted volume types (volume \"n\" uses restricted volume type \"nfs\"), runAsUser=0 (pod must not set runAsUser=0)"
    );
}

#[test]
fn a_version_has_the_checks_of_its_time() {
    let tcp = json!({"spec": {"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem"}]}}});
    assert_eq!(broken("baseline:v1.31", &tcp), "forbidden sysctls (net.ipv4.tcp_rmem)");
    assert_eq!(broken("baseline:v1.32", &tcp), "");
    let probe = json!({"spec": {"containers": [{"name": "c", "livenessProbe": {"tcpSocket": {"host": "a"}}}]}});
    assert_eq!(broken("baseline:v1.33", &probe), "");
    let mut mapped = hardened();
    mapped["spec"]["securityContext"]["runAsNonRoot"] = json!(null);
    mapped["spec"]["hostUsers"] = json!(false);
    assert_eq!(broken("restricted", &mapped), "");
    assert!(broken("restricted:v1.34", &mapped).starts_with("runAsNonRoot != true"));
}

#[test]
fn labels_that_mean_nothing_are_refused_and_existing_pods_warned_of() {
    let labels = json!({"pod-security.kubernetes.io/enforce": "strict", "pod-security.kubernetes.io/warn-version": "1.2"});
    let (policy, errors) = Policy::of(&json!({"metadata": {"labels": labels}}));
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be one of privileged, baseline, restricted",
            "metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: \"1.2\": must be \"latest\" or \"v1.x\"",
        ]
    );
    assert_eq!(policy.enforce.to_string(), "restricted:latest");
    let pod = |name: &str| json!({"metadata": {"name": name}, "spec": {"hostPID": true}});
    let policy = Policy { enforce: level("baseline:v1.30"), ..Policy::default() };
    assert_eq!(
        warnings_of(&policy, "a", &[pod("y"), pod("x"), json!({"metadata": {"name": "z"}, "spec": {}})]),
        [
            "existing pods in namespace \"a\" violate the new PodSecurity enforce level \"baseline:v1.30\"",
            "x (and 1 other pod): host namespaces",
        ]
    );
}
