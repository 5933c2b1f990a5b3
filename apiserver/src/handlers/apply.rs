//! patch with `application/apply-patch+yaml`: server-side apply of an object or a part of it.
//!
//! An object that is not there is created, if the user may create it.

use std::sync::Arc;

use http::Response;
use jiff::Timestamp;
use kontiki_api::{
    custom::{field_versions::Defined, strategy::Served},
    decode::FieldValidation,
    managed::{self, Application, FieldSet, OneVersion, Owned, Writer},
    object::meta,
    patch,
    registry::{Resource, versions::BuiltIn},
    schema::Type,
    status::Status,
};
use serde_json::Value;

use super::{
    options::{self, WriteOptions},
    ownership,
    write::{self, Owners, Part},
    yaml,
};
use crate::{
    authorization::Attributes,
    response::Body,
    service::{ApiServer, Call},
};

/// Media type of the patch.
pub const MEDIA_TYPE: &str = "application/apply-patch+yaml";

/// What is applied.
pub struct Applied {
    config: Value,
    /// Options of the request.
    pub options: WriteOptions,
    /// Texts of `Warning:` headers.
    pub warnings: Vec<String>,
    now: Timestamp,
}

/// Where it is applied.
pub struct Target {
    /// Type of the objects there, if they are of a built-in kind.
    pub type_: Option<&'static Type>,
    /// The resource, whose other versions' owners count too; none for what only a path makes.
    pub resource: Option<&'static Resource>,
    /// Version of the definition, if they are custom resources.
    pub custom: Option<Arc<Served>>,
    /// Their group and version.
    pub api_version: String,
    /// Their kind.
    pub kind: &'static str,
    /// Subresource of the path.
    pub subresource: &'static str,
    /// Fields that the path does not set.
    pub ignored: FieldSet,
}

/// Reads the request.
///
/// # Errors
/// 422 for its options, 400 for its body.
pub fn read(call: &Call) -> Result<Applied, Status> {
    let options = options::of_write(call, "PatchOptions", true)?;
    let document = yaml::decode(&call.body).map_err(|error| Status::bad_request(format!("error decoding YAML: {error}")))?;
    if !document.value.is_object() {
        return Err(Status::bad_request("error decoding YAML: the body is not an object"));
    }
    let warnings = match (options.validation, document.duplicate) {
        (FieldValidation::Strict, Some(duplicate)) => {
            return Err(Status::bad_request(format!("error strict decoding YAML: {duplicate}")));
        }
        (FieldValidation::Warn, duplicate) => duplicate.into_iter().collect(),
        _ => Vec::new(),
    };
    Ok(Applied { config: document.value, options, warnings, now: Timestamp::now() })
}

impl Applied {
    /// What becomes of the live object.
    ///
    /// # Errors
    /// See [`managed::apply`].
    pub fn onto(&self, live: Option<&Value>, target: &Target) -> Result<Value, Status> {
        let writer = Writer {
            manager: &self.options.manager,
            api_version: &target.api_version,
            subresource: target.subresource,
            now: self.now,
        };
        let application =
            |config| Application { config, writer, kind: target.kind, force: self.options.force, ignored: &target.ignored };
        if let Some(served) = &target.custom {
            let versions = Defined(served);
            let mut object = served.owned(|owned| managed::apply(owned, &versions, live, &application(&self.config)))?;
            served.clean(&mut object)?;
            return Ok(object);
        }
        let type_ = target.type_.ok_or_else(|| Status::internal_error("the kind has no schema"))?;
        let owned = Owned::of(type_);
        let object = match target.resource {
            Some(resource) => managed::apply(&owned, &BuiltIn(resource), live, &application(&self.config))?,
            None => managed::apply(&owned, &OneVersion(&owned), live, &application(&self.config))?,
        };
        patch::clean(object, type_)
    }
}

/// Applies to a part of an object.
pub async fn apply(server: &ApiServer, call: &Call, resource: &'static Resource, part: Part) -> Result<Response<Body>, Status> {
    let applied = read(call)?;
    let target = Target {
        type_: resource.type_(),
        resource: Some(resource),
        custom: resource.strategy.custom(),
        api_version: resource.key.api_version(),
        kind: resource.key.kind,
        subresource: part.name(),
        ignored: ownership::ignored(resource, part),
    };
    let merge = |old: Option<&Value>| -> Result<Value, Status> {
        let live = old.map(|old| resource.to_served(old.clone()));
        let mut object = applied.onto(live.as_ref(), &target)?;
        write::check_namespace(&mut object, resource, &call.info.namespace)?;
        write::check_name(&object, call)?;
        resource.strategy.set_defaults(&mut object);
        Ok(object)
    };
    loop {
        let onto = |old: &Value| merge(Some(old)).map(|object| resource.to_stored(object));
        let changed = write::change_with(server, call, resource, part, Owners::Applied, applied.warnings.clone(), onto).await;
        match changed {
            Err(status) if status.code == 404 && part == Part::Main => {}
            changed => return changed,
        }
        let attributes = Attributes { verb: "create".into(), ..Attributes::of_request(&call.info) };
        server.authorize(&call.user, &attributes).await?;
        let object = merge(None)?;
        if !meta::uid(&object).is_empty() {
            let why = format!(
                "uid mismatch: the provided object specified uid {}, and no existing object was found",
                meta::uid(&object)
            );
            return Err(Status::conflict(resource.key.group, resource.key.plural, &call.info.name, &why));
        }
        match write::create_object(server, call, resource, object, Owners::Applied, applied.warnings.clone()).await {
            // Somebody else was faster: apply to theirs.
            Err(status) if status.reason == "AlreadyExists" => {}
            created => return created,
        }
    }
}
