//! create, update and patch.

use http::{Response, StatusCode, header};
use jiff::Timestamp;
use kontiki_api::{
    field::FieldError,
    managed,
    object::{self, Encoded, meta},
    patch::PatchType,
    protobuf,
    registry::Resource,
    status::Status,
};
use serde_json::{Value, json};

use super::{allocation::Allocation, apply, encode, options, ownership, yaml};
use crate::{
    addresses,
    admission::{Operation, Request},
    authorization::Attributes,
    limits::EVENT_SECONDS,
    negotiate,
    response::{self, Body},
    service::{ApiServer, Call},
    storage::{Guard, Outcome, Written, store_failure},
};

/// How often another name is made up.
const NAME_ATTEMPTS: u32 = 8;
/// Patches that are taken.
const PATCH_TYPES: [&str; 4] =
    ["application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json", apply::MEDIA_TYPE];

/// Which part of an object a write is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Everything but status.
    Main,
    /// Status.
    Status,
    /// A namespace's finalizers.
    Finalize,
    /// What another subresource names, such as a request's approval.
    Named(&'static str),
}

impl Part {
    /// Part that a subresource names.
    #[must_use]
    pub fn of(subresource: &'static str) -> Self {
        match subresource {
            "" => Self::Main,
            "status" => Self::Status,
            "finalize" => Self::Finalize,
            name => Self::Named(name),
        }
    }

    /// The subresource; empty for the object's own path.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Main => "",
            Self::Status => "status",
            Self::Finalize => "finalize",
            Self::Named(name) => name,
        }
    }
}

/// Whether nothing is to be stored.
pub fn is_dry_run(call: &Call) -> Result<bool, Status> {
    let kind = match call.info.verb.as_str() {
        "create" => "CreateOptions",
        "update" => "UpdateOptions",
        "patch" => "PatchOptions",
        _ => "DeleteOptions",
    };
    options::dry_run(call).map_err(|error| Status::invalid("meta.k8s.io", kind, "", &[error]))
}

/// The body as JSON: YAML and protobuf are converted.
pub fn json_body(call: &Call) -> Result<bytes::Bytes, Status> {
    match media_type(call) {
        "" | "application/json" => Ok(call.body.clone()),
        "application/yaml" => {
            let document = yaml::decode(&call.body).map_err(Status::bad_request)?;
            Ok(bytes::Bytes::from(document.value.to_string()))
        }
        protobuf::MEDIA_TYPE => {
            let value = protobuf::decode(&call.body).map_err(|error| Status::bad_request(error.to_string()))?;
            Ok(bytes::Bytes::from(value.to_string()))
        }
        _ => Err(Status::unsupported_media_type(&["application/json", "application/yaml", protobuf::MEDIA_TYPE])),
    }
}

/// How the owners of fields are noted.
#[derive(Clone, Copy, Debug)]
pub enum Owners<'a> {
    /// The manager owns what the write changes.
    Written(&'a str),
    /// They came out of an apply.
    Applied,
}

/// create.
pub async fn create(server: &ApiServer, call: &Call, resource: &'static Resource) -> Result<Response<Body>, Status> {
    let options = options::of_write(call, "CreateOptions", false)?;
    let decoded = resource.decode(&json_body(call)?, options.validation)?;
    let mut object = decoded.object;
    check_namespace(&mut object, resource, &call.info.namespace)?;
    if !matches!(meta::resource_version(&object), "" | "0") {
        return Err(Status::failure(500, "", "resourceVersion should not be set on objects to be created"));
    }
    resource.strategy.set_defaults(&mut object);
    let owners = Owners::Written(&options.manager);
    let mut attempt = 0;
    loop {
        let created = create_object(server, call, resource, object.clone(), owners, decoded.warnings.clone()).await;
        match created {
            // The name that was made up is taken: make up another.
            Err(status) if status.reason == "AlreadyExists" && meta::name(&object).is_empty() => {
                attempt += 1;
                if attempt == NAME_ATTEMPTS {
                    return Err(status);
                }
            }
            created => return created,
        }
    }
}

/// Creates an object as it was asked for and defaulted.
pub async fn create_object(
    server: &ApiServer,
    call: &Call,
    resource: &'static Resource,
    mut object: Value,
    owners: Owners<'_>,
    mut warnings: Vec<String>,
) -> Result<Response<Body>, Status> {
    let accepted = negotiate::accept(&call.headers)?;
    let now = Timestamp::now();
    object::before_create(&mut object, &uuid::Uuid::new_v4().to_string(), rand::random(), now);
    let mut object = resource.to_stored(object);
    let strategy = resource.stored().strategy;
    if let Owners::Written(manager) = owners {
        ownership::created(resource, &mut object, manager, now);
    }
    let name = meta::name(&object).to_owned();
    let request = Request::of(call, resource, Operation::Create, &name)?;
    server.admission.mutate(server, &request, &mut object, &Value::Null).await?;
    strategy.prepare_for_create(&mut object, now);
    if strategy.has_generation() {
        meta::set(&mut object, "generation", 1);
    }
    let mut errors = object::validate_object_meta(&object, resource.key.namespaced, strategy);
    errors.extend(strategy.validate(&object));
    refuse(resource, &object, &errors)?;
    warnings.extend(strategy.warnings(&object));
    server.admission.validate(server, &request, &object, &Value::Null).await?;
    warnings.extend(request.take_warnings());
    let encoded = store_new(server, call, resource, object).await?;
    let mut answer = encode::object(StatusCode::CREATED, resource, &encoded, &accepted, encode::include_object(&call.info)?)?;
    response::warn(&mut answer, &warnings);
    Ok(answer)
}

async fn store_new(server: &ApiServer, call: &Call, resource: &'static Resource, mut object: Value) -> Result<Encoded, Status> {
    let (name, namespace) = (meta::name(&object).to_owned(), meta::namespace(&object).to_owned());
    let asked = object.clone();
    let mut allocation = (resource.key == kontiki_api::resources::SERVICES).then(|| Allocation::new(server));
    loop {
        let guard = match &allocation {
            Some(allocation) => {
                object.clone_from(&asked);
                allocation.guard(&mut object, None)?
            }
            None => Guard::default(),
        };
        if is_dry_run(call)? {
            return Encoded::from_value(&object, 0).map_err(|error| Status::internal_error(error.to_string()));
        }
        let lease = if resource.stored_as == kontiki_api::resources::EVENTS { event_lease(server).await? } else { 0 };
        match server.storage.create(resource, &namespace, &name, &object, &guard, lease).await? {
            Written::Stored(encoded) | Written::Removed(encoded) | Written::Unchanged(encoded) => return Ok(encoded),
            Written::Taken(refusals) => match &mut allocation {
                Some(allocation) => allocation.lost(&name, refusals).await?,
                None => return Err(Status::internal_error("a key was taken that nobody has asked for")),
            },
        }
    }
}

async fn event_lease(server: &ApiServer) -> Result<i64, Status> {
    let request = kontiki_proto::etcdserverpb::LeaseGrantRequest { ttl: EVENT_SECONDS, id: 0 };
    let answer = server.storage.kv.lease_grant(request).await.map_err(|error| store_failure(&error))?;
    Ok(answer.id)
}

/// Fills in the request's namespace, and refuses another.
pub fn check_namespace(object: &mut Value, resource: &Resource, namespace: &str) -> Result<(), Status> {
    if !resource.key.namespaced {
        return Ok(());
    }
    let own = meta::namespace(object).to_owned();
    if own.is_empty() {
        meta::set(object, "namespace", namespace);
    } else if own != namespace {
        let message = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Status::bad_request(message));
    }
    Ok(())
}

fn refuse(resource: &Resource, object: &Value, errors: &[FieldError]) -> Result<(), Status> {
    if errors.is_empty() { Ok(()) } else { Err(refusal(resource, object, errors)) }
}

fn refusal(resource: &Resource, object: &Value, errors: &[FieldError]) -> Status {
    Status::invalid(resource.key.group, resource.key.kind, meta::name(object), errors)
}

/// Refuses an object that has another name than the path.
pub fn check_name(object: &Value, call: &Call) -> Result<(), Status> {
    let (name, wanted) = (meta::name(object), &call.info.name);
    if name.is_empty() || name == wanted {
        return Ok(());
    }
    Err(Status::bad_request(format!("the name of the object ({name}) does not match the name on the URL ({wanted})")))
}

/// update of a part.
pub async fn update(server: &ApiServer, call: &Call, resource: &'static Resource, part: Part) -> Result<Response<Body>, Status> {
    let options = options::of_write(call, "UpdateOptions", false)?;
    let decoded = resource.decode(&json_body(call)?, options.validation)?;
    let mut sent = decoded.object;
    check_namespace(&mut sent, resource, &call.info.namespace)?;
    if meta::name(&sent).is_empty() {
        let error = FieldError::required("metadata.name", "name must be provided");
        return Err(Status::invalid(resource.key.group, resource.key.kind, "", &[error]));
    }
    check_name(&sent, call)?;
    resource.strategy.set_defaults(&mut sent);
    let owners = Owners::Written(&options.manager);
    let stored = resource.to_stored(sent.clone());
    let changed = change_with(server, call, resource, part, owners, decoded.warnings.clone(), move |_| Ok(stored.clone())).await;
    match changed {
        Err(status) if status.code == 404 && part == Part::Main && resource.stored().is_created_by_update() => {
            create_by_update(server, call, resource, sent, owners, decoded.warnings).await
        }
        changed => changed,
    }
}

/// An update of an object that is not there creates it, for the kinds that say so.
async fn create_by_update(
    server: &ApiServer,
    call: &Call,
    resource: &'static Resource,
    object: Value,
    owners: Owners<'_>,
    warnings: Vec<String>,
) -> Result<Response<Body>, Status> {
    let attributes = Attributes { verb: "create".into(), ..Attributes::of_request(&call.info) };
    server.authorize(&call.user, &attributes).await?;
    if !matches!(meta::resource_version(&object), "" | "0") || !meta::uid(&object).is_empty() {
        return Err(Status::not_found(resource.key.group, resource.key.plural, &call.info.name));
    }
    create_object(server, call, resource, object, owners, warnings).await
}

/// patch of a part.
pub async fn patch(server: &ApiServer, call: &Call, resource: &'static Resource, part: Part) -> Result<Response<Body>, Status> {
    if media_type(call) == apply::MEDIA_TYPE {
        return apply::apply(server, call, resource, part).await;
    }
    let patch_type = patch_type(call)?;
    let options = options::of_write(call, "PatchOptions", false)?;
    let body = call.body.clone();
    let warnings = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
    let seen = std::sync::Arc::clone(&warnings);
    let owners = Owners::Written(&options.manager);
    let mut answer = change_with(server, call, resource, part, owners, Vec::new(), move |old| {
        let patched = resource.patch(patch_type, &resource.to_served(old.clone()), &body, options.validation)?;
        *seen.lock() = patched.warnings;
        let mut object = patched.object;
        check_namespace(&mut object, resource, &call.info.namespace)?;
        check_name(&object, call)?;
        resource.strategy.set_defaults(&mut object);
        Ok(resource.to_stored(object))
    })
    .await?;
    response::warn(&mut answer, &warnings.lock());
    Ok(answer)
}

/// Media type of a body, parameters left out.
#[must_use]
pub fn media_type(call: &Call) -> &str {
    let media = call.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    media.split(';').next().unwrap_or_default().trim()
}

/// Kind of a patch, from its media type.
pub fn patch_type(call: &Call) -> Result<PatchType, Status> {
    PatchType::from_media_type(media_type(call)).ok_or_else(|| Status::unsupported_media_type(&PATCH_TYPES))
}

/// Changes a part of an object to what `compute` makes of its newest state.
pub async fn change_with(
    server: &ApiServer,
    call: &Call,
    resource: &'static Resource,
    part: Part,
    owners: Owners<'_>,
    warnings: Vec<String>,
    mut compute: impl FnMut(&Value) -> Result<Value, Status>,
) -> Result<Response<Body>, Status> {
    let accepted = negotiate::accept(&call.headers)?;
    let request = Request::of(call, resource, Operation::Update, &call.info.name)?;
    let change = Change { server, resource, part, owners, request: &request };
    let mut allocation = Allocation::new(server);
    let mut transaction = server.storage.begin(resource, request.namespace, request.name).await?;
    let (written, object) = loop {
        let decided = match compute(transaction.object()) {
            Ok(new) => change.decide(new, transaction.object(), &allocation).await,
            Err(status) => Err(status),
        };
        let shown = match &decided {
            Ok(Outcome::Store(object, _)) if request.dry_run => Some(object.clone()),
            _ => None,
        };
        let decided = if shown.is_some() { Ok(Outcome::Store(transaction.object().clone(), Guard::default())) } else { decided };
        match transaction.commit(decided).await? {
            None => {}
            Some(Written::Taken(refusals)) => allocation.lost(request.name, refusals).await?,
            Some(Written::Stored(encoded) | Written::Removed(encoded) | Written::Unchanged(encoded)) => break (encoded, shown),
        }
    };
    let shown = match object {
        Some(object) => {
            Encoded::from_value(&object, written.resource_version()).map_err(|error| Status::internal_error(error.to_string()))?
        }
        None => written,
    };
    let warnings = [warnings, request.take_warnings()].concat();
    let mut answer = encode::object(StatusCode::OK, resource, &shown, &accepted, encode::include_object(&call.info)?)?;
    response::warn(&mut answer, &warnings);
    Ok(answer)
}

/// A change of one part of an object: the same for each attempt to commit it.
struct Change<'a> {
    server: &'a ApiServer,
    resource: &'static Resource,
    part: Part,
    owners: Owners<'a>,
    request: &'a Request<'a>,
}

impl Change<'_> {
    /// What becomes of an object when `new` was asked for in place of `old`: admitted, prepared, validated, admitted.
    async fn decide(&self, mut new: Value, old: &Value, allocation: &Allocation<'_>) -> Result<Outcome, Status> {
        let key = &self.resource.key;
        self.check_preconditions(&new, old)?;
        if matches!(meta::resource_version(&new), "" | "0") {
            meta::copy(&mut new, old, "resourceVersion");
        }
        object::before_update(&mut new, old);
        let admission = &self.server.admission;
        admission.mutate(self.server, self.request, &mut new, old).await?;
        let errors = self.prepare(&mut new, old);
        refuse(self.resource, &new, &errors)?;
        match self.owners {
            Owners::Written(manager) => {
                ownership::updated(self.resource, self.part.name(), old, &mut new, manager, Timestamp::now());
            }
            Owners::Applied => managed::keep_times(old, &mut new),
        }
        admission.validate(self.server, self.request, &new, old).await?;
        if meta::is_deleting(&new) && is_finished(&new) {
            let guard = if *key == kontiki_api::resources::SERVICES { addresses::release(old) } else { Guard::default() };
            return Ok(Outcome::Remove(guard));
        }
        let mut guard = Guard::default();
        if *key == kontiki_api::resources::SERVICES && self.part == Part::Main {
            guard = allocation.guard(&mut new, Some(old))?;
        }
        Ok(Outcome::Store(new, guard))
    }

    fn check_preconditions(&self, new: &Value, old: &Value) -> Result<(), Status> {
        let (key, name) = (&self.resource.key, meta::name(old));
        let (sent, current) = (meta::resource_version(new), meta::resource_version(old));
        if !sent.is_empty() && sent != "0" && sent != current {
            return Err(Status::modified(key.group, key.plural, name));
        }
        if matches!(sent, "" | "0") && self.resource.stored().needs_version() {
            let error = FieldError::invalid("metadata.resourceVersion", &json!(0), "must be specified for an update");
            return Err(refusal(self.resource, old, &[error]));
        }
        if !meta::uid(new).is_empty() && meta::uid(new) != meta::uid(old) {
            let (wanted, found) = (meta::uid(new), meta::uid(old));
            let why = format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}");
            return Err(Status::conflict(key.group, key.plural, name, &why));
        }
        Ok(())
    }

    /// Restores what this part may not change, and says what is wrong with the rest.
    fn prepare(&self, new: &mut Value, old: &Value) -> Vec<FieldError> {
        let strategy = self.resource.stored().strategy;
        match self.part {
            Part::Main => {
                strategy.prepare_for_update(new, old);
                if strategy.has_generation() {
                    let generation = object::count_generation(new, old);
                    meta::set(new, "generation", generation);
                }
                let mut errors = object::validate_object_meta_update(new, old);
                errors.extend(strategy.validate_update(new, old));
                errors
            }
            Part::Status => {
                strategy.prepare_for_status_update(new, old);
                let mut errors = object::validate_object_meta_update(new, old);
                errors.extend(strategy.validate_status_update(new, old));
                errors
            }
            Part::Finalize => {
                let finalizers = new.pointer("/spec/finalizers").cloned().unwrap_or_else(|| json!([]));
                new.clone_from(old);
                new["spec"]["finalizers"] = finalizers;
                Vec::new()
            }
            Part::Named(name) => {
                strategy.prepare_for_part_update(name, new, old);
                if strategy.has_generation() {
                    let generation = object::count_generation(new, old);
                    meta::set(new, "generation", generation);
                }
                strategy.validate_part_update(name, new, old)
            }
        }
    }
}

/// Whether an object whose deletion was asked for waits for nobody any more.
fn is_finished(object: &Value) -> bool {
    let grace = meta::get(object, "deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0);
    let none = |list: Option<&Value>| list.and_then(Value::as_array).is_none_or(Vec::is_empty);
    grace == 0 && none(meta::get(object, "finalizers")) && none(object.pointer("/spec/finalizers"))
}
