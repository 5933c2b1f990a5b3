//! Encodings and forms of answers.

use kontiki_api::protobuf;

use super::*;

const PROTOBUF: (&str, &str) = ("accept", "application/vnd.kubernetes.protobuf,application/json");

#[tokio::test]
async fn protobuf_goes_in_and_comes_out() {
    let handle = with_maps(&["a"]).await;
    let sent = protobuf::encode::encode_any(&config_map("b")).unwrap();
    let headers = [PROTOBUF, ("content-type", "application/vnd.kubernetes.protobuf")];
    let created = testing::send(&handle, Method::POST, MAPS, &headers, sent).await;
    assert_eq!(created.code, StatusCode::CREATED);
    assert_eq!(created.headers["content-type"], "application/vnd.kubernetes.protobuf");
    let json = get(&handle, &format!("{MAPS}/b")).await.json();
    assert_eq!(protobuf::decode(&created.body).unwrap(), json);
    let read = testing::send(&handle, Method::GET, &format!("{MAPS}/b"), &[PROTOBUF], "").await;
    assert_eq!(protobuf::decode(&read.body).unwrap(), json);
    let list = testing::send(&handle, Method::GET, &format!("{MAPS}?limit=1"), &[PROTOBUF], "").await;
    assert!(list.body.starts_with(b"k8s\0"));
    assert!(list.body.windows(13).any(|part| part == b"ConfigMapList"));
    let missing = testing::send(&handle, Method::GET, &format!("{MAPS}/x"), &[PROTOBUF], "").await;
    let status = protobuf::decode(&missing.body).unwrap();
    assert_eq!((&status["kind"], &status["reason"], &status["code"]), (&json!("Status"), &json!("NotFound"), &json!(404)));
    let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": "other"}});
    let options = protobuf::encode::encode_any(&options).unwrap();
    let refused = testing::send(&handle, Method::DELETE, &format!("{MAPS}/b"), &headers, options).await;
    assert_eq!(refused.code, StatusCode::CONFLICT);
}

#[tokio::test]
async fn forms_and_refusals() {
    let handle = with_maps(&["a"]).await;
    let ask = async |path: &str, accept: &str| testing::send(&handle, Method::GET, path, &[("accept", accept)], "").await;
    let table = ask(MAPS, "application/json;as=Table;v=v1;g=meta.k8s.io,application/json").await.json();
    assert_eq!((&table["kind"], &table["rows"][0]["cells"][0]), (&json!("Table"), &json!("a")));
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let bare = ask(&format!("{MAPS}?includeObject=None"), "application/json;as=Table;v=v1;g=meta.k8s.io").await.json();
    assert_eq!(bare["rows"][0]["object"], Value::Null);
    let partial = ask(MAPS, "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io").await.json();
    assert_eq!((&partial["kind"], partial["items"][0].get("data")), (&json!("PartialObjectMetadataList"), None));
    let yaml = ask(&format!("{MAPS}/a"), "application/yaml").await;
    assert!(String::from_utf8_lossy(&yaml.body).contains("kind: ConfigMap"));
    assert_eq!(ask(MAPS, "application/cbor").await.code, StatusCode::NOT_ACCEPTABLE);
    // A review makes no table.
    let review = json!({"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1",
        "spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let accept = ("accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
    assert_eq!(testing::send(&handle, Method::POST, path, &[accept], review.to_string()).await.code, StatusCode::NOT_ACCEPTABLE);
}

#[tokio::test]
async fn large_answers_are_compressed_for_those_who_ask() {
    use std::io::Read;
    let handle = testing::server().await;
    let mut large = config_map("large");
    large["data"]["k"] = "x".repeat(200_000).into();
    assert_eq!(post(&handle, MAPS, &large).await.code, StatusCode::CREATED);
    let plain = get(&handle, MAPS).await;
    let gzip = [("accept-encoding", "gzip")];
    let packed = testing::send(&handle, Method::GET, MAPS, &gzip, "").await;
    assert_eq!(packed.headers["content-encoding"], "gzip");
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&packed.body[..]).read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked, plain.body);
    assert!(
        !testing::send(&handle, Method::GET, "/api/v1/namespaces/default", &gzip, "")
            .await
            .headers
            .contains_key("content-encoding")
    );
}
