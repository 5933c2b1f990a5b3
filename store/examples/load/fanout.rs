//! Watchers of one prefix on few connections, puts past them, and when each watcher saw each put.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use kontiki_proto::etcdserverpb as pb;
use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::measure::Report;
use crate::target::{Link, Target, timed};

/// One stream each.
const CONNECTIONS: usize = 10;
const PUTS: usize = 200;
/// Puts of which every watcher hears before the count begins.
const BEFORE: usize = 20;
/// How long watches may take to begin, or events to reach every watcher.
const DEADLINE: Duration = Duration::from_secs(60);
/// A value begins with the time of its put in so many bytes.
const STAMP_BYTES: usize = 8;

/// Time since the run began, which goes through the store and back into this process.
#[derive(Clone, Copy)]
struct Clock(Instant);

impl Clock {
    fn stamp(self, value: &Bytes) -> Bytes {
        let now = u64::try_from(self.0.elapsed().as_nanos()).unwrap_or_default();
        [&now.to_be_bytes()[..], value].concat().into()
    }

    fn since(self, value: &[u8]) -> anyhow::Result<Duration> {
        let stamp = value.first_chunk::<STAMP_BYTES>().context("an event without its time")?;
        Ok(self.0.elapsed().saturating_sub(Duration::from_nanos(u64::from_be_bytes(*stamp))))
    }
}

/// What one connection's watchers saw, and how many events of the warm-up all connections have seen.
struct Stream {
    answers: tonic::Streaming<pb::WatchResponse>,
    /// Kept, for a stream of watches ends with its requests.
    _requests: mpsc::Sender<pb::WatchRequest>,
    watchers: usize,
    clock: Clock,
    warm: Arc<AtomicUsize>,
}

impl Stream {
    async fn open(target: &Target, number: usize, watchers: usize, clock: Clock, warm: Arc<AtomicUsize>) -> anyhow::Result<Self> {
        let (requests, stream) = mpsc::channel(watchers.max(1));
        let prefix = format!("{}/fanout", target.run);
        for _ in 0..watchers {
            let (key, range_end) = (format!("{prefix}/").into(), format!("{prefix}0").into());
            let create = RequestUnion::CreateRequest(pb::WatchCreateRequest { key, range_end, ..Default::default() });
            requests.send(pb::WatchRequest { request_union: Some(create) }).await?;
        }
        let mut client = WatchClient::new(target.connect(number)).max_decoding_message_size(1 << 30);
        let mut answers = client.watch(ReceiverStream::new(stream)).await?.into_inner();
        for _ in 0..watchers {
            let answer = answers.message().await?.context("a stream ended")?;
            anyhow::ensure!(answer.created && !answer.canceled, "no watch: {}", answer.cancel_reason);
        }
        Ok(Self { answers, _requests: requests, watchers, clock, warm })
    }

    /// Until every watcher has seen every put.
    async fn follow(mut self) -> anyhow::Result<Vec<(Instant, Duration)>> {
        let mut seen = Vec::with_capacity(PUTS * self.watchers);
        let mut before = self.watchers * BEFORE;
        while seen.len() < PUTS * self.watchers {
            let answer = self.answers.message().await?.context("a stream ended")?;
            anyhow::ensure!(!answer.canceled, "a watch ended: {}", answer.cancel_reason);
            for event in answer.events {
                if before > 0 {
                    before -= 1;
                    self.warm.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                let value = event.kv.context("an event without a key")?.value;
                seen.push((Instant::now(), self.clock.since(&value)?));
            }
        }
        Ok(seen)
    }
}

async fn put(link: &mut Link, clock: Clock, number: usize) -> anyhow::Result<()> {
    let key = format!("{}/fanout/{number:08}", link.target().run).into();
    let value = clock.stamp(&link.target().value(number));
    link.kv.put(timed(pb::PutRequest { key, value, ..Default::default() })).await?;
    Ok(())
}

pub async fn run(target: &Arc<Target>, watchers: usize) -> anyhow::Result<()> {
    let clock = Clock(Instant::now());
    let warm = Arc::new(AtomicUsize::new(0));
    let mut streams = Vec::new();
    for number in 0..CONNECTIONS {
        let share = watchers / CONNECTIONS + usize::from(number < watchers % CONNECTIONS);
        let opening = Stream::open(target, number, share, clock, warm.clone());
        streams.push(tokio::time::timeout(DEADLINE, opening).await.context("watches do not begin")??);
    }
    let following: Vec<_> = streams.into_iter().map(|stream| tokio::spawn(stream.follow())).collect();
    let mut link = Link::new(target, 0);
    for number in 0..BEFORE {
        put(&mut link, clock, number).await?;
    }
    let begin = Instant::now();
    while warm.load(Ordering::Relaxed) < BEFORE * watchers {
        anyhow::ensure!(begin.elapsed() < DEADLINE, "events do not reach the watchers");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let begin = Instant::now();
    for number in BEFORE..BEFORE + PUTS {
        put(&mut link, clock, number).await?;
    }
    let mut seen = Vec::new();
    for stream in following {
        seen.extend(tokio::time::timeout(DEADLINE, stream).await.context("events do not reach the watchers")???);
    }
    Report::of(seen, begin.elapsed()).print("events");
    Ok(())
}
