//! KV: reads, writes, transactions, compaction.

use kontiki_proto::etcdserverpb as pb;
use tonic::{Request, Response, Status};

use super::Services;
use crate::kv::Kv;

#[tonic::async_trait]
impl pb::kv_server::Kv for Services {
    async fn range(&self, request: Request<pb::RangeRequest>) -> Result<Response<pb::RangeResponse>, Status> {
        Ok(Response::new(self.handle.range(request.into_inner()).await?))
    }

    async fn put(&self, request: Request<pb::PutRequest>) -> Result<Response<pb::PutResponse>, Status> {
        Ok(Response::new(self.handle.put(request.into_inner()).await?))
    }

    async fn delete_range(&self, request: Request<pb::DeleteRangeRequest>) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        Ok(Response::new(self.handle.delete_range(request.into_inner()).await?))
    }

    async fn txn(&self, request: Request<pb::TxnRequest>) -> Result<Response<pb::TxnResponse>, Status> {
        Ok(Response::new(self.handle.txn(request.into_inner()).await?))
    }

    async fn compact(&self, request: Request<pb::CompactionRequest>) -> Result<Response<pb::CompactionResponse>, Status> {
        Ok(Response::new(self.handle.compact(request.into_inner()).await?))
    }
}
