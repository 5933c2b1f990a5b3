//! A request through a server in memory to a pod that is a socket of this test.
#![allow(clippy::unwrap_used)]

use http_body_util::BodyExt;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use crate::{auth::UserInfo, testing};

/// Answers one connection with `answer`, and tells what was asked.
async fn pod(answer: &'static str) -> (u16, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = vec![0; 4096];
        let length = stream.read(&mut asked).await.unwrap();
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8_lossy(&asked[..length]).into_owned()
    });
    (port, task)
}

fn call(method: Method, path: &str, headers: &[(&'static str, &str)]) -> Call {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, value.parse().unwrap());
    }
    Call {
        user: UserInfo::apiserver(),
        info: RequestInfo::parse(&method, &path.parse().unwrap()),
        headers: map,
        body: Bytes::from_static(b"hello"),
        upgrade: Mutex::new(None),
        streamed: None,
        peer: Some("10.0.0.9".parse().unwrap()),
    }
}

#[tokio::test]
async fn a_request_travels_and_its_links_come_back_through_the_proxy() {
    let handle = testing::server().await;
    let (port, asked) = pod(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nConnection: close\r\nAccess-Control-Allow-Origin: *\r\n\r\n<a href=\"/x\">y</a>",
    )
    .await;
    let path = "/api/v1/namespaces/default/pods/p/proxy/some/path?a=b%20c";
    let headers =
        [("host", "api:6443"), ("authorization", "Bearer secret"), ("x-mine", "1"), ("connection", "x-hop"), ("x-hop", "1")];
    let call = call(Method::PUT, path, &headers);
    let target = target::Target { host: "127.0.0.1".into(), port, tls: false, kubelet: false };
    let split = rewrite::split(&call.info.path).unwrap();
    let page = Page::new(&call, split.prefix, &target);
    let mut request = pass::outgoing(&call, split.rest, false).unwrap();
    page.announce(request.headers_mut(), split.rest);
    let found = connect::send(handle.server(), &target, request).await.unwrap();
    let answer = incoming(found, &page).await.unwrap();
    assert!(!answer.headers().contains_key("access-control-allow-origin"));
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "<a href=\"/api/v1/namespaces/default/pods/p/proxy/x\">y</a>");
    let asked = asked.await.unwrap().to_lowercase();
    assert!(asked.starts_with("put /some/path?a=b%20c http/1.1\r\n"), "{asked}");
    for wanted in [
        "x-mine: 1",
        "host: api:6443",
        "x-forwarded-for: 10.0.0.9",
        "x-forwarded-uri: /api/v1/namespaces/default/pods/p/proxy/some/path",
    ] {
        assert!(asked.contains(wanted), "{wanted}: {asked}");
    }
    for secret in ["secret", "x-hop"] {
        assert!(!asked.contains(secret), "{asked}");
    }
}

#[tokio::test]
async fn what_cannot_be_reached_is_told_in_kubernetes_words() {
    let handle = testing::server().await;
    let admin = UserInfo::apiserver();
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"ports": [{"name": "http", "port": 80}]},
    });
    testing::call(&handle, &admin, Method::POST, "/api/v1/namespaces/default/services", &service).await;
    for (path, code, message) in [
        ("pods/a:b:c:d/proxy/", 400, "invalid pod request \"a:b:c:d\""),
        ("pods/p/proxy/", 404, "pods \"p\" not found"),
        ("services/web/proxy/", 503, "no endpoints available for service \"web\""),
        ("services/web:81/proxy/", 503, "no service port 81 found for service \"web\""),
    ] {
        let path = format!("/api/v1/namespaces/default/{path}");
        let (found, body) = testing::call(&handle, &admin, Method::GET, &path, &serde_json::Value::Null).await;
        assert_eq!((found.as_u16(), body["message"].as_str().unwrap_or_default()), (code, message), "{path}");
    }
}
