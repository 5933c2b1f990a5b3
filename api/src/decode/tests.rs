//! Bodies that are decoded, refused or warned of, in the decoder's words.
#![allow(clippy::unwrap_used)]
use super::*;
use crate::registry;
use serde_json::json;

fn expected(kind: &str) -> Expected<'static> {
    Expected::of(registry::all().iter().find(|resource| resource.key.kind == kind).unwrap()).unwrap()
}

fn refusal(kind: &str, body: &str) -> String {
    let status = decode(body.as_bytes(), expected(kind), FieldValidation::Strict).unwrap_err();
    assert_eq!((status.code, status.reason.as_str()), (400, "BadRequest"));
    status.message
}

fn clean(kind: &str, body: &Value) -> Value {
    decode(body.to_string().as_bytes(), expected(kind), FieldValidation::Ignore).unwrap().object
}

#[test]
fn strict_decoding_names_every_field() {
    let body = r#"{"spec":{"replicas":1,"foo":2,"replicas":3,"template":{"spec":{"containers":[{"name":"a"},{"name":"b","imagee":"x"}]}}},"bar":1}"#;
    assert_eq!(
        refusal("Deployment", body),
        "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: unknown field \"spec.foo\", \
         duplicate field \"spec.replicas\", unknown field \"spec.template.spec.containers[1].imagee\", unknown field \"bar\""
    );
    let decoded = decode(body.as_bytes(), expected("Deployment"), FieldValidation::Warn).unwrap();
    assert_eq!(decoded.warnings.len(), 4);
    assert_eq!(decoded.warnings[0], "unknown field \"spec.foo\"");
    assert_eq!(decoded.object["spec"]["replicas"], 3);
    assert_eq!(decoded.object["kind"], "Deployment");
    assert_eq!(decoded.object["apiVersion"], "apps/v1");
    assert!(decoded.object.get("bar").is_none());
    assert!(decode(body.as_bytes(), expected("Deployment"), FieldValidation::Ignore).unwrap().warnings.is_empty());
}

#[test]
fn repeated_map_keys_are_found_too() {
    let body = r#"{"data":{"a":"1","a":"2"}}"#;
    assert!(refusal("ConfigMap", body).ends_with("strict decoding error: duplicate field \"data.a\""));
}

#[test]
fn type_errors_read_as_in_go() {
    for (kind, body, tail) in [
        (
            "Deployment",
            r#"{"spec":{"replicas":"3"}}"#,
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            "Deployment",
            r#"{"spec":"x"}"#,
            "json: cannot unmarshal string into Go struct field Deployment.spec of type v1.DeploymentSpec",
        ),
        (
            "Deployment",
            r#"{"spec":{"replicas":1.5}}"#,
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            "Deployment",
            r#"{"spec":{"replicas":99999999999}}"#,
            "json: cannot unmarshal number 99999999999 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            "Pod",
            r#"{"spec":{"containers":{}}}"#,
            "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
        (
            "Pod",
            r#"{"spec":{"containers":[{"image":5}]}}"#,
            "json: cannot unmarshal number into Go struct field Container.spec.containers.image of type string",
        ),
        (
            "Pod",
            r#"{"metadata":{"labels":{"a":1}}}"#,
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            "Pod",
            r#"{"metadata":{"labels":[]}}"#,
            "json: cannot unmarshal array into Go struct field ObjectMeta.metadata.labels of type map[string]string",
        ),
        (
            "Pod",
            r#"{"metadata":{"creationTimestamp":"x"}}"#,
            r#"parsing time "x" as "2006-01-02T15:04:05Z07:00": cannot parse "x" as "2006""#,
        ),
        ("Secret", r#"{"data":{"a":"%"}}"#, "illegal base64 data at input byte 0"),
        (
            "Pod",
            r#"{"spec":{"containers":[{"resources":{"limits":{"cpu":"a lot"}}}]}}"#,
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
    ] {
        assert_eq!(refusal(kind, body), format!("{kind} in version \"v1\" cannot be handled as a {kind}: {tail}"));
    }
}

#[test]
fn other_kinds_and_no_json_are_refused() {
    for (body, message) in [
        (
            "",
            "the object provided is unrecognized (must be of type Pod): couldn't get version/kind; json parse error: unexpected end of JSON input (<empty>)",
        ),
        (
            "x: y",
            "the object provided is unrecognized (must be of type Pod): couldn't get version/kind; json parse error: invalid character 'x' looking for beginning of value (783a2079)",
        ),
        (
            r#"{"kind":"Foo"}"#,
            "Foo in version \"v1\" cannot be handled as a Pod: no kind \"Foo\" is registered for version \"v1\" in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
        ),
        (
            r#"{"apiVersion":"v2"}"#,
            "Pod in version \"v2\" cannot be handled as a Pod: no kind \"Pod\" is registered for version \"v2\" in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
        ),
        (
            r#"{"kind":"Deployment","apiVersion":"apps/v1"}"#,
            "Deployment in version \"v1\" cannot be handled as a Pod: converting (v1.Deployment) to (core.Pod): unknown conversion",
        ),
    ] {
        assert_eq!(refusal("Pod", body), message);
    }
}

#[test]
fn values_take_the_form_they_are_served_in() {
    let pod = clean(
        "Pod",
        &json!({
            "metadata": {"name": "a", "labels": {}, "annotations": {"x": null}, "creationTimestamp": null, "finalizers": []},
            "spec": {
                "nodeSelector": {}, "volumes": [{"name": "v", "emptyDir": {}}],
                "containers": [{"name": "c", "command": [], "resources": {"limits": {"cpu": 1, "memory": "1Gi"}}}],
            },
            "status": {"startTime": "2026-01-02T03:04:05.678+01:00"},
        }),
    );
    assert_eq!(
        pod,
        json!({
            "kind": "Pod", "apiVersion": "v1",
            "metadata": {"name": "a", "annotations": {"x": ""}},
            "spec": {
                "volumes": [{"name": "v", "emptyDir": {}}],
                "containers": [{"name": "c", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}],
            },
            "status": {"startTime": "2026-01-02T02:04:05Z"},
        })
    );
    let lease = clean("Lease", &json!({"spec": {"renewTime": "2026-01-02T03:04:05.678Z"}}));
    assert_eq!(lease["spec"]["renewTime"], "2026-01-02T03:04:05.678000Z");
}

#[test]
fn managed_fields_are_not_looked_into() {
    let fields = json!({"f:metadata": {"f:labels": {".": {}}}, "x": null});
    let pod = clean("Pod", &json!({"metadata": {"managedFields": [{"fieldsV1": fields}]}}));
    assert_eq!(pod["metadata"]["managedFields"][0]["fieldsV1"], fields);
}

#[test]
fn cleaning_is_idempotent_over_text_and_values() {
    let type_ = expected("Pod").type_;
    let pod = clean("Pod", &json!({"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80}]}]}}));
    let (again, findings) = walk_value(pod.clone(), type_, Dialect::Json);
    assert_eq!(again, pod);
    assert!(findings.strict.is_empty() && findings.error.is_none());
    let (_, findings) = walk_value(json!({"spec": {"x": 1, "b": 2, "nodeName": 5}, "a": 1}), type_, Dialect::Converter);
    assert_eq!(findings.strict, ["unknown field \"a\"", "unknown field \"spec.b\"", "unknown field \"spec.x\""]);
    assert_eq!(findings.error.unwrap(), "cannot convert int64 to string");
}

#[test]
fn delete_options_may_be_empty() {
    assert_eq!(decode_delete_options(b"").unwrap(), json!({}));
    let body = br#"{"apiVersion":"v1","kind":"DeleteOptions","gracePeriodSeconds":0,"preconditions":{"uid":"u"}}"#;
    assert_eq!(decode_delete_options(body).unwrap()["preconditions"]["uid"], "u");
    assert!(decode_delete_options(br#"{"gracePeriodSeconds":"x"}"#).is_err());
}
