//! A service that does nothing: how fast tonic answers on this machine, measured by the same clients.

use std::net::SocketAddr;
use std::sync::Arc;

use kontiki_proto::etcdserverpb as pb;
use pb::kv_server::{Kv, KvServer};
use tonic::{Request, Response, Status};

use crate::measure::{self, Act, Plan};
use crate::target::{Link, Target, timed};

struct Nothing;

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Kv for Nothing {
    type RangeStreamStream = tokio_stream::Empty<Result<pb::RangeStreamResponse, Status>>;

    async fn put(&self, _: Request<pb::PutRequest>) -> Answer<pb::PutResponse> {
        Ok(Response::new(pb::PutResponse::default()))
    }

    /// For whoever waits until this is there.
    async fn range(&self, _: Request<pb::RangeRequest>) -> Answer<pb::RangeResponse> {
        Ok(Response::new(pb::RangeResponse::default()))
    }

    async fn range_stream(&self, _: Request<pb::RangeRequest>) -> Answer<Self::RangeStreamStream> {
        Err(Status::unimplemented("only puts"))
    }

    async fn delete_range(&self, _: Request<pb::DeleteRangeRequest>) -> Answer<pb::DeleteRangeResponse> {
        Err(Status::unimplemented("only puts"))
    }

    async fn txn(&self, _: Request<pb::TxnRequest>) -> Answer<pb::TxnResponse> {
        Err(Status::unimplemented("only puts"))
    }

    async fn compact(&self, _: Request<pb::CompactionRequest>) -> Answer<pb::CompactionResponse> {
        Err(Status::unimplemented("only puts"))
    }
}

/// Until somebody ends this process.
pub async fn serve(address: SocketAddr) -> anyhow::Result<()> {
    let server = tonic::transport::Server::builder().tcp_nodelay(true).add_service(KvServer::new(Nothing));
    Ok(server.serve(address).await?)
}

struct Caller(Link);

impl Act for Caller {
    async fn act(&mut self) -> Result<(), Status> {
        let value = self.0.target().value(0);
        self.0.kv.put(timed(pb::PutRequest { key: "echo".into(), value, ..Default::default() })).await.map(drop)
    }

    fn link(&mut self) -> &mut Link {
        &mut self.0
    }
}

pub async fn run(target: &Arc<Target>, clients: usize, plan: Plan) -> anyhow::Result<()> {
    let callers = (0..clients).map(|number| Caller(Link::new(target, number))).collect();
    measure::run(plan, callers).await?.0.all_answered()?.print("echoes");
    Ok(())
}
