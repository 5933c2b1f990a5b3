//! The client's side: asks a member for a snapshot and writes it to a file.

use std::io::Write;
use std::path::{Path, PathBuf};

use kontiki_proto::etcdserverpb as pb;
use pb::maintenance_client::MaintenanceClient;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use super::BackupError;
use crate::limits::PEER_MESSAGE_BYTES_MAX;

/// How a member is reached.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// URL of its client port.
    pub endpoint: String,
    /// Certificate authority of the store.
    pub cacert: Option<PathBuf>,
    /// Certificate and key to show.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl Client {
    /// Saves a snapshot, under another name until it is whole.
    pub async fn save(&self, file: &Path) -> Result<(), BackupError> {
        let mut endpoint = Endpoint::from_shared(self.endpoint.clone())?;
        if let Some(cacert) = &self.cacert {
            let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(std::fs::read(cacert)?));
            if let Some((cert, key)) = &self.identity {
                tls = tls.identity(Identity::from_pem(std::fs::read(cert)?, std::fs::read(key)?));
            }
            endpoint = endpoint.tls_config(tls)?;
        }
        let mut client = MaintenanceClient::new(endpoint.connect().await?).max_decoding_message_size(PEER_MESSAGE_BYTES_MAX);
        let mut parts = client.snapshot(pb::SnapshotRequest {}).await.map_err(Box::new)?.into_inner();
        let partial = file.with_extension("part");
        let mut writing = std::fs::File::create(&partial)?;
        while let Some(part) = parts.message().await.map_err(Box::new)? {
            writing.write_all(&part.blob)?;
        }
        writing.sync_all()?;
        Ok(std::fs::rename(&partial, file)?)
    }
}
