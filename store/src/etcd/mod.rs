//! The etcd v3 services over a running member.
//!
//! In come gRPC requests on the client port; each is one call of [`crate::kv::Kv`]. Beside them are
//! server reflection and the standard health service.
//! Invariant: messages, codes and error texts are etcd's, so that every etcd client works.

mod auth;
mod cluster;
mod kv;
mod lease;
mod maintenance;
mod watch;

use std::sync::Arc;

use kontiki_proto::FILE_DESCRIPTOR_SET;
use kontiki_proto::etcdserverpb as pb;
use tokio::net::TcpListener;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::limits::{CLIENT_ANSWER_BYTES_MAX, REQUEST_BYTES_MAX};
use crate::service::Handle;
use crate::tls;

/// The services' shared part.
#[derive(Clone)]
struct Services {
    handle: Handle,
}

/// Serves clients until the member stops.
pub fn serve(handle: Handle, listener: TcpListener, config: Option<Arc<rustls::ServerConfig>>, stop: CancellationToken) {
    let incoming = ReceiverStream::new(tls::accept(listener, config, stop.clone()));
    tokio::spawn(async move {
        let services = Services { handle };
        let (health, health_service) = tonic_health::server::health_reporter();
        tokio::spawn(report_health(services.clone(), health, stop.clone()));
        // Room for what surrounds the values of a request.
        let largest = REQUEST_BYTES_MAX + 512 * 1024;
        let mut server = tonic::transport::Server::builder();
        let mut router = server
            .add_service(
                pb::kv_server::KvServer::new(services.clone())
                    .max_decoding_message_size(largest)
                    .max_encoding_message_size(CLIENT_ANSWER_BYTES_MAX),
            )
            .add_service(
                pb::watch_server::WatchServer::new(services.clone())
                    .max_decoding_message_size(largest)
                    .max_encoding_message_size(CLIENT_ANSWER_BYTES_MAX),
            )
            .add_service(pb::lease_server::LeaseServer::new(services.clone()))
            .add_service(pb::cluster_server::ClusterServer::new(services.clone()))
            .add_service(pb::maintenance_server::MaintenanceServer::new(services.clone()))
            .add_service(pb::auth_server::AuthServer::new(services))
            .add_service(health_service);
        let reflection =
            tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET).build_v1();
        match reflection {
            Ok(reflection) => router = router.add_service(reflection),
            Err(error) => tracing::error!(%error, "there is no server reflection"),
        }
        if let Err(error) = router.serve_with_incoming_shutdown(incoming, stop.cancelled_owned()).await {
            tracing::error!(%error, "clients are no longer served");
        }
    });
}

/// Healthy is who knows a leader.
async fn report_health(services: Services, health: tonic_health::server::HealthReporter, stop: CancellationToken) {
    use crate::kv::Kv;
    let mut leadership = services.handle.leadership();
    loop {
        let serving = leadership.borrow_and_update().leader_id.is_some();
        let status = if serving { tonic_health::ServingStatus::Serving } else { tonic_health::ServingStatus::NotServing };
        health.set_service_status("", status).await;
        tokio::select! {
            changed = leadership.changed() => if changed.is_err() { return },
            () = stop.cancelled() => return,
        }
    }
}
