//! `kontiki agent`: one node: kubelet, proxy and DNS.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use kontiki_client::{Client, https::HttpsConfig};
use kontiki_kubelet::{
    cgroups::{Hierarchies, capacity},
    configuration::Configuration,
    images::{ImageStore, Puller, registries::Registries},
    network::routes,
    runtime::embedded,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Flags; each is also an environment variable and a key of the file that `--config` names.
#[derive(clap::Args)]
pub struct Arguments {
    /// Name of the node
    #[arg(long, env = "KONTIKI_NODE_NAME")]
    node_name: String,
    /// Address that others reach the node at
    #[arg(long, env = "KONTIKI_NODE_IP")]
    node_ip: Ipv4Addr,
    /// API servers, separated by commas
    #[arg(long, env = "KONTIKI_SERVERS")]
    servers: String,
    /// Folder for images, containers and volumes
    #[arg(long, default_value = "/var/lib/kontiki/agent", env = "KONTIKI_DATA_DIR")]
    data_dir: PathBuf,
    /// Folder for containers' logs
    #[arg(long, default_value = "/var/log/pods", env = "KONTIKI_LOG_DIR")]
    log_dir: PathBuf,
    /// Folder for what lives as long as the machine runs
    #[arg(long, default_value = "/run/kontiki", env = "KONTIKI_RUN_DIR")]
    run_dir: PathBuf,
    /// Control group that holds all pods
    #[arg(long, default_value = "", env = "KONTIKI_CGROUP_ROOT")]
    cgroup_root: String,
    /// Authority of the cluster
    #[arg(long, env = "KONTIKI_CA_FILE")]
    ca_file: PathBuf,
    /// Certificate of the node
    #[arg(long, env = "KONTIKI_CERT_FILE")]
    cert_file: PathBuf,
    /// Key of the node
    #[arg(long, env = "KONTIKI_KEY_FILE")]
    key_file: PathBuf,
    /// Labels that the node gets when it registers: KEY=VALUE, separated by commas
    #[arg(long, default_value = "", env = "KONTIKI_NODE_LABELS")]
    node_labels: String,
    /// Taints that the node gets when it registers: KEY=VALUE:EFFECT, separated by commas
    #[arg(long, default_value = "", env = "KONTIKI_REGISTER_WITH_TAINTS")]
    register_with_taints: String,
    /// Address of the cluster's DNS server
    #[arg(long, default_value = "10.96.0.10", env = "KONTIKI_CLUSTER_DNS")]
    cluster_dns: Ipv4Addr,
    /// Network of pods
    #[arg(long, default_value = "10.244.0.0/16", env = "KONTIKI_CLUSTER_CIDR")]
    cluster_cidr: String,
    /// Domain of the cluster's names
    #[arg(long, default_value = "cluster.local", env = "KONTIKI_CLUSTER_DOMAIN")]
    cluster_domain: String,
    /// Port of the kubelet
    #[arg(long, default_value_t = 10250, env = "KONTIKI_PORT")]
    port: u16,
    /// File with mirrors of registries
    #[arg(long, env = "KONTIKI_REGISTRIES_FILE")]
    registries_file: Option<PathBuf>,
    /// HTTP proxy that leads to registries
    #[arg(long, env = "KONTIKI_IMAGE_PROXY")]
    image_proxy: Option<String>,
    /// The node's own resolver settings
    #[arg(long, default_value = "/etc/resolv.conf", env = "KONTIKI_RESOLV_CONF")]
    resolv_conf: PathBuf,
    /// File with a KubeletConfiguration
    #[arg(long, env = "KONTIKI_KUBELET_CONFIG")]
    kubelet_config: Option<PathBuf>,
}

/// Runs the node until it is told to end; containers go on. SIGPWR says that the machine goes down: pods end first.
pub fn run(arguments: Arguments) -> Result<()> {
    super::start_logging();
    super::runtime()?.block_on(serve(arguments))
}

async fn serve(arguments: Arguments) -> Result<()> {
    let cancel = super::until_signal()?;
    let machine_stops = until_power_fails()?;
    let read = |path: &Path| std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()));
    let (authority, certificate, key) = (read(&arguments.ca_file)?, read(&arguments.cert_file)?, read(&arguments.key_file)?);
    let configuration = match &arguments.kubelet_config {
        Some(path) => Configuration::parse(&read(path)?).with_context(|| format!("read {}", path.display()))?,
        None => Configuration::default(),
    };
    let servers: Vec<String> = arguments.servers.split(',').map(str::to_owned).collect();
    let config = HttpsConfig {
        servers,
        authority_pem: authority.clone(),
        identity_pem: Some((certificate.clone(), key.clone())),
        token_file: None,
    };
    let client = Client::https(config, "kontiki-agent").context("set up the client of the API servers")?;
    let (range_sender, range) = watch::channel(None);
    let (ready_sender, network_ready) = watch::channel(false);
    let hierarchies = Hierarchies::detect(&arguments.cgroup_root).context("find the control groups")?;
    std::fs::create_dir_all(&arguments.data_dir).with_context(|| format!("make {}", arguments.data_dir.display()))?;
    let node_capacity = capacity(&hierarchies, &arguments.data_dir);
    let runtime = start_runtime(&arguments, hierarchies, range.clone()).await?;
    tokio::spawn(announce(range, ready_sender));
    let node_resolv_conf = read(&arguments.resolv_conf).unwrap_or_default();
    let upstream = upstream(&node_resolv_conf);
    let kubelet = kontiki_kubelet::Options {
        client: client.clone(),
        runtime: Arc::new(runtime),
        node_name: arguments.node_name.clone(),
        node_ip: IpAddr::V4(arguments.node_ip),
        labels: labels(&arguments.node_labels)?,
        taints: taints(&arguments.register_with_taints)?,
        root: arguments.data_dir.join("kubelet"),
        logs: arguments.log_dir.clone(),
        capacity: node_capacity,
        cluster_dns: Some(IpAddr::V4(arguments.cluster_dns)),
        cluster_domain: arguments.cluster_domain.clone(),
        network_ready,
        listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, arguments.port)),
        server_certificate_pem: certificate,
        server_key_pem: key,
        client_ca_pem: authority,
        node_resolv_conf,
        configuration: Arc::new(configuration),
        machine_stops,
    };
    let proxy = kontiki_proxy::Options {
        client: client.clone(),
        node_name: arguments.node_name.clone(),
        node_addresses: vec![IpAddr::V4(arguments.node_ip)],
        pod_cidr: arguments.cluster_cidr.clone(),
        dns_address: arguments.cluster_dns,
        cluster_domain: arguments.cluster_domain.clone(),
        upstream,
    };
    let routes = routes::run(client, arguments.node_name.clone(), range_sender, cancel.clone());
    let parts = async {
        tokio::try_join!(
            async {
                Box::pin(kontiki_kubelet::run(kubelet, cancel.clone())).await.context("kubelet")?;
                // The others have nothing to do once no pod is here.
                cancel.cancel();
                anyhow::Ok(())
            },
            async { kontiki_proxy::run(proxy, cancel.clone()).await.context("proxy") },
            async { routes.await.context("routes") },
        )
    };
    let ended = parts.await;
    cancel.cancel();
    ended.map(|_| ())
}

/// A token that is cancelled by SIGPWR, with which an init says that the machine goes down.
fn until_power_fails() -> Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let stops = CancellationToken::new();
    let mut power = signal(SignalKind::from_raw(nix::libc::SIGPWR)).context("listen for SIGPWR")?;
    let token = stops.clone();
    tokio::spawn(async move {
        power.recv().await;
        token.cancel();
    });
    Ok(stops)
}

async fn start_runtime(
    arguments: &Arguments,
    hierarchies: Hierarchies,
    pod_range: watch::Receiver<Option<kontiki_kubelet::network::addresses::PodRange>>,
) -> Result<embedded::Embedded> {
    let images = ImageStore::open(&image_folder(&arguments.data_dir)).context("open the image store")?;
    images.remove_unfinished().context("clean up the image store")?;
    let images = Arc::new(images);
    let registries = match &arguments.registries_file {
        Some(path) => Registries::read(path)?,
        None => Registries::default(),
    };
    let options = embedded::Options {
        data: arguments.data_dir.clone(),
        run: arguments.run_dir.clone(),
        shim: crate::shim::install(&arguments.run_dir)?,
        puller: Puller::new(Arc::clone(&images), registries, arguments.image_proxy.clone()),
        images,
        hierarchies,
        node_address: arguments.node_ip,
        pod_range,
    };
    embedded::Embedded::start(options).await.context("start the runtime")
}

/// Where a node with that data folder keeps its images.
pub fn image_folder(data_dir: &Path) -> PathBuf {
    data_dir.join("images")
}

/// The network is ready as soon as the node has addresses for pods.
async fn announce(mut range: watch::Receiver<Option<kontiki_kubelet::network::addresses::PodRange>>, ready: watch::Sender<bool>) {
    if range.wait_for(Option::is_some).await.is_ok() {
        ready.send_replace(true);
    }
}

/// Resolvers that the node itself uses.
fn upstream(resolv_conf: &str) -> Vec<SocketAddr> {
    let servers = resolv_conf.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    servers.filter_map(|address| address.trim().parse::<IpAddr>().ok()).map(|address| SocketAddr::new(address, 53)).collect()
}

fn parts(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|part| !part.is_empty())
}

fn labels(list: &str) -> Result<BTreeMap<String, String>> {
    let label = |part: &str| match part.split_once('=') {
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => bail!("--node-labels {part:?}: a label is KEY=VALUE"),
    };
    parts(list).map(label).collect()
}

fn taints(list: &str) -> Result<Vec<(String, String, String)>> {
    let taint = |part: &str| {
        let parsed = part.rsplit_once(':').filter(|(_, effect)| ["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(effect));
        let Some((key, effect)) = parsed else {
            bail!(
                "--register-with-taints {part:?}: a taint is KEY=VALUE:EFFECT, the effect NoSchedule, PreferNoSchedule or NoExecute"
            );
        };
        let (key, value) = key.split_once('=').unwrap_or((key, ""));
        Ok((key.to_owned(), value.to_owned(), effect.to_owned()))
    };
    parts(list).map(taint).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn labels_and_taints_are_read() {
        assert_eq!(labels("a=,b/c=d").unwrap(), BTreeMap::from([("a".into(), String::new()), ("b/c".into(), "d".into())]));
        assert!(labels("a").is_err());
        let control_plane = "node-role.kubernetes.io/control-plane=:NoSchedule";
        let wanted = ("node-role.kubernetes.io/control-plane".to_owned(), String::new(), "NoSchedule".to_owned());
        assert_eq!(taints(control_plane).unwrap(), [wanted]);
        assert!(taints("a=b").is_err());
        assert!(taints("a=b:Sometimes").is_err());
    }

    #[test]
    fn resolvers_of_the_node() {
        assert_eq!(upstream("search x\nnameserver 10.0.0.2\n"), ["10.0.0.2:53".parse().unwrap()]);
    }
}
