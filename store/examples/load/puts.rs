//! Puts of numbered keys, and a check that nothing acknowledged is lost.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use kontiki_proto::etcdserverpb as pb;
use tonic::Status;

use crate::measure::{self, Act, Plan};
use crate::target::{Link, Target, timed};

struct Writer {
    link: Link,
    /// Keys of this writer begin with it.
    prefix: String,
    next: u64,
    /// Number and revision of what was acknowledged.
    acknowledged: Vec<(u64, i64)>,
}

impl Act for Writer {
    async fn act(&mut self) -> Result<(), Status> {
        let number = self.next;
        self.next += 1;
        let value = self.link.target().value(number as usize);
        let request = pb::PutRequest { key: key(&self.prefix, number), value, ..Default::default() };
        let answer = self.link.kv.put(timed(request)).await?;
        self.acknowledged.push((number, answer.into_inner().header.map_or(0, |header| header.revision)));
        Ok(())
    }

    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
}

fn key(prefix: &str, number: u64) -> bytes::Bytes {
    format!("{prefix}{number:08}").into()
}

pub async fn run(target: &Arc<Target>, writers: usize, plan: Plan) -> anyhow::Result<()> {
    let writer = |number| Writer {
        link: Link::new(target, number),
        prefix: format!("{}/{number:04}/", target.run),
        next: 0,
        acknowledged: Vec::new(),
    };
    let (report, writers) = measure::run(plan, (0..writers).map(writer).collect()).await?;
    report.print("puts");
    let mut lost = 0;
    for writer in writers {
        lost += check(writer).await?;
    }
    println!("{lost} acknowledged puts are lost");
    anyhow::ensure!(lost == 0, "acknowledged puts are lost");
    Ok(())
}

async fn check(mut writer: Writer) -> anyhow::Result<usize> {
    let mut found = None;
    for _ in 0..20 {
        let key = writer.prefix.clone().into();
        // "0" comes after "/", with which a prefix ends.
        let range_end = format!("{}0", writer.prefix.trim_end_matches('/')).into();
        let request = pb::RangeRequest { key, range_end, keys_only: true, ..Default::default() };
        if let Ok(answer) = writer.link.kv.range(request).await {
            found = Some(answer.into_inner().kvs);
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        writer.link.next();
    }
    let kvs = found.context("no endpoint answers a read")?;
    let by_key: HashMap<_, _> = kvs.iter().map(|kv| (kv.key.clone(), kv)).collect();
    let kept = |(number, revision): &(u64, i64)| {
        by_key.get(&key(&writer.prefix, *number)).is_some_and(|kv| kv.mod_revision == *revision && kv.version == 1)
    };
    Ok(writer.acknowledged.iter().filter(|put| !kept(put)).count())
}
