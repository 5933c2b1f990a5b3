//! KV: reads, writes, transactions, compaction.

use std::pin::Pin;

use futures::Stream;
use kontiki_proto::etcdserverpb as pb;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::Services;
use crate::kv::Kv;

/// Keys in one part of a streamed range.
const PART_KEYS: usize = 1000;
/// Parts that wait for a client.
const PARTS_WAITING_MAX: usize = 4;

#[tonic::async_trait]
impl pb::kv_server::Kv for Services {
    async fn range(&self, request: Request<pb::RangeRequest>) -> Result<Response<pb::RangeResponse>, Status> {
        Ok(Response::new(self.of(&request)?.range(request.into_inner()).await?))
    }

    type RangeStreamStream = Pin<Box<dyn Stream<Item = Result<pb::RangeStreamResponse, Status>> + Send>>;

    /// One range in parts: keys first, and what is said of all of them with the last part.
    async fn range_stream(&self, request: Request<pb::RangeRequest>) -> Result<Response<Self::RangeStreamStream>, Status> {
        let found = self.of(&request)?.range(request.into_inner()).await?;
        let (sender, parts) = mpsc::channel(PARTS_WAITING_MAX);
        tokio::spawn(async move {
            for part in parts_of(found) {
                if sender.send(Ok(part)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(parts))))
    }

    async fn put(&self, request: Request<pb::PutRequest>) -> Result<Response<pb::PutResponse>, Status> {
        Ok(Response::new(self.of(&request)?.put(request.into_inner()).await?))
    }

    async fn delete_range(&self, request: Request<pb::DeleteRangeRequest>) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        Ok(Response::new(self.of(&request)?.delete_range(request.into_inner()).await?))
    }

    async fn txn(&self, request: Request<pb::TxnRequest>) -> Result<Response<pb::TxnResponse>, Status> {
        Ok(Response::new(self.of(&request)?.txn(request.into_inner()).await?))
    }

    async fn compact(&self, request: Request<pb::CompactionRequest>) -> Result<Response<pb::CompactionResponse>, Status> {
        Ok(Response::new(self.of(&request)?.compact(request.into_inner()).await?))
    }
}

fn parts_of(mut found: pb::RangeResponse) -> Vec<pb::RangeStreamResponse> {
    let kvs = std::mem::take(&mut found.kvs);
    let mut parts: Vec<pb::RangeResponse> =
        kvs.chunks(PART_KEYS).map(|kvs| pb::RangeResponse { kvs: kvs.to_vec(), ..Default::default() }).collect();
    match parts.last_mut() {
        Some(last) => found.kvs = std::mem::take(&mut last.kvs),
        None => parts.push(pb::RangeResponse::default()),
    }
    if let Some(last) = parts.last_mut() {
        *last = found;
    }
    parts.into_iter().map(|part| pb::RangeStreamResponse { range_response: Some(part) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_together_are_the_range() {
        let kv = kontiki_proto::mvccpb::KeyValue::default();
        for keys in [0, 1, PART_KEYS, PART_KEYS + 1, 3 * PART_KEYS] {
            let whole = pb::RangeResponse { kvs: vec![kv.clone(); keys], count: 9, more: true, header: Some(Default::default()) };
            let parts: Vec<_> = parts_of(whole).into_iter().filter_map(|part| part.range_response).collect();
            assert_eq!(parts.iter().map(|part| part.kvs.len()).sum::<usize>(), keys);
            assert_eq!(parts.iter().filter(|part| part.count == 9 && part.more && part.header.is_some()).count(), 1);
            assert_eq!(parts.last().map(|part| part.count), Some(9), "the last part says it");
        }
    }
}
