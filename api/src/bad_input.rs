//! Whatever comes from outside: no decoder panics, none takes long, each refuses with a Status or a reason.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::{
    decode::{self, Expected, FieldValidation},
    managed::FieldSet,
    patch::{self, PatchType},
    protobuf, quantity, registry,
    registry::Resource,
    selector::{FieldSelector, LabelSelector},
};

/// More than any decoder needs for a small input, on a machine that has other things to do.
const LONG: Duration = Duration::from_secs(5);

fn pods() -> &'static Resource {
    registry::find("", "v1", "pods").unwrap()
}

/// JSON of the shapes that patches and objects are made of, directives included.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z/%]{0,6}".prop_map(Value::from),
        Just(json!("delete")),
        Just(json!("replace")),
    ];
    let name = prop_oneof![
        Just("spec"),
        Just("metadata"),
        Just("containers"),
        Just("name"),
        Just("labels"),
        Just("ports"),
        Just("finalizers"),
        Just("managedFields"),
        Just("$patch"),
        Just("$retainKeys"),
        Just("$setElementOrder/containers"),
        Just("$deleteFromPrimitiveList/finalizers"),
        Just("f:spec"),
        Just("k:{\"name\":\"a\"}"),
    ];
    leaf.prop_recursive(5, 48, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((name.clone(), inner), 0..5).prop_map(|members| {
                Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
            }),
        ]
    })
}

fn any_operation() -> impl Strategy<Value = Value> {
    let verb = prop_oneof![Just("add"), Just("remove"), Just("replace"), Just("move"), Just("copy"), Just("test"), Just("?")];
    let path = prop_oneof![
        Just("/spec"),
        Just("/spec/containers/0"),
        Just("/spec/containers/-"),
        Just(""),
        Just("x"),
        Just("/~2"),
        Just("/a/99999999999")
    ];
    (verb, path.clone(), path, any_json())
        .prop_map(|(op, path, from, value)| json!({"op": op, "path": path, "from": from, "value": value}))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn texts(text in "\\PC{0,80}", bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let expected = Expected::of(pods()).unwrap();
        let _ = LabelSelector::parse(&text);
        let _ = FieldSelector::parse(&text);
        let _ = quantity::canonical(&text);
        let _ = protobuf::decode(&bytes);
        let _ = protobuf::decode(&[b"k8s\0", &bytes[..]].concat());
        let _ = decode::decode_delete_options(&bytes);
        for body in [text.as_bytes(), &bytes] {
            if let Err(status) = decode::decode(body, expected, FieldValidation::Strict) {
                prop_assert_eq!(status.code, 400);
            }
        }
    }

    #[test]
    fn selectors_of_every_operator(keys in proptest::collection::vec("[a-z(),=!<> ]{0,8}", 0..6)) {
        let text = keys.join(",");
        if let Ok(selector) = LabelSelector::parse(&text) {
            prop_assert_eq!(LabelSelector::parse(&selector.to_string()).unwrap().to_string(), selector.to_string());
        }
    }

    #[test]
    fn objects_and_patches(object in any_json(), patch in any_json(), operations in proptest::collection::vec(any_operation(), 0..6)) {
        let (object, type_) = (json!({"kind": "Pod", "apiVersion": "v1", "spec": object["spec"], "metadata": object["metadata"]}), pods().type_().unwrap());
        let _ = decode::decode(object.to_string().as_bytes(), Expected::of(pods()).unwrap(), FieldValidation::Warn);
        for (kind, body) in [
            (PatchType::Strategic, patch.to_string()),
            (PatchType::Merge, patch.to_string()),
            (PatchType::Json, Value::from(operations).to_string()),
        ] {
            if let Err(status) = patch::apply(kind, &object, body.as_bytes(), type_, FieldValidation::Strict) {
                prop_assert!(matches!(status.code, 400 | 413 | 422 | 500), "{}", status);
            }
        }
        let _ = FieldSet::decode(&patch);
        let _ = protobuf::encode::encode_any(&object);
    }

    #[test]
    fn applied_configurations(live in any_json(), config in any_json()) {
        use crate::managed::{Application, OneVersion, Owned, Writer, apply};
        let pod = |value: &Value| json!({"kind": "Pod", "apiVersion": "v1", "spec": value["spec"], "metadata": {"name": "x"}});
        let (live, config, none) = (pod(&live), pod(&config), FieldSet::default());
        let writer = Writer { manager: "m", api_version: "v1", subresource: "", now: jiff::Timestamp::UNIX_EPOCH };
        let application = Application { config: &config, writer, kind: "Pod", force: true, ignored: &none };
        let owned = Owned::of(pods().type_().unwrap());
        let _ = apply(&owned, &OneVersion(&owned), Some(&live), &application);
    }
}

#[test]
fn depth_and_length_cost_little() {
    let began = Instant::now();
    let expected = Expected::of(pods()).unwrap();
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(10_000), close.repeat(10_000));
    for body in [deep("[", "]"), deep("{\"spec\":", "}"), deep("{\"a\":[", "]}")] {
        // What lies below a field that the type does not have is skipped, however deep.
        if let Err(status) = decode::decode(body.as_bytes(), expected, FieldValidation::Warn) {
            assert_eq!(status.code, 400);
        }
        let type_ = pods().type_().unwrap();
        for kind in [PatchType::Strategic, PatchType::Merge, PatchType::Json] {
            assert_eq!(patch::apply(kind, &json!({}), body.as_bytes(), type_, FieldValidation::Warn).unwrap_err().code, 400);
        }
    }
    let wide: String = (0..100_000).map(|number| format!("\"f{number}\":1,")).collect();
    let wide = format!("{{{wide}\"kind\":\"Pod\",\"apiVersion\":\"v1\"}}");
    assert!(decode::decode(wide.as_bytes(), expected, FieldValidation::Warn).unwrap().warnings.len() <= 100);
    let selector = "a=b,".repeat(20_000);
    let _ = LabelSelector::parse(&selector);
    // A message within a message within a message.
    let mut message = Vec::new();
    for _ in 0..2000 {
        let mut outer = vec![0x0a];
        let mut length = message.len();
        while length >= 0x80 {
            outer.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        outer.push(length as u8);
        outer.extend_from_slice(&message);
        message = outer;
    }
    let _ = protobuf::decode(&[b"k8s\0", &message[..]].concat());
    assert!(began.elapsed() < LONG, "{:?}", began.elapsed());
}
