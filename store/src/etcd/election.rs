//! Election: the first in the queue of a name leads, and its key holds what it proclaims.

use std::pin::Pin;

use bytes::Bytes;
use futures::Stream;
use kontiki_proto::etcdserverpb as pb;
use kontiki_proto::mvccpb::event::EventType;
use kontiki_proto::v3electionpb as election;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::Services;
use super::queue::{self, Waiting};
use crate::error::Error;
use crate::kv::Kv;
use crate::service::Handle;

/// Proclamations that wait for an observer.
const PROCLAMATIONS_WAITING_MAX: usize = 16;

type Proclamations = mpsc::Sender<Result<election::LeaderResponse, Status>>;

#[tonic::async_trait]
impl election::election_server::Election for Services {
    async fn campaign(
        &self,
        request: Request<election::CampaignRequest>,
    ) -> Result<Response<election::CampaignResponse>, Status> {
        let store = self.of(&request)?;
        let election::CampaignRequest { name, lease, value } = request.into_inner();
        let lease = queue::lease(&store, lease).await?;
        let (place, before, mut header) = queue::take(&store, &name, lease, value.clone()).await?;
        let waiting = Waiting::new(&store, &place);
        if before.is_some_and(|before| before.value != value) {
            header = proclaim(&store, &place.key, place.revision, place.lease, value).await?;
        }
        queue::wait(&store, &name, &place).await?;
        waiting.arrived();
        let leader = election::LeaderKey { name, key: place.key, rev: place.revision, lease };
        Ok(Response::new(election::CampaignResponse { header, leader: Some(leader) }))
    }

    async fn proclaim(
        &self,
        request: Request<election::ProclaimRequest>,
    ) -> Result<Response<election::ProclaimResponse>, Status> {
        let store = self.of(&request)?;
        let election::ProclaimRequest { leader, value } = request.into_inner();
        let leader = given(leader)?;
        let header = proclaim(&store, &leader.key, leader.rev, leader.lease, value).await?;
        Ok(Response::new(election::ProclaimResponse { header }))
    }

    async fn leader(&self, request: Request<election::LeaderRequest>) -> Result<Response<election::LeaderResponse>, Status> {
        let store = self.of(&request)?;
        let (kv, header) = queue::first(&store, &request.into_inner().name).await?;
        let kv = Some(kv.ok_or_else(|| Status::unknown("election: no leader"))?);
        Ok(Response::new(election::LeaderResponse { header, kv }))
    }

    type ObserveStream = Pin<Box<dyn Stream<Item = Result<election::LeaderResponse, Status>> + Send>>;

    async fn observe(&self, request: Request<election::LeaderRequest>) -> Result<Response<Self::ObserveStream>, Status> {
        let store = self.of(&request)?;
        let name = request.into_inner().name;
        let (sender, proclamations) = mpsc::channel(PROCLAMATIONS_WAITING_MAX);
        tokio::spawn(async move {
            let observing = async {
                loop {
                    if let Err(error) = observe(&store, &name, &sender).await {
                        drop(sender.send(Err(error.into())).await);
                        return;
                    }
                }
            };
            tokio::select! {
                () = observing => {}
                () = sender.closed() => {}
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(proclamations))))
    }

    async fn resign(&self, request: Request<election::ResignRequest>) -> Result<Response<election::ResignResponse>, Status> {
        let store = self.of(&request)?;
        let leader = given(request.into_inner().leader)?;
        let header = queue::leave(&store, &leader.key, leader.rev).await?;
        Ok(Response::new(election::ResignResponse { header }))
    }
}

fn given(leader: Option<election::LeaderKey>) -> Result<election::LeaderKey, Status> {
    leader.ok_or_else(|| Status::unknown("\"leader\" field must be provided"))
}

async fn proclaim(
    store: &Handle,
    key: &Bytes,
    revision: i64,
    lease: i64,
    value: Bytes,
) -> Result<Option<pb::ResponseHeader>, Status> {
    let put = pb::PutRequest { key: key.clone(), value, lease, ..Default::default() };
    let (held, header) = queue::while_held(store, key, revision, pb::request_op::Request::RequestPut(put)).await?;
    if held { Ok(header) } else { Err(Status::unknown("election: not leader")) }
}

/// Tells what one leader proclaims, until it leads no more.
async fn observe(store: &Handle, name: &[u8], observer: &Proclamations) -> Result<(), Error> {
    let (leader, header) = queue::first(store, name).await?;
    let now = header.as_ref().map_or(0, |header| header.revision);
    let Some(leader) = leader else { return queue::filled(store, name, now + 1).await };
    let key = leader.key.clone();
    tell(observer, header, leader).await?;
    let request = pb::WatchCreateRequest { key, start_revision: now + 1, ..Default::default() };
    let mut events = store.watch(request).await?;
    loop {
        let response = events.recv().await.ok_or(Error::Stopped)?;
        if response.canceled {
            return Ok(());
        }
        for event in response.events {
            let Some(kv) = event.kv.filter(|_| event.r#type == EventType::Put as i32) else { return Ok(()) };
            tell(observer, response.header, kv).await?;
        }
    }
}

async fn tell(
    observer: &Proclamations,
    header: Option<pb::ResponseHeader>,
    kv: kontiki_proto::mvccpb::KeyValue,
) -> Result<(), Error> {
    observer.send(Ok(election::LeaderResponse { header, kv: Some(kv) })).await.map_err(|_| Error::Stopped)
}
