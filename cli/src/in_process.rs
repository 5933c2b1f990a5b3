//! The way from components of this process to the API server beside them: no TLS, no encoding, but the same
//! identity, authorization and admission as over the network.

use async_trait::async_trait;
use bytes::Bytes;
use kontiki_apiserver::{auth::UserInfo, service::Handle};
use kontiki_client::{
    Client, Error,
    transport::{ResponseBody, Transport},
};

struct InProcess {
    server: Handle,
    user: UserInfo,
}

#[async_trait]
impl Transport for InProcess {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<ResponseBody>, Error> {
        Ok(self.server.call(self.user.clone(), request).await)
    }
}

/// A client of the API server in this process, as `user`.
pub fn client(server: &Handle, user: &str) -> Client {
    let transport = InProcess { server: server.clone(), user: UserInfo::authenticated(user, Vec::<String>::new()) };
    Client::new(std::sync::Arc::new(transport), user)
}
