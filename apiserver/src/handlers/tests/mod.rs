//! What clients see, through the whole path, over a store in memory.
#![allow(clippy::unwrap_used)]

mod apply;
mod encodings;
mod reads;
mod services;
mod watches;
mod writes;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    service::Handle,
    testing::{self, Answer},
};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn config_map(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": { "k": "v" } })
}

async fn post(handle: &Handle, path: &str, body: &Value) -> Answer {
    testing::send(handle, Method::POST, path, &[], body.to_string()).await
}

/// A server with these config maps.
async fn with_maps(names: &[&str]) -> Handle {
    let handle = testing::server().await;
    for name in names {
        assert_eq!(post(&handle, MAPS, &config_map(name)).await.code, StatusCode::CREATED);
    }
    handle
}

async fn get(handle: &Handle, path: &str) -> Answer {
    testing::send(handle, Method::GET, path, &[], "").await
}

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

fn version(object: &Value) -> i64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}
