//! Cluster: who the members are. They are fixed when the cluster begins.

use kontiki_proto::etcdserverpb as pb;
use tonic::{Request, Response, Status};

use super::Services;
use crate::kv::Kv;

fn fixed() -> Status {
    Status::unimplemented("kontiki: the members of this cluster are fixed")
}

#[tonic::async_trait]
impl pb::cluster_server::Cluster for Services {
    async fn member_list(&self, request: Request<pb::MemberListRequest>) -> Result<Response<pb::MemberListResponse>, Status> {
        if request.into_inner().linearizable {
            self.handle.read_index().await?;
        }
        Ok(Response::new(self.handle.member_list().await?))
    }

    async fn member_add(&self, _request: Request<pb::MemberAddRequest>) -> Result<Response<pb::MemberAddResponse>, Status> {
        Err(fixed())
    }

    async fn member_remove(
        &self,
        _request: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        Err(fixed())
    }

    async fn member_update(
        &self,
        _request: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        Err(fixed())
    }

    async fn member_promote(
        &self,
        _request: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        Err(fixed())
    }
}
