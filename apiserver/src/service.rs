//! The API server: options in, a handle out, and the one way of every request.
//!
//! authenticate -> authorize -> handler (admit, default, validate, commit). A request that comes in
//! by [`Handle::call`] is authenticated already; all the rest is the same.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderMap, Request, Response};
use jiff::Timestamp;
use kontiki_api::{
    registry::{self, Resource},
    resources::{COMPONENT_STATUSES, PODS, SERVICE_ACCOUNTS},
    status::Status,
};
use kontiki_store::kv::Kv;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    addresses::ServiceNetwork,
    admission::{self, Chain, Operation},
    aggregation::{self, Aggregator},
    audit,
    auth::{Authenticator, StoredObjects, UserInfo, impersonation::Impersonation},
    authorization::{self, Attributes, Authorizer},
    cache,
    encryption::Encryption,
    flowcontrol::{self, Gate},
    handlers::{
        component_status, delete, encode, paths, read, scale, subresource,
        watch::{self, limit::Watches},
        write,
    },
    limits::{self, REQUESTS_MAX},
    metrics::Metrics,
    negotiate, pretty, proxy,
    request::RequestInfo,
    resource_metrics,
    response::{self, Body},
    storage::{self, Storage},
};

/// Headers that say how a request was sorted.
const FLOW_SCHEMA_UID: &str = "x-kubernetes-pf-flowschema-uid";
const PRIORITY_LEVEL_UID: &str = "x-kubernetes-pf-prioritylevel-uid";

/// What an API server needs.
#[derive(Clone)]
pub struct Options {
    /// The store.
    pub kv: Arc<dyn Kv>,
    /// Address and port that clients are told.
    pub advertise: std::net::SocketAddr,
    /// Network of Services.
    pub service_network: ServiceNetwork,
    /// Keys that sign and verify service-account tokens.
    pub service_account_keys: Arc<crate::auth::keys::Keys>,
    /// Issuer of those tokens.
    pub issuer: String,
    /// The audit log, if there is one.
    pub audit: Option<audit::Log>,
    /// The way to the nodes; without it there are no logs and no commands.
    pub kubelet: Option<Arc<crate::kubelet::KubeletClient>>,
    /// How objects lie in the store.
    pub encryption: Encryption,
    /// What servers that extend this one are told about trust.
    pub trust: aggregation::Trust,
}

impl Options {
    /// Address that discovery tells.
    #[must_use]
    pub fn advertise_address(&self) -> String {
        self.advertise.to_string()
    }
}

/// A request on its way, authenticated.
pub struct Call {
    /// Who asks.
    pub user: UserInfo,
    /// What is asked.
    pub info: RequestInfo,
    /// Headers.
    pub headers: HeaderMap,
    /// Body, within the limit.
    pub body: Bytes,
    /// The connection itself, for a request that takes it over.
    pub upgrade: Mutex<Option<hyper::upgrade::OnUpgrade>>,
    /// The body of a request that is passed on as it comes.
    pub streamed: Option<Arc<proxy::StreamedBody>>,
    /// Who is at the other end of the connection.
    pub peer: Option<std::net::IpAddr>,
}

/// The parts of a running API server.
pub struct ApiServer {
    /// Options.
    pub options: Options,
    /// Objects.
    pub storage: Storage,
    /// What users may do.
    pub authorizer: Arc<Authorizer>,
    /// What every write must pass.
    pub admission: Chain,
    /// Users.
    pub authenticator: Authenticator,
    /// What `/metrics` shows.
    pub metrics: Mutex<Registry>,
    /// Ends watches.
    pub shutdown: CancellationToken,
    /// Open watches.
    pub watches: Arc<Watches>,
    /// What others serve.
    pub aggregator: Aggregator,
    /// What nodes and pods use.
    pub resource_metrics: resource_metrics::Collector,
    counters: Metrics,
    gate: Arc<Gate>,
    bootstrapped: std::sync::atomic::AtomicBool,
}

/// The way into an API server in this process. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    server: Arc<ApiServer>,
}

/// Starts an API server's caches and background work; [`crate::server::serve`] opens its port.
#[must_use]
pub fn start(options: Options, metrics: Registry, shutdown: CancellationToken) -> Handle {
    let caches = cache::start(Arc::clone(&options.kv), options.encryption.clone(), shutdown.clone());
    let storage = Storage {
        kv: Arc::clone(&options.kv),
        caches,
        encryption: options.encryption.clone(),
        cut_off: storage::cut_off::follow(options.kv.leadership(), shutdown.clone()),
    };
    tokio::spawn(crate::compaction::run(Arc::clone(&options.kv), shutdown.clone()));
    let authorizer = authorization::follow::start(Arc::clone(&storage.caches), shutdown.clone());
    let objects = Arc::new(StoredObjects { storage: storage.clone() });
    let keys = Arc::clone(&options.service_account_keys);
    crate::auth::token_secrets::start(storage.clone(), Arc::clone(&keys), shutdown.clone());
    let authenticator = Authenticator::new(keys, options.issuer.clone(), Vec::new(), objects);
    let authenticator = authenticator.with_front_proxy(options.trust.front_proxy.clone());
    let mut metrics = metrics;
    let counters = Metrics::register(&mut metrics);
    authenticator.metrics.register(&mut metrics);
    if let Some(log) = &options.audit {
        log.register(&mut metrics);
    }
    let gate = Arc::new(Gate::new(REQUESTS_MAX, &mut metrics));
    flowcontrol::start(Arc::clone(&storage.caches), Arc::clone(&gate), shutdown.clone());
    let collector = resource_metrics::Collector::start(storage.clone(), options.kubelet.clone(), shutdown.clone());
    let server = ApiServer {
        options,
        storage,
        authorizer,
        admission: Chain::new(admission::plugins()),
        authenticator,
        metrics: Mutex::new(metrics),
        shutdown,
        watches: Arc::default(),
        aggregator: Aggregator::begin(),
        resource_metrics: collector,
        counters,
        gate,
        bootstrapped: false.into(),
    };
    let handle = Handle { server: Arc::new(server) };
    tokio::spawn(crate::custom::controller::run(handle.clone(), handle.server.shutdown.clone()));
    tokio::spawn(crate::policy::status::run(Arc::clone(&handle.server), handle.server.shutdown.clone()));
    tokio::spawn(aggregation::register::run(handle.clone(), handle.server.shutdown.clone()));
    tokio::spawn(aggregation::follow::run(handle.clone(), handle.server.shutdown.clone()));
    handle
}

impl Handle {
    /// Answers a request of that user: the door for components in this process.
    pub async fn call(&self, user: UserInfo, request: Request<Bytes>) -> Response<Body> {
        let (mut head, body) = request.into_parts();
        let info = RequestInfo::parse(&head.method, &head.uri);
        let upgrade = Mutex::new(head.extensions.remove::<hyper::upgrade::OnUpgrade>());
        let streamed = head.extensions.remove::<Arc<proxy::StreamedBody>>();
        let peer = head.extensions.get::<std::net::SocketAddr>().map(std::net::SocketAddr::ip);
        self.server.handle(Call { user, info, headers: head.headers, body, upgrade, streamed, peer }).await
    }

    /// The server itself.
    #[must_use]
    pub fn server(&self) -> &Arc<ApiServer> {
        &self.server
    }

    /// Says that what a cluster needs from its first moment is there.
    pub fn set_bootstrapped(&self) {
        self.server.bootstrapped.store(true, std::sync::atomic::Ordering::Release);
    }
}

impl ApiServer {
    async fn handle(&self, mut call: Call) -> Response<Body> {
        let began = std::time::Instant::now();
        let labels = self.counters.labels(&call.info, self.serves(&call.info));
        let record = self.begin_record(&call);
        let work = std::panic::AssertUnwindSafe(self.admitted(&mut call)).catch_unwind();
        let response = match work.await {
            Ok(Ok(response)) => response,
            Ok(Err(status)) => encode::status(&status, &negotiate::accept_status(&call.headers)),
            Err(_) => {
                self.counters.count_panic();
                response::status(&Status::internal_error("this request caused apiserver to panic. Look in the logs for details"))
            }
        };
        self.counters.count(labels, response.status(), began.elapsed());
        let response = match record {
            Some(record) => self.end_record(record, &call, response).await,
            None => response,
        };
        // What others answer passes as it is.
        if self.passes_on(&call.info) {
            return response;
        }
        let response = if pretty::is_wanted(&call.info, &call.headers) { pretty::indented(response).await } else { response };
        response::compress(&call.headers, response)
    }

    /// Who speaks, and when it is their turn.
    async fn admitted(&self, call: &mut Call) -> Result<Response<Body>, Status> {
        if let Some(other) = Impersonation::of(&call.headers)? {
            for need in other.needs() {
                self.authorize(&call.user, &need).await?;
            }
            call.user = other.user();
        }
        let class = self.gate.classify(&call.user, &call.info);
        let mut answer = match self.limited(call, &class).await {
            Ok(response) => response,
            Err(status) => encode::status(&status, &negotiate::accept_status(&call.headers)),
        };
        for (name, uid) in [(FLOW_SCHEMA_UID, &class.schema_uid), (PRIORITY_LEVEL_UID, &class.level_uid)] {
            if let Ok(value) = http::HeaderValue::from_str(uid) {
                answer.headers_mut().insert(name, value);
            }
        }
        Ok(answer)
    }

    async fn limited(&self, call: &Call, class: &flowcontrol::Class) -> Result<Response<Body>, Status> {
        if matches!(call.info.subresource.as_str(), "log" | "exec" | "attach" | "portforward" | "proxy") {
            return self.authorized(call).await;
        }
        let permit = self.gate.enter(class, flowcontrol::seats(&call.info, &self.storage)).await?;
        // A watch holds its seat until its answer begins, for as long as it likes.
        let answer = if call.info.verb == "watch" {
            self.authorized(call).await
        } else {
            let late = |_| Status::timeout("request did not complete within the allotted timeout", 0);
            let deadline = limits::deadline(call.info.parameter("timeout"))?;
            tokio::time::timeout(deadline, self.authorized(call)).await.map_err(late)?
        };
        drop(permit);
        answer
    }

    async fn authorized(&self, call: &Call) -> Result<Response<Body>, Status> {
        self.authorize(&call.user, &Attributes::of_request(&call.info)).await?;
        if let Some(extension) = self.aggregator.table().of_path(&call.info.path) {
            return aggregation::forward::answer(self, call, extension).await;
        }
        if !call.info.is_resource {
            return paths::answer(self, call).await;
        }
        let info = &call.info;
        let resource = self.find(&info.group, &info.version, &info.resource).await?;
        if !resource.key.namespaced && resource.strategy.custom().is_some() && !info.namespace.is_empty() {
            return Err(Status::no_such_path());
        }
        if !info.subresource.is_empty() {
            return self.subresource(call, resource).await;
        }
        let onto_object = info.verb == "create" && !info.name.is_empty();
        if onto_object || !resource.verbs.contains(&info.verb.as_str()) {
            return Err(Status::method_not_allowed());
        }
        if resource.key == COMPONENT_STATUSES {
            return component_status::answer(self, call, resource);
        }
        if !resource.is_stored() {
            return self.review(call, resource).await;
        }
        match info.verb.as_str() {
            "get" => read::get(self, call, resource).await,
            "list" => read::list(self, call, resource).await,
            "watch" => watch::run(self, call, resource).await,
            "create" => {
                if resource.strategy.custom().is_some_and(|served| served.definition.is_terminating) {
                    let message = "create not allowed while custom resource definition is terminating";
                    return Err(Status::failure(405, "MethodNotAllowed", message));
                }
                write::create(self, call, resource).await
            }
            "update" => write::update(self, call, resource, write::Part::Main).await,
            "patch" => write::patch(self, call, resource, write::Part::Main).await,
            "delete" => delete::one(self, call, resource).await,
            "deletecollection" => delete::collection(self, call, resource).await,
            _ => Err(Status::method_not_allowed()),
        }
    }

    /// Lets a user do something, or says that it may not. A refusal is checked again once everything that was written
    /// before it is known here: the role or the pod that it is about may have come a moment ago, by another server.
    pub async fn authorize(&self, user: &UserInfo, attributes: &Attributes) -> Result<(), Status> {
        if self.authorizer.authorize(user, attributes).is_allowed() {
            return Ok(());
        }
        if let Ok(revision) = self.storage.catch_up().await {
            self.authorizer.settled(revision).await;
        }
        match self.authorizer.authorize(user, attributes) {
            authorization::Decision::Allowed(_) => Ok(()),
            authorization::Decision::Denied(reason) => Err(attributes.forbidden(user, &reason)),
        }
    }

    /// The resource that a path names. One that this server does not know may be of a definition that it has not heard
    /// of yet.
    pub async fn find(&self, group: &str, version: &str, plural: &str) -> Result<&'static Resource, Status> {
        let known = || registry::find(group, version, plural).or_else(|| self.storage.caches.custom.find(group, version, plural));
        if let Some(resource) = known() {
            return Ok(resource);
        }
        if group.contains('.') {
            self.storage.catch_up().await?;
        }
        known().ok_or_else(Status::no_such_path)
    }

    async fn subresource(&self, call: &Call, resource: &'static Resource) -> Result<Response<Body>, Status> {
        let info = &call.info;
        if info.subresource == "proxy" {
            return proxy::answer(self, call, resource).await;
        }
        let part = resource.subresource(&info.subresource).ok_or_else(Status::no_such_path)?;
        if !part.verbs.contains(&info.verb.as_str()) {
            return Err(Status::method_not_allowed());
        }
        match (part.name, info.verb.as_str()) {
            ("scale", _) => scale::answer(self, call, resource).await,
            ("binding", _) => subresource::bind(self, call, &info.name).await,
            ("eviction", _) if resource.key == PODS => crate::eviction::evict(self, call, resource).await,
            ("token", _) if resource.key == SERVICE_ACCOUNTS => {
                let mut request = review_body(call)?;
                self.admit(call, resource, Operation::Create, &mut request).await?;
                let now = Timestamp::now();
                let answer =
                    crate::auth::token_request::answer(&self.authenticator, &info.namespace, &info.name, request, now).await?;
                encode::value_in(http::StatusCode::CREATED, &answer, &negotiate::accept_without_tables(&call.headers)?)
            }
            ("log", _) if resource.key == PODS => crate::kubelet::logs(self, call).await,
            ("exec" | "attach", _) if resource.key == PODS => {
                self.admit(call, resource, Operation::Connect, &mut connect_options(part.kind, &call.info)).await?;
                crate::kubelet::session(self, call, part.name).await
            }
            ("portforward", _) if resource.key == PODS => {
                self.admit(call, resource, Operation::Connect, &mut connect_options(part.kind, &call.info)).await?;
                crate::kubelet::port_forward(self, call).await
            }
            // What leads to a node or a pod is no part of the object.
            _ if part.kind.ends_with("Options") => Err(Status::no_such_path()),
            (_, "get") => read::get(self, call, resource).await,
            (name, "update") => write::update(self, call, resource, write::Part::of(name)).await,
            (name, "patch") => write::patch(self, call, resource, write::Part::of(name)).await,
            _ => Err(Status::method_not_allowed()),
        }
    }

    /// Admission of what is not stored: connections, tokens and reviews.
    async fn admit(
        &self,
        call: &Call,
        resource: &'static Resource,
        operation: Operation,
        object: &mut Value,
    ) -> Result<(), Status> {
        let request = admission::Request::of(call, resource, operation, &call.info.name)?;
        self.admission.admit(self, &request, object, &Value::Null).await
    }

    async fn review(&self, call: &Call, resource: &'static Resource) -> Result<Response<Body>, Status> {
        let key = &resource.key;
        if key.kind == "Binding" {
            return subresource::bind(self, call, "").await;
        }
        let accepted = negotiate::accept_without_tables(&call.headers)?;
        let mut review = review_body(call)?;
        self.admit(call, resource, Operation::Create, &mut review).await?;
        let answer = if key.group == "authentication.k8s.io" {
            crate::auth::reviews::answer(&self.authenticator, key, &call.user, review, Timestamp::now()).await?
        } else {
            authorization::reviews::answer(&self.authorizer, key, &call.info.namespace, &call.user, review)?
        };
        encode::value_in(http::StatusCode::CREATED, &answer, &accepted)
    }

    /// Whether what a cluster needs from its first moment is there.
    #[must_use]
    pub fn is_bootstrapped(&self) -> bool {
        self.bootstrapped.load(std::sync::atomic::Ordering::Acquire)
    }
}

fn review_body(call: &Call) -> Result<Value, Status> {
    serde_json::from_slice(&write::json_body(call)?).map_err(|error| Status::bad_request(error.to_string()))
}

/// What a connection asks for, as an object of the kind that the subresource names.
fn connect_options(kind: &str, info: &RequestInfo) -> Value {
    let mut options = json!({ "kind": kind, "apiVersion": "v1" });
    for (name, value) in &info.repeated {
        match (name.as_str(), value.as_str()) {
            ("command", word) => {
                let mut words = options["command"].as_array().cloned().unwrap_or_default();
                words.push(json!(word));
                options["command"] = Value::Array(words);
            }
            (name, "true" | "1") => options[name] = json!(true),
            (name, "false" | "0") => options[name] = json!(false),
            (name, text) => options[name] = json!(text),
        }
    }
    options
}

impl RequestInfo {
    /// The namespace where the resource has one: a namespace itself lies in none.
    #[must_use]
    pub fn namespace_of(&self, resource: &Resource) -> &str {
        if resource.key.namespaced { &self.namespace } else { "" }
    }
}

/// How long a server that is told to end lets requests finish.
pub const DRAIN: Duration = Duration::from_secs(2);
