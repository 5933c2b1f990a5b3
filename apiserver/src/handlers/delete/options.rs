//! What a deletion asks for: in the body, or in the query where there is no body.

use kontiki_api::{decode, field::FieldError, object::text, status::Status};
use serde_json::{Value, json};

use crate::{
    handlers::{options, read, write},
    service::Call,
};

/// What is to become of what depends on the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Propagation {
    /// It goes after the object.
    Background,
    /// It goes before the object.
    Foreground,
    /// It stays.
    Orphan,
}

/// What a deletion asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub grace_period_seconds: Option<i64>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    /// `None`: as the object's finalizers and its kind say.
    pub propagation: Option<Propagation>,
    /// The deprecated `orphanDependents`.
    pub orphan_dependents: Option<bool>,
    pub dry_run: bool,
}

impl Options {
    /// Reads a call.
    ///
    /// # Errors
    /// 400 for what cannot be read, 422 for words that do not go together.
    pub(super) fn of(call: &Call) -> Result<Self, Status> {
        let sent = if call.body.is_empty() { of_query(call)? } else { decode::decode_delete_options(&write::json_body(call)?)? };
        let options = Self::of_object(&sent);
        // A dry run that is asked for in the query of a deletion with a body is one all the same: nothing is lost by it.
        let queried = options::dry_run(call).map_err(|error| refuse(&[error]))?;
        options.map(|options| Self { dry_run: options.dry_run || queried, ..options }).map_err(|errors| refuse(&errors))
    }

    fn of_object(sent: &Value) -> Result<Self, Vec<FieldError>> {
        let mut errors = Vec::new();
        let policy = text(sent, "/propagationPolicy");
        let orphan_dependents = sent["orphanDependents"].as_bool();
        if orphan_dependents.is_some() && !policy.is_empty() {
            let detail = "orphanDependents and deletionPropagation cannot be both set";
            errors.push(FieldError::invalid("propagationPolicy", &policy.into(), detail));
        }
        let propagation = match policy {
            "" => None,
            "Background" => Some(Propagation::Background),
            "Foreground" => Some(Propagation::Foreground),
            "Orphan" => Some(Propagation::Orphan),
            other => {
                let known = ["Foreground", "Background", "Orphan", "nil"];
                errors.push(FieldError::not_supported("propagationPolicy", &other.into(), &known));
                None
            }
        };
        let dry_run: Vec<&str> = sent["dryRun"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        errors.extend(options::check_dry_run(&dry_run).err());
        let precondition =
            |field: &str| sent.pointer(&format!("/preconditions/{field}")).and_then(Value::as_str).map(str::to_owned);
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self {
            // A deletion cannot be told to have happened: less than nothing is as soon as can be.
            grace_period_seconds: sent["gracePeriodSeconds"].as_i64().map(|seconds| if seconds < 0 { 1 } else { seconds }),
            uid: precondition("uid"),
            resource_version: precondition("resourceVersion"),
            propagation,
            orphan_dependents,
            dry_run: !dry_run.is_empty(),
        })
    }
}

fn of_query(call: &Call) -> Result<Value, Status> {
    let info = &call.info;
    let mut sent = json!({});
    if !info.parameter("gracePeriodSeconds").is_empty() {
        sent["gracePeriodSeconds"] = read::parse_integer(info.parameter("gracePeriodSeconds"))?.into();
    }
    if info.query.contains_key("orphanDependents") {
        sent["orphanDependents"] = info.flag("orphanDependents").into();
    }
    if !info.parameter("propagationPolicy").is_empty() {
        sent["propagationPolicy"] = info.parameter("propagationPolicy").into();
    }
    Ok(sent)
}

fn refuse(errors: &[FieldError]) -> Status {
    Status::invalid("meta.k8s.io", "DeleteOptions", "", errors)
}
