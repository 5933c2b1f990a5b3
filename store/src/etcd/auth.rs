//! Auth: identities are client certificates, so etcd's users and roles are always off.

use kontiki_proto::etcdserverpb as pb;
use tonic::{Request, Response, Status};

use super::Services;
use crate::error::Error;

#[tonic::async_trait]
impl pb::auth_server::Auth for Services {
    async fn auth_enable(&self, _request: Request<pb::AuthEnableRequest>) -> Result<Response<pb::AuthEnableResponse>, Status> {
        Err(Status::unimplemented("kontiki: clients are known by their certificates"))
    }

    async fn auth_disable(&self, _request: Request<pb::AuthDisableRequest>) -> Result<Response<pb::AuthDisableResponse>, Status> {
        let header = Some(self.handle.header(self.handle.revision()));
        Ok(Response::new(pb::AuthDisableResponse { header }))
    }

    async fn auth_status(&self, _request: Request<pb::AuthStatusRequest>) -> Result<Response<pb::AuthStatusResponse>, Status> {
        let header = Some(self.handle.header(self.handle.revision()));
        Ok(Response::new(pb::AuthStatusResponse { header, enabled: false, auth_revision: 1 }))
    }

    async fn authenticate(
        &self,
        _request: Request<pb::AuthenticateRequest>,
    ) -> Result<Response<pb::AuthenticateResponse>, Status> {
        Err(Error::AuthNotEnabled.into())
    }
}
