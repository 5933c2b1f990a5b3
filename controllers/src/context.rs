//! What the controllers share while they lead: one reflector for each kind, and who is told of its changes.

use std::sync::Arc;

use kontiki_api::resources::{
    CONFIG_MAPS, DEPLOYMENTS, ENDPOINT_SLICES, LEASES, NAMESPACES, NODES, PODS, REPLICA_SETS, SERVICE_ACCOUNTS, SERVICES,
};
use kontiki_client::{
    Client,
    events::Recorder,
    queue::WorkQueue,
    reflector::{Change, ObjectKey, Reflector, ReflectorOptions},
};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::{
    Options, deployment, endpoint_slice, garbage,
    model::{Bare, Meta, Pod, Workload, matches},
    namespace, node_ipam, node_lifecycle, replica_set,
    run::Queue,
    service_account,
};

/// The shared part.
pub struct Context {
    /// Options.
    pub options: Options,
    /// Records events.
    pub recorder: Recorder,
    /// Pods.
    pub pods: Reflector<Pod>,
    /// ReplicaSets.
    pub replica_sets: Reflector<Workload>,
    /// Deployments.
    pub deployments: Reflector<Workload>,
    /// Services.
    pub services: Reflector<endpoint_slice::Service>,
    /// EndpointSlices.
    pub endpoint_slices: Reflector<endpoint_slice::Slice>,
    /// Namespaces.
    pub namespaces: Reflector<namespace::Namespace>,
    /// ServiceAccounts.
    pub service_accounts: Reflector<Bare>,
    /// ConfigMaps.
    pub config_maps: Reflector<service_account::ConfigMap>,
    /// Nodes.
    pub nodes: Reflector<node_lifecycle::Node>,
    /// Leases of nodes.
    pub leases: Reflector<node_lifecycle::Lease>,
}

impl Context {
    /// The API.
    pub fn client(&self) -> &Client {
        &self.options.client
    }
}

struct Queues {
    replica_sets: Queue,
    deployments: Queue,
    services: Queue,
    namespaces: Queue,
    accounts: Queue,
    nodes: Queue,
    node_health: Queue,
}

impl Queues {
    fn new() -> Self {
        let queue = |name| Arc::new(WorkQueue::new(name));
        Self {
            replica_sets: queue("replicaset"),
            deployments: queue("deployment"),
            services: queue("endpoint_slice"),
            namespaces: queue("namespace"),
            accounts: queue("serviceaccount"),
            nodes: queue("node_ipam"),
            node_health: queue("node_lifecycle"),
        }
    }
}

/// Every version of an object that a change is about.
fn versions<T>(change: &Change<T>) -> impl Iterator<Item = &Arc<T>> {
    change.old.iter().chain(&change.new)
}

fn owner_key(meta: &Meta, kind: &str) -> Option<ObjectKey> {
    let owner = meta.controller().filter(|owner| owner.kind == kind)?;
    Some(ObjectKey::new(meta.namespace.clone(), owner.name.clone()))
}

/// Runs every controller until `cancel`.
pub async fn lead(options: Options, cancel: CancellationToken) {
    let queues = Arc::new(Queues::new());
    let context = Arc::new(follow(options, &queues, &cancel));
    let reflectors = async {
        tokio::join!(
            context.pods.synced(),
            context.replica_sets.synced(),
            context.deployments.synced(),
            context.services.synced(),
            context.endpoint_slices.synced(),
            context.namespaces.synced(),
            context.service_accounts.synced(),
            context.config_maps.synced(),
            context.nodes.synced(),
            context.leases.synced(),
        )
    };
    // What is decided on half a picture would be wrong.
    tokio::select! {
        _ = reflectors => {}
        () = cancel.cancelled() => return,
    }
    tokio::join!(
        replica_set::run(Arc::clone(&context), Arc::clone(&queues.replica_sets), cancel.clone()),
        deployment::run(Arc::clone(&context), Arc::clone(&queues.deployments), cancel.clone()),
        endpoint_slice::run(Arc::clone(&context), Arc::clone(&queues.services), cancel.clone()),
        namespace::run(Arc::clone(&context), Arc::clone(&queues.namespaces), cancel.clone()),
        service_account::run(Arc::clone(&context), Arc::clone(&queues.accounts), cancel.clone()),
        node_ipam::run(Arc::clone(&context), Arc::clone(&queues.nodes), cancel.clone()),
        node_lifecycle::run(Arc::clone(&context), Arc::clone(&queues.node_health), cancel.clone()),
        garbage::run(Arc::clone(&context), cancel.clone()),
    );
}

fn follow(options: Options, queues: &Arc<Queues>, cancel: &CancellationToken) -> Context {
    let client = options.client.clone();
    let recorder = Recorder::start(client.clone(), "kube-controller-manager", "", cancel.clone());
    let with = |tell: fn(&Queues, &Meta)| {
        let queues = Arc::clone(queues);
        move |meta: &Meta| tell(&queues, meta)
    };
    fn start<T: DeserializeOwned + Send + Sync + 'static>(
        client: &Client,
        key: kontiki_api::resources::ResourceKey,
        namespace: &str,
        meta: fn(&T) -> &Meta,
        tell: impl Fn(&Meta) + Send + Sync + 'static,
        cancel: &CancellationToken,
    ) -> Reflector<T> {
        let options = ReflectorOptions { namespace: namespace.to_owned(), ..ReflectorOptions::default() };
        let on_change = move |change: &Change<T>| versions(change).for_each(|object| tell(meta(object)));
        Reflector::start(client.clone(), key, options, on_change, cancel.clone())
    }
    let replica_sets = start(
        &client,
        REPLICA_SETS,
        "",
        |set: &Workload| &set.metadata,
        with(|queues, meta| {
            queues.replica_sets.add(meta.key());
            owner_key(meta, "Deployment").into_iter().for_each(|key| queues.deployments.add(key));
        }),
        cancel,
    );
    let deployments = start(
        &client,
        DEPLOYMENTS,
        "",
        |deployment: &Workload| &deployment.metadata,
        with(|queues, meta| queues.deployments.add(meta.key())),
        cancel,
    );
    let services = start(
        &client,
        SERVICES,
        "",
        |service: &endpoint_slice::Service| &service.metadata,
        with(|queues, meta| queues.services.add(meta.key())),
        cancel,
    );
    let endpoint_slices = start(
        &client,
        ENDPOINT_SLICES,
        "",
        |slice: &endpoint_slice::Slice| &slice.metadata,
        with(|queues, meta| {
            if let Some(service) = meta.labels.get(endpoint_slice::SERVICE_NAME) {
                queues.services.add(ObjectKey::new(meta.namespace.clone(), service.clone()));
            }
        }),
        cancel,
    );
    let namespaces = start(
        &client,
        NAMESPACES,
        "",
        |namespace: &namespace::Namespace| &namespace.metadata,
        with(|queues, meta| {
            queues.namespaces.add(meta.key());
            queues.accounts.add(ObjectKey::new("", meta.name.clone()));
        }),
        cancel,
    );
    let account = |queues: &Queues, meta: &Meta| queues.accounts.add(ObjectKey::new("", meta.namespace.clone()));
    let service_accounts = start(&client, SERVICE_ACCOUNTS, "", |object: &Bare| &object.metadata, with(account), cancel);
    let config_maps =
        start(&client, CONFIG_MAPS, "", |object: &service_account::ConfigMap| &object.metadata, with(account), cancel);
    let nodes = start(
        &client,
        NODES,
        "",
        |node: &node_lifecycle::Node| &node.metadata,
        with(|queues, meta| {
            queues.nodes.add(meta.key());
            queues.node_health.add(meta.key());
        }),
        cancel,
    );
    let leases = start(
        &client,
        LEASES,
        "kube-node-lease",
        |lease: &node_lifecycle::Lease| &lease.metadata,
        with(|queues, meta| queues.node_health.add(ObjectKey::new("", meta.name.clone()))),
        cancel,
    );
    let pods = follow_pods(&client, queues, replica_sets.clone(), services.clone(), cancel);
    Context {
        options,
        recorder,
        pods,
        replica_sets,
        deployments,
        services,
        endpoint_slices,
        namespaces,
        service_accounts,
        config_maps,
        nodes,
        leases,
    }
}

/// A pod's change matters to its ReplicaSet, or to those that might adopt it, and to the Services that select it.
fn follow_pods(
    client: &Client,
    queues: &Arc<Queues>,
    replica_sets: Reflector<Workload>,
    services: Reflector<endpoint_slice::Service>,
    cancel: &CancellationToken,
) -> Reflector<Pod> {
    let queues = Arc::clone(queues);
    let on_change = move |change: &Change<Pod>| {
        for pod in versions(change) {
            let meta = &pod.metadata;
            let near = |namespace: &str| *namespace == meta.namespace;
            match owner_key(meta, "ReplicaSet") {
                Some(key) => queues.replica_sets.add(key),
                None if meta.controller().is_none() => {
                    let sets = replica_sets.list();
                    let sets = sets.iter().filter(|set| near(&set.metadata.namespace));
                    let adopting = sets.filter(|set| matches(&set.spec.selector, &meta.labels));
                    adopting.for_each(|set| queues.replica_sets.add(set.metadata.key()));
                }
                None => {}
            }
            let all = services.list();
            let selecting = all.iter().filter(|service| near(&service.metadata.namespace) && service.selects(&meta.labels));
            selecting.for_each(|service| queues.services.add(service.metadata.key()));
        }
    };
    Reflector::start(client.clone(), PODS, ReflectorOptions::default(), on_change, cancel.clone())
}
