//! Load on any etcd v3 cluster, and a check that nothing acknowledged is lost:
//! `load ENDPOINT,... WRITERS SECONDS [VALUE_BYTES]`.
//!
//! Every writer has a connection of its own, puts one numbered key after the other, moves to the
//! next endpoint when one fails, and remembers every answer. At the end each answered key must be
//! there with the answered revision. TLS as in the example `member`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use kontiki_proto::etcdserverpb as pb;
use pb::kv_client::KvClient;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

#[derive(Clone)]
struct Target {
    /// Keys of this run begin with it, so that runs do not meet.
    run: String,
    endpoints: Vec<String>,
    tls: Option<ClientTlsConfig>,
}

impl Target {
    fn connect(&self, number: usize) -> anyhow::Result<KvClient<Channel>> {
        let url = &self.endpoints[number % self.endpoints.len()];
        let mut endpoint = Endpoint::from_shared(url.clone())?.tcp_nodelay(true).connect_timeout(Duration::from_secs(1));
        if let Some(tls) = &self.tls {
            endpoint = endpoint.tls_config(tls.clone())?;
        }
        Ok(KvClient::new(endpoint.connect_lazy()).max_decoding_message_size(1 << 30))
    }
}

#[derive(Default)]
struct Written {
    /// Number, revision, when it was answered, how long it took.
    answers: Vec<(u64, i64, Instant, Duration)>,
    unanswered: u64,
}

async fn write(target: Target, writer: usize, until: Instant, value: bytes::Bytes, done: Arc<AtomicU64>) -> Written {
    let mut written = Written::default();
    let run = target.run.clone();
    let mut endpoint = writer;
    let Ok(mut client) = target.connect(endpoint) else { return written };
    let mut number = 0;
    while Instant::now() < until {
        let key = format!("load/{run}/{writer:04}/{number:08}").into();
        let mut request = tonic::Request::new(pb::PutRequest { key, value: value.clone(), ..Default::default() });
        request.set_timeout(Duration::from_secs(5));
        let begin = Instant::now();
        match client.put(request).await {
            Ok(answer) => {
                let revision = answer.into_inner().header.map_or(0, |header| header.revision);
                written.answers.push((number, revision, Instant::now(), begin.elapsed()));
                done.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => {
                written.unanswered += 1;
                endpoint += 1;
                let Ok(next) = target.connect(endpoint) else { return written };
                client = next;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        number += 1;
    }
    written
}

async fn check(target: &Target, writer: usize, written: &Written) -> anyhow::Result<u64> {
    let run = &target.run;
    let mut lost = 0;
    let mut found = None;
    for attempt in 0..20 {
        let request = pb::RangeRequest {
            key: format!("load/{run}/{writer:04}/").into(),
            range_end: format!("load/{run}/{writer:04}0").into(),
            keys_only: true,
            ..Default::default()
        };
        match target.connect(writer + attempt)?.range(request).await {
            Ok(answer) => {
                found = Some(answer.into_inner().kvs);
                break;
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
    let kvs = found.context("no endpoint answers a read")?;
    let by_key: std::collections::HashMap<_, _> = kvs.iter().map(|kv| (kv.key.clone(), kv)).collect();
    for (number, revision, _, _) in &written.answers {
        let key = bytes::Bytes::from(format!("load/{run}/{writer:04}/{number:08}"));
        let kept = by_key.get(&key).is_some_and(|kv| kv.mod_revision == *revision && kv.version == 1);
        lost += u64::from(!kept);
    }
    Ok(lost)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let endpoints = arguments.first().context("usage: load ENDPOINT,... WRITERS SECONDS [VALUE_BYTES]")?;
    let endpoints: Vec<String> = endpoints.split(',').map(str::to_owned).collect();
    let writers: usize = arguments.get(1).context("WRITERS")?.parse()?;
    let seconds: u64 = arguments.get(2).context("SECONDS")?.parse()?;
    let bytes: usize = arguments.get(3).map_or(Ok(256), |bytes| bytes.parse())?;
    let tls = match std::env::var("TLS_DIR") {
        Ok(folder) => {
            let read = |name: &str| std::fs::read(std::path::Path::new(&folder).join(name));
            let config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read("ca.pem")?));
            Some(config.identity(Identity::from_pem(read("cert.pem")?, read("key.pem")?)))
        }
        Err(_) => None,
    };
    let target = Target { run: format!("{:08x}", rand::random::<u32>()), endpoints, tls };
    let begin = Instant::now();
    let until = begin + Duration::from_secs(seconds);
    let value = bytes::Bytes::from(vec![b'x'; bytes]);
    let done = Arc::new(AtomicU64::new(0));
    let running = (0..writers)
        .map(|writer| tokio::spawn(write(target.clone(), writer, until, value.clone(), done.clone())))
        .collect::<Vec<_>>();
    let mut all = Vec::new();
    for writer in running {
        all.push(writer.await?);
    }
    let elapsed = begin.elapsed().as_secs_f64();
    let mut times: Vec<Duration> = all.iter().flat_map(|one| one.answers.iter().map(|answer| answer.3)).collect();
    times.sort_unstable();
    let mut moments: Vec<Instant> = all.iter().flat_map(|one| one.answers.iter().map(|answer| answer.2)).collect();
    moments.sort_unstable();
    let gap = moments.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
    let at = |part: f64| times.get((times.len() as f64 * part) as usize).copied().unwrap_or_default();
    let unanswered: u64 = all.iter().map(|one| one.unanswered).sum();
    println!(
        "{} puts in {elapsed:.1} s: {:.0}/s, p50 {:?}, p99 {:?}, longest gap {gap:?}, unanswered {unanswered}",
        times.len(),
        times.len() as f64 / elapsed,
        at(0.5),
        at(0.99),
    );
    let mut lost = 0;
    for (writer, written) in all.iter().enumerate() {
        lost += check(&target, writer, written).await?;
    }
    println!("{lost} acknowledged puts are lost");
    anyhow::ensure!(lost == 0, "acknowledged puts are lost");
    Ok(())
}
