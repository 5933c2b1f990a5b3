//! Lease: grant, revoke, keep alive, time to live.

use std::pin::Pin;

use futures::Stream;
use kontiki_proto::etcdserverpb as pb;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::Services;
use crate::kv::Kv;

/// Answers to keep-alives that wait for a client.
const ANSWERS_MAX: usize = 16;

#[tonic::async_trait]
impl pb::lease_server::Lease for Services {
    async fn lease_grant(&self, request: Request<pb::LeaseGrantRequest>) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        Ok(Response::new(self.of(&request)?.lease_grant(request.into_inner()).await?))
    }

    async fn lease_revoke(&self, request: Request<pb::LeaseRevokeRequest>) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        Ok(Response::new(self.of(&request)?.lease_revoke(request.into_inner()).await?))
    }

    type LeaseKeepAliveStream = Pin<Box<dyn Stream<Item = Result<pb::LeaseKeepAliveResponse, Status>> + Send>>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let leader = super::watch::Leader::of(&request, &self.handle);
        let handle = self.of(&request)?;
        let mut requests = request.into_inner();
        let (sender, answers) = mpsc::channel(ANSWERS_MAX);
        tokio::spawn(async move {
            loop {
                let request = tokio::select! {
                    request = requests.message() => request,
                    error = leader.lost() => {
                        drop(sender.send(Err(error.into())).await);
                        return;
                    }
                };
                let Ok(Some(request)) = request else { return };
                let answer = handle.lease_keep_alive(request.id).await.map_err(Status::from);
                let ended = answer.is_err();
                if sender.send(answer).await.is_err() || ended {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        Ok(Response::new(self.of(&request)?.lease_time_to_live(request.into_inner()).await?))
    }

    async fn lease_leases(&self, request: Request<pb::LeaseLeasesRequest>) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        Ok(Response::new(self.of(&request)?.lease_leases().await?))
    }
}
