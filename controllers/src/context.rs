//! What the controllers share while they lead: one reflector for each kind.

use std::sync::Arc;

use kontiki_api::resources::{
    CONFIG_MAPS, CONTROLLER_REVISIONS, CRON_JOBS, DAEMON_SETS, DEPLOYMENTS, ENDPOINT_SLICES, ENDPOINTS,
    HORIZONTAL_POD_AUTOSCALERS, IP_ADDRESSES, JOBS, LEASES, NAMESPACES, NODES, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES,
    POD_DISRUPTION_BUDGETS, PODS, REPLICA_SETS, REPLICATION_CONTROLLERS, SERVICE_ACCOUNTS, SERVICE_CIDRS, SERVICES,
    STATEFUL_SETS, STORAGE_CLASSES,
};
use kontiki_client::{
    Client,
    events::Recorder,
    reflector::{Reflector, ReflectorOptions},
};
use tokio_util::sync::CancellationToken;

use crate::{
    CONTROLLERS, Options,
    autoscaler::HorizontalPodAutoscaler,
    cron_job::CronJob,
    daemon_set::DaemonSet,
    disruption::PodDisruptionBudget,
    endpoint_slice::{Service, Slice},
    endpoints::Endpoints,
    job::Job,
    model::{Bare, Meta, Object, Pod, ReplicationController, Workload},
    namespace::Namespace,
    node_lifecycle::{Lease, Node},
    revisions::ControllerRevision,
    service_account::ConfigMap,
    service_cidrs::{IpAddress, ServiceCidr},
    shared::{Followed, Shared},
    stateful_set::StatefulSet,
    volume::{Claim, StorageClass, Volume},
};

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident: $kind:ty = $key:expr, $options:expr, $index:expr;)*) => {
        /// The shared part.
        pub struct Context {
            /// Options.
            pub options: Options,
            /// Records events.
            pub recorder: Recorder,
            $($(#[$doc])* pub $name: Shared<$kind>,)*
        }

        impl Context {
            fn new(options: Options, cancel: &CancellationToken) -> Self {
                let client = options.client.clone();
                let recorder = Recorder::start(client.clone(), "kube-controller-manager", "", cancel.clone());
                Self { $($name: Shared::with(&client, $key, $options, $index),)* options, recorder }
            }

            /// Every kind that is followed.
            pub fn followed(&self) -> Vec<&dyn Followed> {
                vec![$(&self.$name),*]
            }
        }
    };
}

fn all() -> ReflectorOptions {
    ReflectorOptions::default()
}

fn within(namespace: &str) -> ReflectorOptions {
    ReflectorOptions { namespace: namespace.to_owned(), ..ReflectorOptions::default() }
}

fn no_words<T>(_: &T) -> Vec<String> {
    Vec::new()
}

kinds! {
    /// Pods, by owner, by node, by claim; those without an owner by namespace.
    pods: Pod = PODS, all(), pod_words;
    /// ReplicaSets, by owner.
    replica_sets: Workload = REPLICA_SETS, all(), owner_words;
    /// ReplicationControllers.
    replication_controllers: ReplicationController = REPLICATION_CONTROLLERS, all(), no_words;
    /// Deployments.
    deployments: Workload = DEPLOYMENTS, all(), no_words;
    /// DaemonSets.
    daemon_sets: DaemonSet = DAEMON_SETS, all(), no_words;
    /// StatefulSets.
    stateful_sets: StatefulSet = STATEFUL_SETS, all(), no_words;
    /// ControllerRevisions, by owner.
    controller_revisions: ControllerRevision = CONTROLLER_REVISIONS, all(), owner_words;
    /// Jobs, by owner.
    jobs: Job = JOBS, all(), owner_words;
    /// CronJobs.
    cron_jobs: CronJob = CRON_JOBS, all(), no_words;
    /// PodDisruptionBudgets.
    budgets: PodDisruptionBudget = POD_DISRUPTION_BUDGETS, all(), no_words;
    /// HorizontalPodAutoscalers.
    autoscalers: HorizontalPodAutoscaler = HORIZONTAL_POD_AUTOSCALERS, all(), no_words;
    /// Services.
    services: Service = SERVICES, all(), no_words;
    /// EndpointSlices.
    endpoint_slices: Slice = ENDPOINT_SLICES, all(), service_words;
    /// Endpoints.
    endpoints: Endpoints = ENDPOINTS, all(), no_words;
    /// Namespaces.
    namespaces: Namespace = NAMESPACES, all(), no_words;
    /// ServiceAccounts.
    service_accounts: Bare = SERVICE_ACCOUNTS, all(), no_words;
    /// ConfigMaps.
    config_maps: ConfigMap = CONFIG_MAPS, all(), no_words;
    /// ServiceCIDRs.
    service_cidrs: ServiceCidr = SERVICE_CIDRS, all(), no_words;
    /// IPAddresses.
    ip_addresses: IpAddress = IP_ADDRESSES, all(), no_words;
    /// Nodes.
    nodes: Node = NODES, all(), no_words;
    /// Leases of nodes.
    leases: Lease = LEASES, within("kube-node-lease"), no_words;
    /// PersistentVolumes.
    volumes: Volume = PERSISTENT_VOLUMES, all(), no_words;
    /// PersistentVolumeClaims.
    claims: Claim = PERSISTENT_VOLUME_CLAIMS, all(), no_words;
    /// StorageClasses.
    storage_classes: StorageClass = STORAGE_CLASSES, all(), no_words;
}

fn owner_word(uid: &str) -> String {
    format!("owner/{uid}")
}

fn orphan_word(namespace: &str) -> String {
    format!("orphan/{namespace}")
}

fn owner_words<T: Object>(object: &T) -> Vec<String> {
    let meta = object.metadata();
    vec![meta.controller().map_or_else(|| orphan_word(&meta.namespace), |owner| owner_word(&owner.uid))]
}

fn service_words(slice: &Slice) -> Vec<String> {
    let service = slice.metadata.label(crate::endpoint_slice::SERVICE_NAME);
    vec![format!("service/{}/{service}", slice.metadata.namespace)]
}

fn pod_words(pod: &Pod) -> Vec<String> {
    let mut words = owner_words(pod);
    if !pod.spec.node_name.is_empty() {
        words.push(format!("node/{}", pod.spec.node_name));
    }
    words.extend(pod.claims().map(|claim| format!("claim/{claim}")));
    words
}

/// Objects that an owner manages, and those near it that nobody does.
pub fn near<T: Object + serde::de::DeserializeOwned>(reflector: &Reflector<T>, owner: &Meta) -> Vec<Arc<T>> {
    let mut found = reflector.indexed(&owner_word(&owner.uid));
    found.extend(reflector.indexed(&orphan_word(&owner.namespace)));
    found
}

/// Objects that an owner manages.
pub fn owned<T: Object + serde::de::DeserializeOwned>(reflector: &Reflector<T>, owner: &Meta) -> Vec<Arc<T>> {
    reflector.indexed(&owner_word(&owner.uid))
}

impl Context {
    /// The API.
    pub fn client(&self) -> &Client {
        &self.options.client
    }

    /// Pods bound to a node.
    pub fn pods_on(&self, node: &str) -> Vec<Arc<Pod>> {
        self.pods.indexed(&format!("node/{node}"))
    }

    /// Pods that use a claim.
    pub fn pods_with(&self, claim: &Meta) -> Vec<Arc<Pod>> {
        self.pods.indexed(&format!("claim/{}", claim.key()))
    }

    /// EndpointSlices that a Service's label is on.
    pub fn slices_of(&self, namespace: &str, service: &str) -> Vec<Arc<Slice>> {
        self.endpoint_slices.indexed(&format!("service/{namespace}/{service}"))
    }
}

/// Runs every controller until `cancel`.
pub async fn lead(options: Options, cancel: CancellationToken) {
    let context = Arc::new(Context::new(options, &cancel));
    let controllers: Vec<_> = CONTROLLERS.iter().map(|start| start(&context, cancel.clone())).collect();
    let followed = context.followed();
    followed.iter().for_each(|kind| kind.start(cancel.clone()));
    let synced = futures::future::join_all(followed.iter().map(|kind| kind.synced()));
    // What is decided on half a picture would be wrong.
    tokio::select! {
        _ = synced => {}
        () = cancel.cancelled() => return,
    }
    futures::future::join_all(controllers).await;
}
