//! Asks a cluster without a pause and notes each answer: one object is created each period, whether or not the ones before it
//! were answered, and each address is asked in the same way. Nothing is tried twice.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http::Uri;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use kontiki_api::resources::CONFIG_MAPS;
use kontiki_client::Client;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{net::TcpStream, runtime::Handle, task::JoinHandle};

/// Time from one request to the next.
const PERIOD: Duration = Duration::from_millis(100);
/// How long one request may take; with the period it bounds how many are under way.
const DEADLINE: Duration = Duration::from_secs(5);

/// A write that was acknowledged.
#[derive(Clone, Debug)]
pub struct Write {
    /// When, since the load began.
    pub at: Duration,
    /// Name of the object.
    pub name: String,
}

/// Requests to one address.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Which.
    pub address: String,
    /// How many came to an end.
    pub requests: usize,
    /// When one failed, since the load began, and why.
    pub failures: Vec<(Duration, String)>,
}

/// All answers.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// What was acknowledged, in the order of the acknowledgements.
    pub writes: Vec<Write>,
    /// What was asked besides.
    pub asked: Vec<Asked>,
}

/// Requests that go on until this is dropped.
pub struct Load {
    began: Instant,
    record: Arc<Mutex<Record>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Load {
    /// Creates ConfigMaps in `namespace`, and asks each of `addresses` (see [`check_address`]).
    #[must_use]
    pub fn start(runtime: &Handle, client: Client, namespace: &str, addresses: &[Uri]) -> Self {
        let asked = |uri: &Uri| Asked { address: uri.to_string(), requests: 0, failures: Vec::new() };
        let record = Record { writes: Vec::new(), asked: addresses.iter().map(asked).collect() };
        let (began, record) = (Instant::now(), Arc::new(Mutex::new(record)));
        let mut tasks = vec![runtime.spawn(write_each_period(client, namespace.to_owned(), began, Arc::clone(&record)))];
        for (number, uri) in addresses.iter().enumerate() {
            tasks.push(runtime.spawn(ask_each_period(uri.clone(), number, began, Arc::clone(&record))));
        }
        Self { began, record, tasks }
    }

    /// Time since it began.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// What was answered so far.
    #[must_use]
    pub fn record(&self) -> Record {
        self.record.lock().clone()
    }

    /// When the last write was acknowledged.
    #[must_use]
    pub fn last_write(&self) -> Duration {
        self.record.lock().writes.last().map(|write| write.at).unwrap_or_default()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn write_each_period(client: Client, namespace: String, began: Instant, record: Arc<Mutex<Record>>) {
    let mut period = tokio::time::interval(PERIOD);
    let mut under_way = tokio::task::JoinSet::new();
    for number in 0_u64.. {
        period.tick().await;
        while under_way.try_join_next().is_some() {}
        let (client, namespace, record) = (client.clone(), namespace.clone(), Arc::clone(&record));
        under_way.spawn(async move {
            let name = format!("write-{number}");
            let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
            let create = client.create::<Value>(CONFIG_MAPS, &namespace, &object);
            // An answer that does not come says nothing about the object.
            if let Ok(Ok(_)) = tokio::time::timeout(DEADLINE, create).await {
                record.lock().writes.push(Write { at: began.elapsed(), name });
            }
        });
    }
}

async fn ask_each_period(uri: Uri, address: usize, began: Instant, record: Arc<Mutex<Record>>) {
    let mut period = tokio::time::interval(PERIOD);
    let mut under_way = tokio::task::JoinSet::new();
    loop {
        period.tick().await;
        while under_way.try_join_next().is_some() {}
        let (uri, record) = (uri.clone(), Arc::clone(&record));
        under_way.spawn(async move {
            let answer = tokio::time::timeout(DEADLINE, ask(&uri)).await;
            let failure = match answer {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(format!("{error:#}")),
                Err(_) => Some(format!("no answer within {DEADLINE:?}")),
            };
            let mut record = record.lock();
            let asked = &mut record.asked[address];
            asked.requests += 1;
            asked.failures.extend(failure.map(|why| (began.elapsed(), why)));
        });
    }
}

/// Whether an address can be asked: plain HTTP and a host.
pub fn check_address(text: &str) -> Result<Uri> {
    let uri: Uri = text.parse().with_context(|| format!("{text:?} is no URL"))?;
    ensure!(uri.scheme_str() == Some("http") && uri.host().is_some(), "{text:?} is no http:// URL with a host");
    Ok(uri)
}

/// One request on a connection of its own; an answer that blames the server is a failure.
async fn ask(uri: &Uri) -> Result<()> {
    let host = uri.host().context("no host")?;
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), uri.port_u16().unwrap_or(80))).await.context("connect")?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.context("begin HTTP")?;
    let connection = tokio::spawn(connection);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = uri.authority().map_or(host, |authority| authority.as_str());
    let request = hyper::Request::get(path).header(http::header::HOST, authority).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await;
    connection.abort();
    let status = response.context("no answer")?.status();
    if status.is_server_error() { bail!("{status}") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[test]
    fn only_plain_http_can_be_asked() {
        assert!(check_address("http://127.0.0.1:30080/health").is_ok());
        for wrong in ["https://a/", "127.0.0.1:80", "/path", ""] {
            assert!(check_address(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn an_answer_that_blames_the_server_is_a_failure() {
        for (answer, is_fine) in [("200 OK", true), ("404 Not Found", true), ("503 Service Unavailable", false)] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let uri: Uri = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
            let server = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let text = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(text.as_bytes()).await.unwrap();
                stream
            };
            let (answered, _stream) = tokio::join!(ask(&uri), server);
            assert_eq!(answered.is_ok(), is_fine, "{answer}");
        }
    }
}
