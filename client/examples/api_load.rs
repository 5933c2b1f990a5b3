//! Load on any Kubernetes API server: `api_load KUBECONFIG CLIENTS SECONDS [WORK ...]`, WORK one of `create`, `get`, `patch`, `list`, `watch`.
//!
//! ConfigMaps of one KB in a namespace of its own, which is deleted at the end. Each client has a connection of its own. `get`,
//! `patch` and `list` work on 500 objects made beforehand; `watch` opens 200 watches and writes 500 objects past them. One line
//! a piece of work: how many a second, and the median and 99th percentile of the time that one took.

mod common;

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use common::{configuration, print};
use http::Method;
use kontiki_api::resources::{CONFIG_MAPS, NAMESPACES};
use kontiki_client::{
    Client, DeleteOptions, ListParams,
    https::HttpsConfig,
    watch::{WatchEvent, WatchParams},
};
use serde_json::{Value, json};

/// Objects that reads and patches meet.
const OBJECTS: usize = 500;
/// Watches that are open while [`OBJECTS`] are written.
const WATCHERS: usize = 200;
/// Bytes of one object's data.
const OBJECT_BYTES: usize = 1024;
/// How long events may take to reach every watcher.
const WATCH_DEADLINE: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kubeconfig, clients, seconds, work @ ..] = arguments.as_slice() else {
        anyhow::bail!("usage: api_load KUBECONFIG CLIENTS SECONDS [create|get|patch|list|watch ...]");
    };
    let config = configuration(kubeconfig)?;
    let run = Run {
        config,
        namespace: format!("load-{}", std::process::id()),
        clients: clients.parse().context("CLIENTS")?,
        duration: Duration::from_secs(seconds.parse().context("SECONDS")?),
    };
    let admin = run.client()?;
    let _: Value =
        admin.create(NAMESPACES, "", &json!({"metadata": {"name": run.namespace}})).await.context("make a namespace")?;
    let outcome = all(&run, &admin, work).await;
    admin.delete(NAMESPACES, "", &run.namespace, &DeleteOptions::default()).await.context("delete the namespace")?;
    outcome
}

async fn all(run: &Run, admin: &Client, work: &[String]) -> Result<()> {
    let wanted = |name: &str| work.is_empty() || work.iter().any(|word| word == name);
    if wanted("create") {
        let space = run.namespace.clone();
        run.measure("create", move |client, worker, number| {
            let space = space.clone();
            async move {
                let mut body = object(&format!("created-{worker}-{number}"), number);
                body["metadata"]["labels"]["load"] = json!("created");
                let body = body.to_string().into();
                client.request(Method::POST, CONFIG_MAPS.path(&space, ""), "application/json", body).await.map(drop)
            }
        })
        .await?;
    }
    if ["get", "patch", "list"].into_iter().any(wanted) {
        for number in 0..OBJECTS {
            let _: Value = admin.create(CONFIG_MAPS, &run.namespace, &object(&format!("object-{number}"), number)).await?;
        }
    }
    let params = ListParams { label_selector: "load=objects".into(), ..ListParams::default() };
    if wanted("get") {
        let space = run.namespace.clone();
        run.measure("get", move |client, worker, number| {
            let (space, name) = (space.clone(), format!("object-{}", (worker * 31 + number) % OBJECTS));
            let path = CONFIG_MAPS.path(&space, &name);
            async move { client.request(Method::GET, path, "", Bytes::new()).await.map(drop) }
        })
        .await?;
    }
    if wanted("patch") {
        let space = run.namespace.clone();
        run.measure("patch", move |client, worker, number| {
            let (space, name) = (space.clone(), format!("object-{}", (worker * 31 + number) % OBJECTS));
            let patch = json!({"data": {"patched": format!("{worker}-{number}")}}).to_string().into();
            let path = CONFIG_MAPS.path(&space, &name);
            async move { client.request(Method::PATCH, path, "application/merge-patch+json", patch).await.map(drop) }
        })
        .await?;
    }
    if wanted("list") {
        let path = format!("{}?{}", CONFIG_MAPS.path(&run.namespace, ""), params.query());
        run.measure("list", move |client, _, _| {
            let path = path.clone();
            async move { client.request(Method::GET, path, "", Bytes::new()).await.map(drop) }
        })
        .await?;
    }
    if wanted("watch") { watch(run, admin).await } else { Ok(()) }
}

/// One run of this program.
struct Run {
    config: HttpsConfig,
    namespace: String,
    clients: usize,
    duration: Duration,
}

impl Run {
    fn client(&self) -> Result<Client> {
        Ok(Client::https(self.config.clone(), "load")?)
    }

    /// Lets every client do the same thing again and again, and prints how fast that was. An error ends the run: a figure
    /// with refusals in it says nothing.
    async fn measure<F, T>(&self, name: &str, act: F) -> Result<()>
    where
        F: Fn(Client, usize, usize) -> T + Send + Sync + 'static,
        T: Future<Output = Result<(), kontiki_client::Error>> + Send,
    {
        let act = Arc::new(act);
        let began = Instant::now();
        let until = began + self.duration;
        let mut workers = Vec::new();
        for worker in 0..self.clients {
            let (client, act) = (self.client()?, Arc::clone(&act));
            workers.push(tokio::spawn(async move {
                let mut times = Vec::new();
                while Instant::now() < until {
                    let began = Instant::now();
                    act(client.clone(), worker, times.len()).await?;
                    times.push(began.elapsed());
                }
                Ok::<_, kontiki_client::Error>(times)
            }));
        }
        let mut times = Vec::new();
        for worker in workers {
            times.extend(worker.await??);
        }
        print(name, &mut times, began.elapsed());
        Ok(())
    }
}

async fn watch(run: &Run, admin: &Client) -> Result<()> {
    let mut watchers = Vec::new();
    for _ in 0..WATCHERS {
        let client = run.client()?;
        let params = WatchParams { label_selector: "load=watched".into(), ..WatchParams::default() };
        let mut stream = client.watch(CONFIG_MAPS, &run.namespace, &params).await?;
        watchers.push(tokio::spawn(async move {
            let mut times = Vec::with_capacity(OBJECTS);
            while times.len() < OBJECTS {
                match stream.next().await? {
                    Some(WatchEvent::Added(object)) => times.push(age(&serde_json::from_slice(&object)?)?),
                    Some(_) => {}
                    None => anyhow::bail!("the server ended a watch"),
                }
            }
            Ok::<_, anyhow::Error>(times)
        }));
    }
    let epoch = Instant::now();
    for number in 0..OBJECTS {
        let mut body = object(&format!("watched-{number}"), number);
        body["metadata"]["labels"]["load"] = json!("watched");
        body["data"]["sent"] = json!(now_micros().to_string());
        let _: Value = admin.create(CONFIG_MAPS, &run.namespace, &body).await?;
    }
    let mut times = Vec::new();
    for watcher in watchers {
        times.extend(tokio::time::timeout(WATCH_DEADLINE, watcher).await.context("a watcher missed events")???);
    }
    ensure!(times.len() == WATCHERS * OBJECTS, "each watcher sees each object");
    print("watch", &mut times, epoch.elapsed());
    Ok(())
}

fn now_micros() -> u128 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_micros()
}

/// Time since an object was sent.
fn age(object: &Value) -> Result<Duration> {
    let sent: u128 = object["data"]["sent"].as_str().context("an object without its time")?.parse()?;
    Ok(Duration::from_micros(now_micros().saturating_sub(sent).try_into()?))
}

fn object(name: &str, number: usize) -> Value {
    let data = "x".repeat(OBJECT_BYTES);
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"load": "objects"}},
        "data": {"number": number.to_string(), "text": data}})
}
