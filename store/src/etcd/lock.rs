//! Lock: held by the first in the queue of a name.

use kontiki_proto::etcdserverpb as pb;
use kontiki_proto::v3lockpb::lock_server::Lock;
use kontiki_proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use tonic::{Request, Response, Status};

use super::Services;
use super::queue::{self, Waiting};
use crate::kv::Kv;

#[tonic::async_trait]
impl Lock for Services {
    async fn lock(&self, request: Request<LockRequest>) -> Result<Response<LockResponse>, Status> {
        let store = self.of(&request)?;
        let LockRequest { name, lease } = request.into_inner();
        let lease = queue::lease(&store, lease).await?;
        let (place, _, _) = queue::take(&store, &name, lease, bytes::Bytes::new()).await?;
        let waiting = Waiting::new(&store, &place);
        queue::wait(&store, &name, &place).await?;
        // The lease may have ended meanwhile, and the place with it.
        let held = store.range(pb::RangeRequest { key: place.key.clone(), ..Default::default() }).await?;
        if held.kvs.is_empty() {
            return Err(Status::unknown("mutex: session is expired"));
        }
        waiting.arrived();
        Ok(Response::new(LockResponse { header: held.header, key: place.key }))
    }

    async fn unlock(&self, request: Request<UnlockRequest>) -> Result<Response<UnlockResponse>, Status> {
        let store = self.of(&request)?;
        let key = request.into_inner().key;
        let deleted = store.delete_range(pb::DeleteRangeRequest { key, ..Default::default() }).await?;
        Ok(Response::new(UnlockResponse { header: deleted.header }))
    }
}
