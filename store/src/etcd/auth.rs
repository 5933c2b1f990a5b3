//! Auth: users, roles, permissions, and the tokens that stand for them.

use std::time::{SystemTime, UNIX_EPOCH};

use kontiki_proto::etcdserverpb as pb;
use kontiki_proto::kontiki::store::v1 as wire_pb;
use tonic::{Request, Response, Status};
use wire_pb::auth_change::Change;

use super::Services;
use crate::auth::{Auth, Caller};
use crate::error::Error;

#[tonic::async_trait]
impl pb::auth_server::Auth for Services {
    async fn auth_enable(&self, request: Request<pb::AuthEnableRequest>) -> Result<Response<pb::AuthEnableResponse>, Status> {
        let header = self.change(request, Change::Enable).await?;
        Ok(Response::new(pb::AuthEnableResponse { header }))
    }

    async fn auth_disable(&self, request: Request<pb::AuthDisableRequest>) -> Result<Response<pb::AuthDisableResponse>, Status> {
        let header = self.change(request, Change::Disable).await?;
        Ok(Response::new(pb::AuthDisableResponse { header }))
    }

    async fn user_delete(
        &self,
        request: Request<pb::AuthUserDeleteRequest>,
    ) -> Result<Response<pb::AuthUserDeleteResponse>, Status> {
        let header = self.change(request, Change::UserDelete).await?;
        Ok(Response::new(pb::AuthUserDeleteResponse { header }))
    }

    async fn user_grant_role(
        &self,
        request: Request<pb::AuthUserGrantRoleRequest>,
    ) -> Result<Response<pb::AuthUserGrantRoleResponse>, Status> {
        let header = self.change(request, Change::UserGrantRole).await?;
        Ok(Response::new(pb::AuthUserGrantRoleResponse { header }))
    }

    async fn user_revoke_role(
        &self,
        request: Request<pb::AuthUserRevokeRoleRequest>,
    ) -> Result<Response<pb::AuthUserRevokeRoleResponse>, Status> {
        let header = self.change(request, Change::UserRevokeRole).await?;
        Ok(Response::new(pb::AuthUserRevokeRoleResponse { header }))
    }

    async fn role_add(&self, request: Request<pb::AuthRoleAddRequest>) -> Result<Response<pb::AuthRoleAddResponse>, Status> {
        let header = self.change(request, Change::RoleAdd).await?;
        Ok(Response::new(pb::AuthRoleAddResponse { header }))
    }

    async fn role_delete(
        &self,
        request: Request<pb::AuthRoleDeleteRequest>,
    ) -> Result<Response<pb::AuthRoleDeleteResponse>, Status> {
        let header = self.change(request, Change::RoleDelete).await?;
        Ok(Response::new(pb::AuthRoleDeleteResponse { header }))
    }

    async fn role_grant_permission(
        &self,
        request: Request<pb::AuthRoleGrantPermissionRequest>,
    ) -> Result<Response<pb::AuthRoleGrantPermissionResponse>, Status> {
        let header = self.change(request, Change::RoleGrant).await?;
        Ok(Response::new(pb::AuthRoleGrantPermissionResponse { header }))
    }

    async fn role_revoke_permission(
        &self,
        request: Request<pb::AuthRoleRevokePermissionRequest>,
    ) -> Result<Response<pb::AuthRoleRevokePermissionResponse>, Status> {
        let header = self.change(request, Change::RoleRevoke).await?;
        Ok(Response::new(pb::AuthRoleRevokePermissionResponse { header }))
    }

    async fn auth_status(&self, _request: Request<pb::AuthStatusRequest>) -> Result<Response<pb::AuthStatusResponse>, Status> {
        let auth = self.auth();
        Ok(Response::new(pb::AuthStatusResponse { header: self.header(), enabled: auth.enabled, auth_revision: auth.revision }))
    }

    async fn authenticate(
        &self,
        request: Request<pb::AuthenticateRequest>,
    ) -> Result<Response<pb::AuthenticateResponse>, Status> {
        let request = request.into_inner();
        let auth = self.auth();
        let hash = auth.password_of(&request.name)?.to_owned();
        let password = request.password;
        let right = blocking(move || bcrypt::verify(password, &hash)).await?;
        if !right.unwrap_or(false) {
            return Err(Error::AuthFailed.into());
        }
        let state = &self.handle.core.state;
        let index = *state.applied_index().borrow();
        let token = state.tokens().make(&request.name, auth.revision, index, unix_seconds())?;
        if state.tokens().are_remembered() {
            // Every member must know it before the client shows it to one.
            let change = wire_pb::AuthToken { user: request.name, token: token.clone() };
            self.handle.on_behalf_of(Caller::Trusted).auth_change(Change::Token(change)).await?;
        }
        Ok(Response::new(pb::AuthenticateResponse { header: self.header(), token }))
    }

    async fn user_add(&self, request: Request<pb::AuthUserAddRequest>) -> Result<Response<pb::AuthUserAddResponse>, Status> {
        let handle = self.of(&request)?;
        let mut request = request.into_inner();
        let without = request.options.is_some_and(|options| options.no_password);
        request.hashed_password = self.hash(&mut request.password, request.hashed_password, without).await?;
        let header = handle.auth_change(Change::UserAdd(request)).await?;
        Ok(Response::new(pb::AuthUserAddResponse { header: Some(header) }))
    }

    async fn user_change_password(
        &self,
        request: Request<pb::AuthUserChangePasswordRequest>,
    ) -> Result<Response<pb::AuthUserChangePasswordResponse>, Status> {
        let handle = self.of(&request)?;
        let mut request = request.into_inner();
        request.hashed_password = self.hash(&mut request.password, request.hashed_password, false).await?;
        let header = handle.auth_change(Change::UserChangePassword(request)).await?;
        Ok(Response::new(pb::AuthUserChangePasswordResponse { header: Some(header) }))
    }

    async fn user_get(&self, request: Request<pb::AuthUserGetRequest>) -> Result<Response<pb::AuthUserGetResponse>, Status> {
        let caller = self.caller(&request)?;
        let (auth, name) = (self.auth(), request.into_inner().name);
        // Everyone may look at oneself.
        let own = matches!(&caller, Caller::User { name: caller, .. } if **caller == *name);
        if !own {
            auth.admin(&caller)?;
        }
        let user = auth.users.get(&name).ok_or(Error::UserNotFound)?;
        Ok(Response::new(pb::AuthUserGetResponse { header: self.header(), roles: user.roles.iter().cloned().collect() }))
    }

    async fn user_list(&self, request: Request<pb::AuthUserListRequest>) -> Result<Response<pb::AuthUserListResponse>, Status> {
        self.of(&request)?.admin()?;
        let users = self.auth().users.keys().cloned().collect();
        Ok(Response::new(pb::AuthUserListResponse { header: self.header(), users }))
    }

    async fn role_get(&self, request: Request<pb::AuthRoleGetRequest>) -> Result<Response<pb::AuthRoleGetResponse>, Status> {
        let caller = self.caller(&request)?;
        let (auth, role) = (self.auth(), request.into_inner().role);
        let has = auth.user(&caller)?.is_some_and(|user| user.roles.contains(&role));
        if !has {
            auth.admin(&caller)?;
        }
        let permissions = auth.roles.get(&role).cloned();
        let perm = permissions.ok_or(Error::RoleNotFound)?;
        Ok(Response::new(pb::AuthRoleGetResponse { header: self.header(), perm }))
    }

    async fn role_list(&self, request: Request<pb::AuthRoleListRequest>) -> Result<Response<pb::AuthRoleListResponse>, Status> {
        self.of(&request)?.admin()?;
        let roles = self.auth().roles.keys().cloned().collect();
        Ok(Response::new(pb::AuthRoleListResponse { header: self.header(), roles }))
    }
}

impl Services {
    /// Makes one change on behalf of whoever asks for it.
    async fn change<T>(
        &self,
        request: Request<T>,
        change: impl FnOnce(T) -> Change,
    ) -> Result<Option<pb::ResponseHeader>, Status> {
        let handle = self.of(&request)?;
        Ok(Some(handle.auth_change(change(request.into_inner())).await?))
    }

    fn auth(&self) -> std::sync::Arc<Auth> {
        self.handle.core.state.auth()
    }

    /// The hash of a password, which is taken out of the request.
    async fn hash(&self, password: &mut String, hashed: String, without: bool) -> Result<String, Status> {
        let password = std::mem::take(password);
        if !hashed.is_empty() || without {
            return Ok(hashed);
        }
        let cost = self.handle.core.options.bcrypt_cost;
        let hash = blocking(move || bcrypt::hash(password, cost)).await?;
        Ok(hash.map_err(|error| Error::Internal(error.to_string()))?)
    }
}

/// bcrypt is slow on purpose.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
    Ok(tokio::task::spawn_blocking(work).await.map_err(|_| Error::Stopped)?)
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs())
}
