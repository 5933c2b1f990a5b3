//! Reads, ranges, transactions, the filling of a store, and the wait for its first answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use kontiki_proto::etcdserverpb as pb;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::request_op::Request;
use tonic::Status;

use crate::measure::{self, Act, Plan, Report};
use crate::target::{Link, Target, timed};

/// Puts in one transaction while keys are made; etcd takes up to 128.
const BATCH: usize = 100;

fn operation(request: Request) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

fn put(key: Bytes, value: Bytes) -> pb::RequestOp {
    operation(Request::RequestPut(pb::PutRequest { key, value, ..Default::default() }))
}

fn key(target: &Target, number: usize) -> Bytes {
    format!("{}/key/{number:08}", target.run).into()
}

/// Makes the keys that reads meet.
async fn make_keys(target: &Arc<Target>, keys: usize) -> anyhow::Result<()> {
    let mut link = Link::new(target, 0);
    for begin in (0..keys).step_by(BATCH) {
        let numbers = begin..keys.min(begin + BATCH);
        let success = numbers.map(|number| put(key(target, number), target.value(number))).collect();
        link.kv.txn(timed(pb::TxnRequest { success, ..Default::default() })).await.context("make the keys")?;
    }
    Ok(())
}

struct Reader {
    link: Link,
    /// Every answer has so many keys: one that is chosen by lot, or all.
    expected: usize,
    keys: usize,
}

impl Act for Reader {
    async fn act(&mut self) -> Result<(), Status> {
        let target = self.link.target();
        let (key, range_end) = match self.expected {
            1 => (key(target, rand::random::<u32>() as usize % self.keys), Bytes::new()),
            _ => (key(target, 0), key(target, self.keys)),
        };
        let answer = self.link.kv.range(timed(pb::RangeRequest { key, range_end, ..Default::default() })).await?;
        let found = answer.into_inner().kvs.len();
        if found == self.expected { Ok(()) } else { Err(Status::data_loss(format!("{found} keys of {}", self.expected))) }
    }

    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
}

async fn readers(target: &Arc<Target>, clients: usize, plan: Plan, keys: usize, expected: usize) -> anyhow::Result<Report> {
    anyhow::ensure!(keys > 0, "no keys to read");
    make_keys(target, keys).await?;
    let reader = |number| Reader { link: Link::new(target, number), expected, keys };
    measure::run(plan, (0..clients).map(reader).collect()).await?.0.all_answered()
}

pub async fn read(target: &Arc<Target>, clients: usize, plan: Plan, keys: usize) -> anyhow::Result<()> {
    readers(target, clients, plan, keys, 1).await?.print("reads");
    Ok(())
}

pub async fn range(target: &Arc<Target>, clients: usize, plan: Plan, keys: usize) -> anyhow::Result<()> {
    readers(target, clients, plan, keys, keys).await?.print("ranges");
    Ok(())
}

/// The way in which Kubernetes writes.
struct Changer {
    link: Link,
    key: Bytes,
    revision: i64,
    changes: usize,
}

impl Act for Changer {
    async fn act(&mut self) -> Result<(), Status> {
        let (key, value) = (self.key.clone(), self.link.target().value(self.changes));
        let unchanged = pb::Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Mod.into(),
            key: key.clone(),
            target_union: Some(TargetUnion::ModRevision(self.revision)),
            ..Default::default()
        };
        let get = operation(Request::RequestRange(pb::RangeRequest { key: key.clone(), ..Default::default() }));
        let request = pb::TxnRequest { compare: vec![unchanged], success: vec![put(key, value)], failure: vec![get] };
        let answer = self.link.kv.txn(timed(request)).await?.into_inner();
        if !answer.succeeded {
            return Err(Status::aborted("somebody else changed this client's key"));
        }
        self.revision = answer.header.map_or(0, |header| header.revision);
        self.changes += 1;
        Ok(())
    }

    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
}

pub async fn transactions(target: &Arc<Target>, clients: usize, plan: Plan) -> anyhow::Result<()> {
    let changer = |number| Changer { link: Link::new(target, number), key: key(target, number), revision: 0, changes: 0 };
    measure::run(plan, (0..clients).map(changer).collect()).await?.0.all_answered()?.print("transactions");
    Ok(())
}

struct Filler {
    link: Link,
    next: Arc<AtomicUsize>,
    keys: usize,
    /// The number that is being put, until it is acknowledged.
    own: Option<usize>,
}

impl Act for Filler {
    async fn act(&mut self) -> Result<(), Status> {
        let number = *self.own.get_or_insert_with(|| self.next.fetch_add(1, Ordering::Relaxed));
        let value = self.link.target().value(number);
        let request = pb::PutRequest { key: format!("load/fill/{number:08}").into(), value, ..Default::default() };
        self.link.kv.put(timed(request)).await?;
        self.own = None;
        Ok(())
    }

    fn more(&self) -> bool {
        self.own.is_some() || self.next.load(Ordering::Relaxed) < self.keys
    }

    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
}

/// As fast as possible. Some writers may come a key too far, which nobody minds.
pub async fn fill(target: &Arc<Target>, clients: usize, plan: Plan, keys: usize) -> anyhow::Result<()> {
    let next = Arc::new(AtomicUsize::new(0));
    let filler = |number| Filler { link: Link::new(target, number), next: next.clone(), keys, own: None };
    let (report, clients) = measure::run(plan, (0..clients).map(filler).collect()).await?;
    report.print("fills");
    anyhow::ensure!(!clients.iter().any(Act::more), "there was no time for all {keys} keys");
    Ok(())
}

/// How long it takes until every client's own endpoint has answered a linearizable read.
pub async fn wait(target: &Arc<Target>, clients: usize, plan: Plan) -> anyhow::Result<()> {
    let begin = Instant::now();
    let mut answers = Vec::new();
    for number in 0..clients {
        while let Err(refusal) = Link::new(target, number).kv.range(timed(first_read())).await {
            anyhow::ensure!(begin.elapsed() < plan.counted, "no answer: {refusal}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        answers.push((Instant::now(), begin.elapsed()));
    }
    Report::of(answers, begin.elapsed()).print("first answers");
    Ok(())
}

fn first_read() -> pb::RangeRequest {
    pb::RangeRequest { key: "load/fill/00000000".into(), ..Default::default() }
}
