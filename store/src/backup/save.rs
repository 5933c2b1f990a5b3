//! The client's side: asks a member for a snapshot and writes it to a file.

use std::io::Write;
use std::path::{Path, PathBuf};

use hyper_util::rt::TokioIo;
use kontiki_proto::etcdserverpb as pb;
use pb::maintenance_client::MaintenanceClient;
use tokio::net::UnixStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use super::BackupError;
use crate::limits::PEER_MESSAGE_BYTES_MAX;
use crate::place::{Address, Place};

/// How a member is reached.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// URL on which it serves clients.
    pub endpoint: String,
    /// Certificate authority of the store.
    pub cacert: Option<PathBuf>,
    /// Certificate and key to show.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl Client {
    /// Saves a snapshot, under another name until it is whole.
    pub async fn save(&self, file: &Path) -> Result<(), BackupError> {
        let channel = self.connect().await?;
        let mut client = MaintenanceClient::new(channel).max_decoding_message_size(PEER_MESSAGE_BYTES_MAX);
        let mut parts = client.snapshot(pb::SnapshotRequest {}).await.map_err(Box::new)?.into_inner();
        let partial = file.with_extension("part");
        let mut writing = std::fs::File::create(&partial)?;
        while let Some(part) = parts.message().await.map_err(Box::new)? {
            writing.write_all(&part.blob)?;
        }
        writing.sync_all()?;
        Ok(std::fs::rename(&partial, file)?)
    }

    async fn connect(&self) -> Result<Channel, BackupError> {
        let place: Option<Place> = self.endpoint.parse().ok();
        let Some(Place { address: Address::File(path), tls }) = &place else {
            let endpoint = Endpoint::from_shared(self.endpoint.clone())?;
            return Ok(self.secured(endpoint, None)?.connect().await?);
        };
        // What HTTP calls the other side matters to nobody there; the scheme says whether there is TLS.
        let endpoint = Endpoint::from_static(if *tls { "https://localhost" } else { "http://localhost" });
        let endpoint = self.secured(endpoint, place.as_ref().map(Place::host))?;
        let path = path.clone();
        let connector = tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        Ok(endpoint.connect_with_connector(connector).await?)
    }

    /// With the certificates that were named, and the name that the member's has to have if it is not the URL's.
    fn secured(&self, endpoint: Endpoint, host: Option<&str>) -> Result<Endpoint, BackupError> {
        let Some(cacert) = &self.cacert else { return Ok(endpoint) };
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(std::fs::read(cacert)?));
        if let Some((cert, key)) = &self.identity {
            tls = tls.identity(Identity::from_pem(std::fs::read(cert)?, std::fs::read(key)?));
        }
        if let Some(host) = host {
            tls = tls.domain_name(host);
        }
        Ok(endpoint.tls_config(tls)?)
    }
}
