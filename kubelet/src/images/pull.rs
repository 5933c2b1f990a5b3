//! Fetches images: manifest, configuration, and the layers that are not there yet.
//!
//! In: a name and credentials. Out: a record in the store. Requests for the same image share one fetch.

use std::{collections::HashMap, fs, io, path::Path, sync::Arc, time::Duration};

use oci_client::{
    Client, Reference,
    client::{ClientConfig, ClientProtocol},
    errors::{OciDistributionError, OciErrorCode},
    manifest::OciDescriptor,
    secrets::RegistryAuth as Credentials,
};
use parking_lot::Mutex;
use tokio::{io::AsyncWriteExt, sync::Semaphore};

use super::{ImageConfig, ImageRecord, ImageStore, layer, name, registries::Endpoint, registries::Registries};
use crate::runtime::{RegistryAuth, RuntimeError};

/// Images fetched at the same time, as the kubelet's default QPS of 5 allows for.
const PULLS_MAX: usize = 5;
/// A registry that does not answer at all is given up after this time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A registry that stops in the middle is given up after this time.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest configuration of an image that is read, bytes.
const CONFIG_BYTES_MAX: i64 = 4 << 20;

/// What went wrong with one endpoint.
#[derive(Debug, thiserror::Error)]
enum PullError {
    #[error("{0}")]
    Registry(#[from] OciDistributionError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Image(String),
}

/// Fetches images into a store.
pub struct Puller {
    store: Arc<ImageStore>,
    registries: Registries,
    proxy: Option<String>,
    permits: Semaphore,
    running: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Puller {
    /// For a store. `proxy` is the URL of an HTTP proxy that leads to registries with TLS.
    pub fn new(store: Arc<ImageStore>, registries: Registries, proxy: Option<String>) -> Self {
        Self { store, registries, proxy, permits: Semaphore::new(PULLS_MAX), running: Mutex::default() }
    }

    /// Fetches an image even if it is there: its tag may have moved.
    pub async fn pull(&self, image: &str, auth: &[RegistryAuth]) -> Result<Arc<ImageRecord>, RuntimeError> {
        let reference = name::parse(image)?;
        let whole = reference.whole();
        let lock = Arc::clone(self.running.lock().entry(whole.clone()).or_default());
        let pulled = {
            let _one = lock.lock().await;
            self.pull_anywhere(&reference, auth).await
        };
        drop(lock);
        self.running.lock().retain(|_, lock| Arc::strong_count(lock) > 1);
        pulled.map_err(|error| RuntimeError::ImagePull(explain(&whole, &error)))
    }

    async fn pull_anywhere(&self, reference: &Reference, auth: &[RegistryAuth]) -> Result<Arc<ImageRecord>, PullError> {
        let _permit = self.permits.acquire().await.map_err(|_| PullError::Image("shutting down".to_owned()))?;
        let mut credentials: Vec<Credentials> =
            auth.iter().map(|auth| Credentials::Basic(auth.username.clone(), auth.password.clone())).collect();
        credentials.push(Credentials::Anonymous);
        let mut first_error = None;
        for endpoint in self.registries.endpoints(reference) {
            for credentials in &credentials {
                match self.pull_there(reference, &endpoint, credentials).await {
                    Ok(record) => return Ok(record),
                    Err(error) => {
                        tracing::debug!(host = endpoint.host, %error, "cannot pull from this endpoint");
                        first_error.get_or_insert(error);
                    }
                }
            }
        }
        Err(first_error.unwrap_or_else(|| PullError::Image("no registry to pull from".to_owned())))
    }

    async fn pull_there(
        &self,
        reference: &Reference,
        endpoint: &Endpoint,
        credentials: &Credentials,
    ) -> Result<Arc<ImageRecord>, PullError> {
        let client = Client::new(ClientConfig {
            protocol: if endpoint.plain { ClientProtocol::Http } else { ClientProtocol::Https },
            connect_timeout: Some(CONNECT_TIMEOUT),
            read_timeout: Some(READ_TIMEOUT),
            https_proxy: self.proxy.clone(),
            user_agent: concat!("kontiki/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        });
        let mut there = reference.clone();
        there.set_mirror_registry(endpoint.host.clone());
        let (manifest, digest) = client.pull_image_manifest(&there, credentials).await?;
        if manifest.config.size > CONFIG_BYTES_MAX {
            return Err(PullError::Image(format!("its configuration has {} bytes", manifest.config.size)));
        }
        let mut config = Vec::new();
        client.pull_blob(&there, &manifest.config, &mut config).await?;
        let config = ImageConfig::parse(&config).map_err(|error| PullError::Image(error.to_string()))?;
        let mut size = 0;
        for layer in &manifest.layers {
            size += self.fetch_layer(&client, &there, layer).await?;
        }
        let record = ImageRecord {
            id: manifest.config.digest,
            tags: name::tagged(reference).into_iter().collect(),
            digests: vec![format!("{}@{digest}", name::repository(reference))],
            size,
            layers: manifest.layers.into_iter().map(|layer| layer.digest).collect(),
            config,
        };
        let store = Arc::clone(&self.store);
        let inserted = tokio::task::spawn_blocking(move || store.insert(record)).await;
        Ok(inserted.map_err(io::Error::other)??)
    }

    /// Fetches and unpacks a layer unless it is there; returns its size.
    async fn fetch_layer(&self, client: &Client, reference: &Reference, layer: &OciDescriptor) -> Result<u64, PullError> {
        let target = self.store.layer(&layer.digest);
        if let Some(size) = known_size(&target) {
            return Ok(size);
        }
        let packed = self.store.download();
        let mut file = tokio::fs::File::create(&packed).await?;
        // Checks the digest as it reads.
        client.pull_blob(reference, layer, &mut file).await?;
        file.flush().await?;
        let unpacked = self.store.download();
        let unpacking = tokio::task::spawn_blocking(move || unpack_file(&packed, &unpacked, &target));
        Ok(unpacking.await.map_err(io::Error::other)??)
    }
}

/// Name of the file beside a layer's folder that keeps its size.
fn size_file(layer: &Path) -> std::path::PathBuf {
    layer.with_extension("size")
}

/// Size of a layer that is there.
pub fn known_size(layer: &Path) -> Option<u64> {
    if !layer.is_dir() {
        return None;
    }
    fs::read_to_string(size_file(layer)).ok()?.parse().ok()
}

/// Unpacks a layer file, compressed with gzip or not, and puts it in its place in one step.
pub fn unpack_file(packed: &Path, unpacked: &Path, target: &Path) -> io::Result<u64> {
    let mut file = io::BufReader::with_capacity(1 << 16, fs::File::open(packed)?);
    let head = io::BufRead::fill_buf(&mut file)?;
    let size = match head {
        [0x1f, 0x8b, ..] => layer::unpack(flate2::bufread::MultiGzDecoder::new(file), unpacked)?,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "layers compressed with zstd are not supported"));
        }
        _ => layer::unpack(file, unpacked)?,
    };
    fs::remove_file(packed)?;
    fs::write(size_file(target), size.to_string())?;
    match fs::rename(unpacked, target) {
        // Another image with the same layer was faster.
        Err(_) if target.is_dir() => fs::remove_dir_all(unpacked)?,
        other => other?,
    }
    Ok(size)
}

/// The message that Kubernetes' users know.
fn explain(image: &str, error: &PullError) -> String {
    let head = format!("failed to pull and unpack image \"{image}\"");
    let missing =
        |code: &OciErrorCode| matches!(code, OciErrorCode::ManifestUnknown | OciErrorCode::NotFound | OciErrorCode::NameUnknown);
    match error {
        PullError::Registry(OciDistributionError::ImageManifestNotFoundError(_)) => not_found(&head, image),
        PullError::Registry(OciDistributionError::RegistryError { envelope, .. })
            if envelope.errors.iter().any(|error| missing(&error.code)) =>
        {
            not_found(&head, image)
        }
        PullError::Registry(OciDistributionError::ServerError { code: 404, .. }) => not_found(&head, image),
        other => format!("{head}: failed to resolve reference \"{image}\": {}", with_causes(other)),
    }
}

fn not_found(head: &str, image: &str) -> String {
    format!("{head}: failed to resolve reference \"{image}\": {image}: not found")
}

fn with_causes(error: &PullError) -> String {
    let mut text = error.to_string();
    let mut cause: Option<&dyn std::error::Error> = match error {
        PullError::Registry(error) => std::error::Error::source(error),
        _ => None,
    };
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_image_is_told_in_words_that_users_know() {
        let error = PullError::Registry(OciDistributionError::ImageManifestNotFoundError("x".into()));
        let message = explain("docker.io/library/nope:1", &error);
        assert_eq!(
            message,
            "failed to pull and unpack image \"docker.io/library/nope:1\": failed to resolve reference \
             \"docker.io/library/nope:1\": docker.io/library/nope:1: not found"
        );
    }
}
