//! delete and deletecollection.
//!
//! <https://kubernetes.io/docs/concepts/architecture/garbage-collection/>

mod options;
mod plan;

use futures::StreamExt;
use http::{Response, StatusCode};
use jiff::Timestamp;
use kontiki_api::{
    object::{Encoded, meta},
    registry::Resource,
    status::Status,
};
use serde_json::Value;

use self::options::Options;
use super::{encode, read};
use crate::{
    admission::{Operation, Request},
    negotiate, response,
    response::Body,
    service::{ApiServer, Call},
    storage::{Outcome, Written},
};

/// delete.
pub async fn one(server: &ApiServer, call: &Call, resource: &'static Resource) -> Result<Response<Body>, Status> {
    let accepted = negotiate::accept(&call.headers)?;
    let options = Options::of(call)?;
    let written = run(server, call, resource, call.info.namespace_of(resource), &call.info.name, &options).await?;
    match written {
        Deleted::Gone(encoded) if resource.shows_deleted() => {
            encode::object(StatusCode::OK, resource, &encoded, &accepted, encode::include_object(&call.info)?)
        }
        Deleted::Gone(encoded) => {
            let object = encoded.value();
            let key = &resource.key;
            let status = Status::success(key.group, key.plural, meta::name(&object), meta::uid(&object));
            let status = serde_json::to_value(&status).map_err(|error| Status::internal_error(error.to_string()))?;
            encode::value_in(StatusCode::OK, &status, &accepted)
        }
        Deleted::Begun(encoded) => {
            encode::object(StatusCode::OK, resource, &encoded, &accepted, encode::include_object(&call.info)?)
        }
    }
}

enum Deleted {
    Gone(Encoded),
    Begun(Encoded),
}

async fn run(
    server: &ApiServer,
    call: &Call,
    resource: &'static Resource,
    namespace: &str,
    name: &str,
    options: &Options,
) -> Result<Deleted, Status> {
    let mut request = Request::of(call, resource, Operation::Delete, name)?;
    request.namespace = namespace;
    request.dry_run = options.dry_run;
    let now = Timestamp::now();
    let mut transaction = server.storage.begin(resource, namespace, name).await?;
    loop {
        let current = transaction.object().clone();
        let decided = match server.admission.admit(server, &request, &mut Value::Null, &current).await {
            Ok(()) => plan::next(resource, current.clone(), options, now),
            Err(status) => Err(status),
        };
        let decided = match decided {
            Ok(Outcome::Remove(_)) if request.dry_run => {
                let encoded = Encoded::from_value(&current, transaction.resource_version());
                return encoded.map(Deleted::Gone).map_err(|error| Status::internal_error(error.to_string()));
            }
            Ok(Outcome::Store(object, _)) if request.dry_run => {
                let encoded = Encoded::from_value(&object, transaction.resource_version());
                return encoded.map(Deleted::Begun).map_err(|error| Status::internal_error(error.to_string()));
            }
            decided => decided,
        };
        match transaction.commit(decided).await? {
            None => {}
            Some(Written::Removed(encoded)) => return Ok(Deleted::Gone(encoded)),
            Some(Written::Stored(encoded) | Written::Unchanged(encoded)) => return Ok(Deleted::Begun(encoded)),
            Some(Written::Taken(_)) => return Err(Status::internal_error("a deletion takes no addresses")),
        }
    }
}

/// Deletions of one collection that wait for the disks together.
const DELETIONS_AT_ONCE: usize = 16;

/// deletecollection: each object in its own transaction; those that are gone meanwhile are no error.
pub async fn collection(server: &ApiServer, call: &Call, resource: &'static Resource) -> Result<Response<Body>, Status> {
    let accepted = negotiate::accept(&call.headers)?;
    let options = Options::of(call)?;
    let page = server.storage.list(resource, &read::options(resource, &call.info)?).await?;
    let names: Vec<(String, String)> =
        page.objects.iter().map(|object| (object.header.namespace.to_string(), object.header.name.to_string())).collect();
    let options = &options;
    let deletions = futures::stream::iter(names).map(async |(namespace, name)| {
        match run(server, call, resource, &namespace, &name, options).await {
            Err(status) if status.code != 404 => Err(status),
            _ => Ok(()),
        }
    });
    let mut deletions = std::pin::pin!(deletions.buffer_unordered(DELETIONS_AT_ONCE));
    while let Some(deleted) = deletions.next().await {
        if let Err(status) = deleted {
            return Ok(response::status(&status));
        }
    }
    encode::list(resource, &page, &accepted, encode::include_object(&call.info)?)
}
