//! Cluster: who the members are, and how that changes.

use std::time::{SystemTime, UNIX_EPOCH};

use kontiki_proto::etcdserverpb as pb;
use kontiki_proto::kontiki::store::v1 as wire_pb;
use tonic::{Request, Response, Status};
use wire_pb::change_membership_request::Change;

use super::Services;
use crate::kv::Kv;
use crate::service::{Handle, members};

/// The header and the members after a change.
fn after(handle: &Handle) -> (Option<pb::ResponseHeader>, Vec<pb::Member>) {
    (Some(handle.header(handle.revision())), handle.members())
}

#[tonic::async_trait]
impl pb::cluster_server::Cluster for Services {
    async fn member_list(&self, request: Request<pb::MemberListRequest>) -> Result<Response<pb::MemberListResponse>, Status> {
        let caller = self.caller(&request)?;
        self.handle.core.state.auth().user(&caller)?;
        if request.into_inner().linearizable {
            self.handle.read_index().await?;
        }
        Ok(Response::new(self.handle.member_list().await?))
    }

    async fn member_add(&self, request: Request<pb::MemberAddRequest>) -> Result<Response<pb::MemberAddResponse>, Status> {
        let handle = self.of(&request)?;
        let request = request.into_inner();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos());
        let member = handle.member_add(request.peer_ur_ls, request.is_learner, now).await?;
        let (header, members) = after(&handle);
        tracing::info!(id = format!("{:x}", member.id), learner = member.is_learner, "added member");
        Ok(Response::new(pb::MemberAddResponse { header, member: Some(member), members }))
    }

    async fn member_remove(
        &self,
        request: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        let handle = self.of(&request)?;
        let id = request.into_inner().id;
        handle.member_change(Change::Remove(id)).await?;
        let (header, members) = after(&handle);
        tracing::info!(id = format!("{id:x}"), "removed member");
        Ok(Response::new(pb::MemberRemoveResponse { header, members }))
    }

    async fn member_update(
        &self,
        request: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        let handle = self.of(&request)?;
        let request = request.into_inner();
        members::check_urls(&request.peer_ur_ls).map_err(Status::from)?;
        let member = wire_pb::Member { id: request.id, peer_urls: request.peer_ur_ls, ..Default::default() };
        handle.member_change(Change::Update(member)).await?;
        let (header, members) = after(&handle);
        Ok(Response::new(pb::MemberUpdateResponse { header, members }))
    }

    async fn member_promote(
        &self,
        request: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        let handle = self.of(&request)?;
        handle.member_change(Change::Promote(request.into_inner().id)).await?;
        let (header, members) = after(&handle);
        Ok(Response::new(pb::MemberPromoteResponse { header, members }))
    }
}
