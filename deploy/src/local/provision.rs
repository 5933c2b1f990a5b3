//! Writes a cluster's shape, keys and settings; finds and keeps what is already there.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

use anyhow::{Context, Result, bail};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::paths::Paths;
use crate::{
    files::{PUBLIC, SECRET, write_atomically},
    pki::{Authority, Leaf, Pair, service_account_key},
    shape::{
        API_PORT, CLUSTER_DNS, CLUSTER_DOMAIN, EGRESS_PORT, KUBELET_PORT, KUBERNETES_SERVICE, LINK_ADDRESS, Node, POD_CIDR, Role,
        SERVICE_CIDR, STORE_CLIENT_PORT, STORE_PEER_PORT, Shape,
    },
};

/// Reads the shape that [`provision`] wrote.
pub fn read_shape(paths: &Paths) -> Result<Shape> {
    let path = paths.shape();
    let text = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))
}

/// Writes everything that the nodes of `shape` need, and returns the administrator's certificate
/// with the authority's. `registries` names the file with the nodes' mirrors; without it the nodes keep theirs. Keys that exist are kept.
pub fn provision(paths: &Paths, shape: &Shape, registries: Option<&Path>) -> Result<(Pair, String)> {
    if paths.shape().exists() {
        let before = read_shape(paths)?;
        if before != *shape {
            bail!(
                "cluster {0} exists with {1} servers, {2} agents and port {3}{4}: `kontiki down --name {0}` removes it, or choose another --name",
                shape.name,
                before.servers,
                before.agents,
                before.port,
                if before.extras == shape.extras { "" } else { ", and other labels, mounts or ports of its nodes" },
            );
        }
    }
    let authorities = Authorities {
        cluster: Authority::read_or_generate(&paths.pki(), "ca", "kubernetes")?,
        store: Authority::read_or_generate(&paths.pki(), "store-ca", "kontiki-store")?,
        front_proxy: Authority::read_or_generate(&paths.pki(), "front-proxy-ca", "front-proxy-ca")?,
    };
    let service_account = service_account_files(&paths.pki())?;
    let encryption = encryption_configuration(&paths.pki())?;
    leaf(&paths.pki(), "store-client", &authorities.store, &Leaf { common_name: "store-client", ..Leaf::default() })?;
    let administrator = Leaf { common_name: "kubernetes-admin", organizations: &["system:masters"], ..Leaf::default() };
    let administrator = leaf(&paths.pki(), "admin", &authorities.cluster, &administrator)?;
    let mirrors = match registries {
        Some(path) => Some(fs::read(path).with_context(|| format!("read {}", path.display()))?),
        None => None,
    };
    for node in shape.nodes() {
        provision_node(paths, shape, &node, &authorities, &service_account)?;
        if node.role == Role::Server {
            write_atomically(&paths.node_etc(&node.name).join(ENCRYPTION), encryption.as_bytes(), SECRET)?;
        }
        let file = paths.node_etc(&node.name).join("registries.yaml");
        match &mirrors {
            Some(mirrors) => write_atomically(&file, mirrors, PUBLIC)?,
            None if file.exists() => {}
            None => write_atomically(&file, b"mirrors: {}\n", PUBLIC)?,
        }
    }
    write_json(&paths.shape(), &serde_json::to_value(shape)?)?;
    Ok((administrator, authorities.cluster.certificate().to_owned()))
}

/// What the kubelets of a local cluster are set to do until the user says otherwise.
const KUBELET_CONFIG: &str = "\
# Settings of this node's kubelet: https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/
# They count from the next start of the node: kontiki node stop, kontiki node start.
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
# `kontiki node stop` lets pods end in order within this time; the last part of it is for critical pods.
shutdownGracePeriod: 20s
shutdownGracePeriodCriticalPods: 5s
# The disk is the host's, and full for reasons that no pod can mend: none is evicted and no image removed for it. On a
# machine of its own a node has the defaults (nodefs.available: 10%, imagefs.available: 15%, images from 85% on).
evictionHard:
  memory.available: 100Mi
  nodefs.available: 0%
  nodefs.inodesFree: 0%
  imagefs.available: 0%
  imagefs.inodesFree: 0%
imageGCHighThresholdPercent: 100
# Pods that are files in this folder run whatever the API says.
";

struct Authorities {
    cluster: Authority,
    store: Authority,
    /// Signs what servers show to aggregated API servers: it names users to them, so it is nobody else's.
    front_proxy: Authority,
}

fn service_account_files(folder: &Path) -> Result<(String, String)> {
    let (private, public) = (folder.join("service-account.key"), folder.join("service-account.pub"));
    if !private.exists() {
        let (key, public_key) = service_account_key()?;
        write_atomically(&public, public_key.as_bytes(), PUBLIC)?;
        write_atomically(&private, key.as_bytes(), SECRET)?;
    }
    Ok((fs::read_to_string(&private)?, fs::read_to_string(&public)?))
}

/// Name of the file that says how objects lie in the store.
const ENCRYPTION: &str = "encryption.yaml";

/// What the file begins with.
const ENCRYPTION_HEAD: &str = "\
# How objects lie in the store. To change the key: add a new one as the second, run `kontiki up`; make it the first, run it
# again; write every Secret anew (kubectl get secrets -A -o json | kubectl replace -f -); then remove the old one.
";

/// The key that Secrets are encrypted with, the same on every server. What was stored before there was one is read as it is.
fn encryption_configuration(folder: &Path) -> Result<String> {
    let path = folder.join(ENCRYPTION);
    if !path.exists() {
        let secret = BASE64_STANDARD.encode(rand::random::<[u8; 32]>());
        let providers = json!([{ "aesgcm": { "keys": [{ "name": "key1", "secret": secret }] } }, { "identity": {} }]);
        let configuration = json!({
            "apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "EncryptionConfiguration",
            "resources": [{ "resources": ["secrets"], "providers": providers }],
        });
        let text = format!("{ENCRYPTION_HEAD}{}", serde_norway::to_string(&configuration)?);
        write_atomically(&path, text.as_bytes(), SECRET)?;
    }
    fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}

fn leaf(folder: &Path, name: &str, authority: &Authority, leaf: &Leaf<'_>) -> Result<Pair> {
    if folder.join(format!("{name}.key")).exists() {
        return Pair::read(folder, name);
    }
    let pair = authority.sign(leaf)?;
    pair.write(folder, name)?;
    Ok(pair)
}

fn provision_node(
    paths: &Paths,
    shape: &Shape,
    node: &Node,
    authorities: &Authorities,
    service_account: &(String, String),
) -> Result<()> {
    let folder = paths.node_etc(&node.name);
    write_atomically(&folder.join("ca.crt"), authorities.cluster.certificate().as_bytes(), PUBLIC)?;
    write_atomically(&folder.join("hosts"), hosts(shape).as_bytes(), PUBLIC)?;
    let own = [IpAddr::V4(node.address), IpAddr::V4(Ipv4Addr::LOCALHOST)];
    let names = [node.name.clone(), "localhost".to_owned()];
    let user = format!("system:node:{}", node.name);
    let kubelet = Leaf { common_name: &user, organizations: &["system:nodes"], dns_names: &names, addresses: &own };
    leaf(&folder, "kubelet", &authorities.cluster, &kubelet)?;
    write_atomically(&folder.join("resolv.conf"), b"", PUBLIC)?;
    write_yaml(&folder.join("agent.yaml"), &agent_settings(paths, shape, node))?;
    let (kubelet, manifests) = (paths.kubelet_config(&node.name), folder.join("manifests"));
    fs::create_dir_all(&manifests).with_context(|| format!("make {}", manifests.display()))?;
    if !kubelet.exists() {
        let settings = format!("{KUBELET_CONFIG}staticPodPath: {}\n", manifests.display());
        write_atomically(&kubelet, settings.as_bytes(), PUBLIC)?;
    }
    if node.role == Role::Agent {
        return Ok(());
    }
    let to_kubelets =
        Leaf { common_name: "kube-apiserver-kubelet-client", organizations: &["system:masters"], ..Leaf::default() };
    leaf(&folder, "apiserver-kubelet-client", &authorities.cluster, &to_kubelets)?;
    leaf(
        &folder,
        "front-proxy-client",
        &authorities.front_proxy,
        &Leaf { common_name: "front-proxy-client", ..Leaf::default() },
    )?;
    write_atomically(&folder.join("front-proxy-ca.crt"), authorities.front_proxy.certificate().as_bytes(), PUBLIC)?;
    write_atomically(&folder.join("ca.key"), authorities.cluster.key().as_bytes(), SECRET)?;
    write_atomically(&folder.join("store-ca.crt"), authorities.store.certificate().as_bytes(), PUBLIC)?;
    let member = Leaf { common_name: &node.name, organizations: &[], dns_names: &names, addresses: &own };
    leaf(&folder, "store", &authorities.store, &member)?;
    let serving = Leaf {
        common_name: "kube-apiserver",
        organizations: &[],
        dns_names: &api_names(&node.name),
        addresses: &[own[0], own[1], IpAddr::V4(KUBERNETES_SERVICE), IpAddr::V4(LINK_ADDRESS)],
    };
    leaf(&folder, "apiserver", &authorities.cluster, &serving)?;
    write_atomically(&folder.join("service-account.key"), service_account.0.as_bytes(), SECRET)?;
    write_atomically(&folder.join("service-account.pub"), service_account.1.as_bytes(), PUBLIC)?;
    write_yaml(&folder.join("server.yaml"), &server_settings(paths, shape, node))
}

/// Names that clients inside and outside the cluster know an API server by.
fn api_names(node: &str) -> Vec<String> {
    let service = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"];
    let qualified = format!("kubernetes.default.svc.{CLUSTER_DOMAIN}");
    service.into_iter().chain([qualified.as_str(), "localhost", node]).map(str::to_owned).collect()
}

fn hosts(shape: &Shape) -> String {
    let lines = shape.nodes().into_iter().map(|node| format!("{} {}\n", node.address, node.name));
    format!("127.0.0.1 localhost\n{}", lines.collect::<String>())
}

fn server_settings(paths: &Paths, shape: &Shape, node: &Node) -> Value {
    let etc = paths.node_etc(&node.name);
    json!({
        "name": node.name,
        "data-dir": paths.node(&node.name).join("store"),
        "advertise-address": node.address,
        "secure-port": API_PORT,
        "store-client-port": STORE_CLIENT_PORT,
        "store-peer-port": STORE_PEER_PORT,
        "initial-cluster": shape.initial_cluster(),
        "store-ca-file": etc.join("store-ca.crt"),
        "store-cert-file": etc.join("store.crt"),
        "store-key-file": etc.join("store.key"),
        "client-ca-file": etc.join("ca.crt"),
        "cluster-signing-cert-file": etc.join("ca.crt"),
        "cluster-signing-key-file": etc.join("ca.key"),
        "tls-cert-file": etc.join("apiserver.crt"),
        "tls-private-key-file": etc.join("apiserver.key"),
        "service-account-signing-key-file": etc.join("service-account.key"),
        "kubelet-client-certificate-file": etc.join("apiserver-kubelet-client.crt"),
        "kubelet-client-key-file": etc.join("apiserver-kubelet-client.key"),
        "proxy-client-cert-file": etc.join("front-proxy-client.crt"),
        "proxy-client-key-file": etc.join("front-proxy-client.key"),
        "requestheader-client-ca-file": etc.join("front-proxy-ca.crt"),
        "encryption-provider-config": etc.join(ENCRYPTION),
        "encryption-provider-config-automatic-reload": true,
        "service-cluster-ip-range": SERVICE_CIDR,
        "cluster-cidr": POD_CIDR,
        "cluster-domain": CLUSTER_DOMAIN,
    })
}

fn agent_settings(paths: &Paths, shape: &Shape, node: &Node) -> Value {
    let etc = paths.node_etc(&node.name);
    let data = paths.node(&node.name);
    let (labels, taints) = match node.role {
        // Its role is no label that a node may give itself: the controllers do, by the taint.
        Role::Server => {
            ("node.kubernetes.io/exclude-from-external-load-balancers=", "node-role.kubernetes.io/control-plane=:NoSchedule")
        }
        Role::Agent => ("", ""),
    };
    let own = shape.extras(&node.name).labels.into_iter().map(|(key, value)| format!("{key}={value}"));
    let labels: Vec<String> = Some(labels.to_owned()).filter(|labels| !labels.is_empty()).into_iter().chain(own).collect();
    json!({
        "node-name": node.name,
        "node-ip": node.address,
        "servers": shape.api_servers().join(","),
        "data-dir": data.join("agent"),
        "log-dir": data.join("log/pods"),
        "cgroup-root": paths.node_cgroup(&node.name),
        "ca-file": etc.join("ca.crt"),
        "cert-file": etc.join("kubelet.crt"),
        "key-file": etc.join("kubelet.key"),
        "node-labels": labels.join(","),
        "register-with-taints": taints,
        "cluster-dns": CLUSTER_DNS,
        "cluster-cidr": POD_CIDR,
        "cluster-domain": CLUSTER_DOMAIN,
        "port": KUBELET_PORT,
        // The host's resolvers cannot be reached from the nodes: other names than the cluster's have no answer.
        "resolv-conf": etc.join("resolv.conf"),
        "kubelet-config": paths.kubelet_config(&node.name),
        "registries-file": etc.join("registries.yaml"),
        "image-proxy": format!("http://{LINK_ADDRESS}:{EGRESS_PORT}"),
    })
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    write_atomically(path, serde_json::to_string_pretty(value)?.as_bytes(), PUBLIC)
}

fn write_yaml(path: &Path, value: &Value) -> Result<()> {
    write_atomically(path, serde_norway::to_string(value)?.as_bytes(), PUBLIC)
}
