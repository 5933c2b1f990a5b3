//! Maintenance: status, defragmentation, leadership.

use std::pin::Pin;

use futures::Stream;
use kontiki_proto::etcdserverpb as pb;
use tonic::{Request, Response, Status};

use super::Services;
use crate::kv::Kv;

#[tonic::async_trait]
impl pb::maintenance_server::Maintenance for Services {
    /// No alarm is ever raised, so there is none to list or to clear.
    async fn alarm(&self, _request: Request<pb::AlarmRequest>) -> Result<Response<pb::AlarmResponse>, Status> {
        let header = Some(self.handle.header(self.handle.revision()));
        Ok(Response::new(pb::AlarmResponse { header, alarms: vec![] }))
    }

    async fn status(&self, _request: Request<pb::StatusRequest>) -> Result<Response<pb::StatusResponse>, Status> {
        Ok(Response::new(self.handle.status().await?))
    }

    async fn defragment(&self, _request: Request<pb::DefragmentRequest>) -> Result<Response<pb::DefragmentResponse>, Status> {
        self.handle.defragment().await?;
        let header = Some(self.handle.header(self.handle.revision()));
        Ok(Response::new(pb::DefragmentResponse { header }))
    }

    async fn hash(&self, _request: Request<pb::HashRequest>) -> Result<Response<pb::HashResponse>, Status> {
        Err(Status::unimplemented("kontiki: use HashKV"))
    }

    async fn hash_kv(&self, request: Request<pb::HashKvRequest>) -> Result<Response<pb::HashKvResponse>, Status> {
        Ok(Response::new(self.handle.hash_kv(request.into_inner().revision).await?))
    }

    type SnapshotStream = Pin<Box<dyn Stream<Item = Result<pb::SnapshotResponse, Status>> + Send>>;

    async fn snapshot(&self, _request: Request<pb::SnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        Err(Status::unimplemented("kontiki: snapshots are not served to clients"))
    }

    async fn move_leader(&self, request: Request<pb::MoveLeaderRequest>) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        self.handle.move_leader(request.into_inner().target_id).await?;
        let header = Some(self.handle.header(self.handle.revision()));
        Ok(Response::new(pb::MoveLeaderResponse { header }))
    }
}
