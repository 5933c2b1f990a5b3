//! How long pods take to run: `pod_load KUBECONFIG IMAGE COUNT`.
//!
//! First twenty pods one after the other, then COUNT at once, in a namespace of its own, which is deleted at the end. A time
//! is from before the request that creates a pod to the watch's first event that shows it Running with its container ready,
//! with no kubectl between. Two lines; pods a second are from the first request to the last event. The image has to be on
//! the nodes.

mod common;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use bytes::Bytes;
use common::{configuration, print};
use http::Method;
use kontiki_api::resources::{NAMESPACES, PODS, SERVICE_ACCOUNTS};
use kontiki_client::{
    Client, DeleteOptions,
    watch::{WatchEvent, WatchParams, WatchStream},
};
use serde_json::{Value, json};

/// Pods that are made one after the other.
const ALONE: usize = 20;
/// How long all pods of a piece of work may take.
const DEADLINE: Duration = Duration::from_secs(120);
/// How long the namespace may take to have its account.
const ACCOUNT_DEADLINE: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kubeconfig, image, count] = arguments.as_slice() else {
        anyhow::bail!("usage: pod_load KUBECONFIG IMAGE COUNT");
    };
    let count = count.parse().context("COUNT")?;
    let client = Client::https(configuration(kubeconfig)?, "load")?;
    let space = format!("pods-{}", std::process::id());
    let _: Value = client.create(NAMESPACES, "", &json!({"metadata": {"name": space}})).await.context("make a namespace")?;
    let outcome = all(&client, &space, image, count).await;
    client.delete(NAMESPACES, "", &space, &DeleteOptions::default()).await.context("delete the namespace")?;
    outcome
}

async fn all(client: &Client, space: &str, image: &str, count: usize) -> Result<()> {
    let account = async {
        while client.get::<Value>(SERVICE_ACCOUNTS, space, "default").await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(ACCOUNT_DEADLINE, account).await.context("the namespace got no service account")?;
    let mut stream = client.watch(PODS, space, &WatchParams::default()).await?;
    let began = Instant::now();
    let mut times = Vec::new();
    for number in 0..ALONE {
        times.extend(run(client, space, image, &mut stream, &[format!("alone-{number}")]).await?);
    }
    print("alone", &mut times, began.elapsed());
    let names: Vec<String> = (0..count).map(|number| format!("together-{number}")).collect();
    let began = Instant::now();
    let mut times = run(client, space, image, &mut stream, &names).await?;
    print("together", &mut times, began.elapsed());
    Ok(())
}

/// Makes pods at once, and waits until the watch has shown each of them running: how long each took.
async fn run(client: &Client, space: &str, image: &str, stream: &mut WatchStream, names: &[String]) -> Result<Vec<Duration>> {
    let mut waiting: BTreeMap<&str, Instant> = names.iter().map(|name| (name.as_str(), Instant::now())).collect();
    let requests = names.iter().map(|name| {
        let body: Bytes = pod(name, image).to_string().into();
        client.request(Method::POST, PODS.path(space, ""), "application/json", body)
    });
    let made = async { futures::future::try_join_all(requests).await.map(drop).context("create pods") };
    let seen = async {
        let mut times = Vec::new();
        while !waiting.is_empty() {
            let event = stream.next().await?.context("the server ended the watch")?;
            let (WatchEvent::Added(object) | WatchEvent::Modified(object)) = event else { continue };
            let object: Value = serde_json::from_slice(&object)?;
            if object["status"]["containerStatuses"][0]["ready"] == true
                && let Some(began) = object["metadata"]["name"].as_str().and_then(|name| waiting.remove(name))
            {
                times.push(began.elapsed());
            }
        }
        Ok::<_, anyhow::Error>(times)
    };
    let both = async { futures::try_join!(made, seen) };
    let ((), times) = tokio::time::timeout(DEADLINE, both).await.context("pods do not run in time")??;
    Ok(times)
}

fn pod(name: &str, image: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "main", "image": image, "imagePullPolicy": "Never", "command": ["sleep", "1000"]}]}})
}
