//! `kontiki server`: one member of the store with an API server beside it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use kontiki_apiserver::{
    addresses::ServiceNetwork,
    aggregation, audit,
    auth::{FrontProxy, certificate, front_proxy::UserHeaders, keys::Keys},
    bootstrap, encryption,
    kubelet::KubeletClient,
    outbound::Identity,
    server, service,
};
use kontiki_store::{Options as StoreOptions, Service, TlsFiles};
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use crate::in_process;
use rustls::{
    crypto::ring::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

/// Flags; each is also an environment variable and a key of the file that `--config` names.
#[derive(clap::Args)]
pub struct Arguments {
    /// Name of this member
    #[arg(long, env = "KONTIKI_SERVER_NAME")]
    name: String,
    /// Folder for the store's data
    #[arg(long, env = "KONTIKI_DATA_DIR")]
    data_dir: PathBuf,
    /// Address that clients and peers reach this server at
    #[arg(long, env = "KONTIKI_ADVERTISE_ADDRESS")]
    advertise_address: Ipv4Addr,
    /// Port of the API
    #[arg(long, default_value_t = 6443, env = "KONTIKI_SECURE_PORT")]
    secure_port: u16,
    /// Port of the store for clients
    #[arg(long, default_value_t = 2379, env = "KONTIKI_STORE_CLIENT_PORT")]
    store_client_port: u16,
    /// Port of the store for its peers
    #[arg(long, default_value_t = 2380, env = "KONTIKI_STORE_PEER_PORT")]
    store_peer_port: u16,
    /// Every member as NAME=URL, separated by commas
    #[arg(long, env = "KONTIKI_INITIAL_CLUSTER")]
    initial_cluster: String,
    /// Authority of the store's members and clients
    #[arg(long, env = "KONTIKI_STORE_CA_FILE")]
    store_ca_file: PathBuf,
    /// Certificate of this member
    #[arg(long, env = "KONTIKI_STORE_CERT_FILE")]
    store_cert_file: PathBuf,
    /// Key of this member
    #[arg(long, env = "KONTIKI_STORE_KEY_FILE")]
    store_key_file: PathBuf,
    /// Authority of the API's clients
    #[arg(long, env = "KONTIKI_CLIENT_CA_FILE")]
    client_ca_file: PathBuf,
    /// Certificate of the API server
    #[arg(long, env = "KONTIKI_TLS_CERT_FILE")]
    tls_cert_file: PathBuf,
    /// Key of the API server
    #[arg(long, env = "KONTIKI_TLS_PRIVATE_KEY_FILE")]
    tls_private_key_file: PathBuf,
    /// Key that signs service-account tokens
    #[arg(long, env = "KONTIKI_SERVICE_ACCOUNT_SIGNING_KEY_FILE")]
    service_account_signing_key_file: PathBuf,
    /// Certificate that this server shows to kubelets
    #[arg(long, env = "KONTIKI_KUBELET_CLIENT_CERTIFICATE_FILE")]
    kubelet_client_certificate_file: PathBuf,
    /// Its key
    #[arg(long, env = "KONTIKI_KUBELET_CLIENT_KEY_FILE")]
    kubelet_client_key_file: PathBuf,
    /// Certificate that this server shows to aggregated API servers
    #[arg(long, requires = "proxy_client_key_file", env = "KONTIKI_PROXY_CLIENT_CERT_FILE")]
    proxy_client_cert_file: Option<PathBuf>,
    /// Its key
    #[arg(long, requires = "proxy_client_cert_file", env = "KONTIKI_PROXY_CLIENT_KEY_FILE")]
    proxy_client_key_file: Option<PathBuf>,
    /// Authority of front proxies: whom it has signed may name users in headers, to this server and to aggregated ones
    #[arg(long, env = "KONTIKI_REQUESTHEADER_CLIENT_CA_FILE")]
    requestheader_client_ca_file: Option<PathBuf>,
    /// Common names of front proxies that are believed, separated by commas; any, where it is empty
    #[arg(long, default_value = "front-proxy-client", env = "KONTIKI_REQUESTHEADER_ALLOWED_NAMES")]
    requestheader_allowed_names: String,
    /// Headers that a user's name stands in, separated by commas
    #[arg(long, default_value = "X-Remote-User", env = "KONTIKI_REQUESTHEADER_USERNAME_HEADERS")]
    requestheader_username_headers: String,
    /// Headers that a user's UID stands in
    #[arg(long, default_value = "X-Remote-Uid", env = "KONTIKI_REQUESTHEADER_UID_HEADERS")]
    requestheader_uid_headers: String,
    /// Headers that a user's groups stand in
    #[arg(long, default_value = "X-Remote-Group", env = "KONTIKI_REQUESTHEADER_GROUP_HEADERS")]
    requestheader_group_headers: String,
    /// What headers begin with that further facts about a user stand in
    #[arg(long, default_value = "X-Remote-Extra-", env = "KONTIKI_REQUESTHEADER_EXTRA_HEADERS_PREFIX")]
    requestheader_extra_headers_prefix: String,
    /// Certificate of the authority that signs what CertificateSigningRequests ask for
    #[arg(long, requires = "cluster_signing_key_file", env = "KONTIKI_CLUSTER_SIGNING_CERT_FILE")]
    cluster_signing_cert_file: Option<PathBuf>,
    /// Its key
    #[arg(long, requires = "cluster_signing_cert_file", env = "KONTIKI_CLUSTER_SIGNING_KEY_FILE")]
    cluster_signing_key_file: Option<PathBuf>,
    /// What is recorded in the audit log: a Policy of audit.k8s.io/v1
    #[arg(long, requires = "audit_log_path", env = "KONTIKI_AUDIT_POLICY_FILE")]
    audit_policy_file: Option<PathBuf>,
    /// Where it is recorded: lines of JSON
    #[arg(long, requires = "audit_policy_file", env = "KONTIKI_AUDIT_LOG_PATH")]
    audit_log_path: Option<PathBuf>,
    /// How objects lie in the store: an EncryptionConfiguration of apiserver.config.k8s.io/v1
    #[arg(long, env = "KONTIKI_ENCRYPTION_PROVIDER_CONFIG")]
    encryption_provider_config: Option<PathBuf>,
    /// Read that file again when it changes
    #[arg(
        long,
        num_args = 0..=1,
        default_value_t = false,
        default_missing_value = "true",
        action = clap::ArgAction::Set,
        requires = "encryption_provider_config",
        env = "KONTIKI_ENCRYPTION_PROVIDER_CONFIG_AUTOMATIC_RELOAD"
    )]
    encryption_provider_config_automatic_reload: bool,
    /// Network of pods
    #[arg(long, default_value = "10.244.0.0/16", env = "KONTIKI_CLUSTER_CIDR")]
    cluster_cidr: String,
    /// Length of the prefix of each node's part of it
    #[arg(long, default_value_t = 24, env = "KONTIKI_NODE_CIDR_MASK_SIZE")]
    node_cidr_mask_size: u8,
    /// Seconds that a node may be silent before it counts as not ready
    #[arg(long, default_value_t = 50, env = "KONTIKI_NODE_MONITOR_GRACE_PERIOD_SECONDS")]
    node_monitor_grace_period_seconds: u64,
    /// Hours that a token in a Secret that nobody has asked for may lie unused
    #[arg(long, default_value_t = 8760, env = "KONTIKI_LEGACY_SERVICE_ACCOUNT_TOKEN_CLEAN_UP_PERIOD_HOURS")]
    legacy_service_account_token_clean_up_period_hours: u64,
    /// Network of Services
    #[arg(long, default_value = "10.96.0.0/16", env = "KONTIKI_SERVICE_CLUSTER_IP_RANGE")]
    service_cluster_ip_range: String,
    /// Domain of the cluster's names
    #[arg(long, default_value = "cluster.local", env = "KONTIKI_CLUSTER_DOMAIN")]
    cluster_domain: String,
}

/// Serves until it is told to end.
pub fn run(arguments: Arguments) -> Result<()> {
    super::start_logging();
    let service_network = ServiceNetwork::parse(&arguments.service_cluster_ip_range).map_err(anyhow::Error::msg)?;
    super::runtime()?.block_on(serve(arguments, service_network))
}

async fn serve(arguments: Arguments, service_network: ServiceNetwork) -> Result<()> {
    let cancel = super::until_signal()?;
    let read = |path: &PathBuf| std::fs::read(path).with_context(|| format!("read {}", path.display()));
    let keys = Keys::from_pem(&read(&arguments.service_account_signing_key_file)?).context("service-account key")?;
    let resolver = Arc::new(FixedCertificate(certified_key(&arguments)?));
    let trust = trust(&arguments)?;
    let tls = certificate::server_config(&read(&arguments.client_ca_file)?, trust.front_proxy.clone(), resolver);
    let tls = tls.context("TLS of the API server")?;
    let store = Service::start(store_options(&arguments)?).await.context("start the store")?;
    let mut metrics = Registry::default();
    store.register_metrics(&mut metrics);
    kontiki_controllers::deployment::rollback::register(&mut metrics);
    kontiki_scheduler::metrics::register(&mut metrics);
    let advertise = SocketAddr::from((arguments.advertise_address, arguments.secure_port));
    let audit = match (&arguments.audit_policy_file, &arguments.audit_log_path) {
        (Some(policy), Some(path)) => {
            let policy = audit::Policy::parse(&read(policy)?).with_context(|| format!("read {}", policy.display()))?;
            Some(audit::Log::open(policy, path).await.with_context(|| format!("open {}", path.display()))?)
        }
        _ => None,
    };
    let encryption = match &arguments.encryption_provider_config {
        Some(path) => {
            let settings = encryption::Settings {
                path: path.clone(),
                automatic_reload: arguments.encryption_provider_config_automatic_reload,
                server: arguments.name.clone(),
            };
            encryption::Encryption::start(settings, &mut metrics, cancel.clone()).await?
        }
        None => encryption::Encryption::default(),
    };
    let options = service::Options {
        encryption,
        trust,
        audit,
        kv: Arc::new(store.clone()),
        advertise,
        service_network,
        service_account_keys: Arc::new(keys),
        issuer: format!("https://kubernetes.default.svc.{}", arguments.cluster_domain),
        kubelet: Some(Arc::new(
            KubeletClient::new(
                &read(&arguments.client_ca_file)?,
                &read(&arguments.kubelet_client_certificate_file)?,
                &read(&arguments.kubelet_client_key_file)?,
            )
            .context("certificate for kubelets")?,
        )),
    };
    let handle = service::start(options, metrics, cancel.clone());
    tokio::spawn(bootstrap::run(handle.clone(), cancel.clone()));
    start_components(&arguments, &handle, &cancel)?;
    let served = tokio::select! {
        served = server::serve(handle, advertise, tls, cancel.clone()) => served.context("serve the API"),
        // Whoever watches over this process starts it again.
        () = store.failed() => Err(anyhow::anyhow!("the store's member has failed")),
    };
    cancel.cancel();
    store.shutdown().await;
    served
}

/// What aggregated API servers are told about trust.
fn trust(arguments: &Arguments) -> Result<aggregation::Trust> {
    let read = |path: &PathBuf| std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()));
    let identity = match (&arguments.proxy_client_cert_file, &arguments.proxy_client_key_file) {
        (Some(certificate), Some(key)) => {
            Some(Arc::new(Identity { certificate: read(certificate)?.into_bytes(), key: read(key)?.into_bytes() }))
        }
        _ => None,
    };
    let front_proxy = match &arguments.requestheader_client_ca_file {
        Some(authority) => {
            let names = arguments.requestheader_allowed_names.split(',').filter(|name| !name.is_empty());
            let headers = UserHeaders::parse(
                &arguments.requestheader_username_headers,
                &arguments.requestheader_uid_headers,
                &arguments.requestheader_group_headers,
                &arguments.requestheader_extra_headers_prefix,
            );
            let (allowed_names, headers) = (names.map(str::to_owned).collect(), headers.context("headers of front proxies")?);
            Some(Arc::new(FrontProxy { authority: read(authority)?, allowed_names, headers }))
        }
        None => None,
    };
    Ok(aggregation::Trust { client_authority: read(&arguments.client_ca_file)?, identity, front_proxy })
}

/// Controllers and scheduler run on every server and act on the one that holds their Lease.
fn start_components(arguments: &Arguments, handle: &service::Handle, cancel: &CancellationToken) -> Result<()> {
    let identity = format!("{}_{}", arguments.name, uuid::Uuid::new_v4());
    let authority = std::fs::read_to_string(&arguments.client_ca_file)
        .with_context(|| format!("read {}", arguments.client_ca_file.display()))?;
    let signer = match (&arguments.cluster_signing_cert_file, &arguments.cluster_signing_key_file) {
        (Some(certificate), Some(key)) => {
            let read = |path: &PathBuf| std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()));
            let signer = kontiki_controllers::certificates::Signer::from_pem(&read(certificate)?, &read(key)?);
            Some(Arc::new(signer.context("authority that signs certificates")?))
        }
        _ => None,
    };
    let controllers = kontiki_controllers::Options {
        signer,
        client: in_process::client(handle, "system:kube-controller-manager"),
        identity: identity.clone(),
        root_ca: authority,
        pod_cidr: arguments.cluster_cidr.clone(),
        node_cidr_mask: arguments.node_cidr_mask_size,
        legacy_token_clean_up_period: Duration::from_secs(arguments.legacy_service_account_token_clean_up_period_hours * 3600),
        node_monitor_grace_period: Duration::from_secs(arguments.node_monitor_grace_period_seconds),
    };
    tokio::spawn(kontiki_controllers::run(controllers, cancel.clone()));
    let scheduler = kontiki_scheduler::Options::new(in_process::client(handle, "system:kube-scheduler"), identity);
    tokio::spawn(kontiki_scheduler::run(scheduler, cancel.clone()));
    Ok(())
}

fn store_options(arguments: &Arguments) -> Result<StoreOptions> {
    let address = |port: u16| SocketAddr::from((arguments.advertise_address, port));
    let (client, peer) = (address(arguments.store_client_port), address(arguments.store_peer_port));
    let mut options = StoreOptions::new(&arguments.name, arguments.data_dir.clone(), client, peer);
    options.advertise_client_urls = vec![format!("https://{client}")];
    options.initial_cluster.clear();
    for member in arguments.initial_cluster.split(',') {
        let Some((name, url)) = member.split_once('=') else {
            bail!("--initial-cluster {member:?}: a member is NAME=URL");
        };
        options.initial_cluster.push((name.to_owned(), url.to_owned()));
    }
    let (cert, key) = (arguments.store_cert_file.clone(), arguments.store_key_file.clone());
    let tls = TlsFiles::mutual(cert, key, arguments.store_ca_file.clone());
    Ok(options.with_client_tls(tls.clone()).with_peer_tls(tls))
}

fn certified_key(arguments: &Arguments) -> Result<Arc<CertifiedKey>> {
    let (certificate, key) = (&arguments.tls_cert_file, &arguments.tls_private_key_file);
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
    let chain: Vec<_> = chain.with_context(|| format!("read {}", certificate.display()))?;
    let private = PrivateKeyDer::from_pem_file(key).with_context(|| format!("read {}", key.display()))?;
    let signer = any_supported_type(&private).with_context(|| format!("use {}", key.display()))?;
    Ok(Arc::new(CertifiedKey::new(chain, signer)))
}

/// The certificate that the server was started with.
#[derive(Debug)]
struct FixedCertificate(Arc<CertifiedKey>);

impl ResolvesServerCert for FixedCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}
