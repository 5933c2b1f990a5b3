//! Maintenance: status, alarms, defragmentation, hashes, snapshots, leadership.

use std::pin::Pin;

use futures::Stream;
use kontiki_proto::etcdserverpb as pb;
use pb::downgrade_request::DowngradeAction;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::Services;
use crate::error::Error;
use crate::kv::Kv;

#[tonic::async_trait]
impl pb::maintenance_server::Maintenance for Services {
    async fn alarm(&self, request: Request<pb::AlarmRequest>) -> Result<Response<pb::AlarmResponse>, Status> {
        let alarms = self.of(&request)?.alarm(request.into_inner()).await?;
        Ok(Response::new(pb::AlarmResponse { header: self.header(), alarms }))
    }

    async fn status(&self, request: Request<pb::StatusRequest>) -> Result<Response<pb::StatusResponse>, Status> {
        self.handle.core.state.auth().user(&self.caller(&request)?)?;
        Ok(Response::new(self.handle.status().await?))
    }

    async fn defragment(&self, request: Request<pb::DefragmentRequest>) -> Result<Response<pb::DefragmentResponse>, Status> {
        self.of(&request)?.defragment().await?;
        tracing::info!("finished defragmenting directory");
        Ok(Response::new(pb::DefragmentResponse { header: self.header() }))
    }

    /// etcd hashes its file; here it is what can be read at the last revision.
    async fn hash(&self, request: Request<pb::HashRequest>) -> Result<Response<pb::HashResponse>, Status> {
        let hashed = self.of(&request)?.hash_kv(0).await?;
        Ok(Response::new(pb::HashResponse { header: hashed.header, hash: hashed.hash }))
    }

    async fn hash_kv(&self, request: Request<pb::HashKvRequest>) -> Result<Response<pb::HashKvResponse>, Status> {
        Ok(Response::new(self.of(&request)?.hash_kv(request.into_inner().revision).await?))
    }

    type SnapshotStream = Pin<Box<dyn Stream<Item = Result<pb::SnapshotResponse, Status>> + Send>>;

    async fn snapshot(&self, request: Request<pb::SnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        let handle = self.of(&request)?;
        handle.admin()?;
        let (state, header) = (handle.core.state.clone(), self.header());
        let parts = crate::backup::send(state, header);
        Ok(Response::new(Box::pin(ReceiverStream::new(parts))))
    }

    async fn move_leader(&self, request: Request<pb::MoveLeaderRequest>) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        self.of(&request)?.move_leader(request.into_inner().target_id).await?;
        Ok(Response::new(pb::MoveLeaderResponse { header: self.header() }))
    }

    /// There is no older version of this store to which a cluster could go back.
    async fn downgrade(&self, request: Request<pb::DowngradeRequest>) -> Result<Response<pb::DowngradeResponse>, Status> {
        self.of(&request)?.admin()?;
        let request = request.into_inner();
        let refused = match request.action() {
            DowngradeAction::Cancel => Error::NoInflightDowngrade,
            DowngradeAction::Validate | DowngradeAction::Enable if is_version(&request.version) => {
                Error::InvalidDowngradeTargetVersion
            }
            DowngradeAction::Validate | DowngradeAction::Enable => Error::WrongDowngradeVersionFormat,
        };
        Err(refused.into())
    }
}

impl Services {
    #[allow(clippy::unnecessary_wraps)]
    pub(super) fn header(&self) -> Option<pb::ResponseHeader> {
        Some(self.handle.header(self.handle.revision()))
    }
}

/// MAJOR.MINOR, and perhaps a patch.
fn is_version(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    (2..=3).contains(&parts.len()) && parts.iter().all(|part| part.parse::<u32>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers_with_dots() {
        for (text, expected) in [("3.5", true), ("3.5.0", true), ("3", false), ("x.y", false), ("", false)] {
            assert_eq!(is_version(text), expected, "{text}");
        }
    }
}
