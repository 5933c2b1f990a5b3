//! `DefaultStorageClass`, `PersistentVolumeClaimResize` and `StorageObjectInUseProtection`: claims and volumes.

use async_trait::async_trait;
use kontiki_api::{
    object::{meta, text},
    quota::Amount,
    resources::{PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, STORAGE_CLASSES},
    status::Status,
};
use serde_json::{Value, json};

use super::{Operation, Plugin, Request, defaults::newest_default, lookup};
use crate::service::ApiServer;

const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const DEFAULT_CLASS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

/// A claim that names no class gets the default one.
pub struct DefaultStorageClass;

#[async_trait]
impl Plugin for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    fn handles(&self, request: &Request<'_>) -> bool {
        request.operation == Operation::Create && request.is(&PERSISTENT_VOLUME_CLAIMS)
    }

    async fn mutate(&self, server: &ApiServer, _: &Request<'_>, claim: &mut Value, _: &Value) -> Result<(), Status> {
        let named = claim.pointer("/spec/storageClassName").is_some_and(|class| !class.is_null());
        if named || meta::annotation(claim, BETA_CLASS).is_some() {
            return Ok(());
        }
        if let Some(class) = newest_default(&lookup::list(server, &STORAGE_CLASSES, ""), &DEFAULT_CLASS) {
            claim["spec"]["storageClassName"] = json!(class);
        }
        Ok(())
    }
}

/// A claim grows only when it is bound and its class lets it.
pub struct PersistentVolumeClaimResize;

#[async_trait]
impl Plugin for PersistentVolumeClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    fn handles(&self, request: &Request<'_>) -> bool {
        request.operation == Operation::Update && request.is(&PERSISTENT_VOLUME_CLAIMS)
    }

    async fn validate(&self, server: &ApiServer, request: &Request<'_>, new: &Value, old: &Value) -> Result<(), Status> {
        let size = |claim: &Value| claim.pointer("/spec/resources/requests/storage").map(Amount::parse).unwrap_or_default();
        if size(new).quantity <= size(old).quantity {
            return Ok(());
        }
        let class = lookup::find(server, &STORAGE_CLASSES, "", class_of(new)).await?;
        check_growth(new, old, class.as_ref()).map_err(|why| request.forbidden(why))
    }
}

fn class_of(claim: &Value) -> &str {
    meta::annotation(claim, BETA_CLASS).unwrap_or_else(|| text(claim, "/spec/storageClassName"))
}

fn check_growth(new: &Value, old: &Value, class: Option<&Value>) -> Result<(), &'static str> {
    if text(old, "/status/phase") != "Bound" {
        return Err("Only bound persistent volume claims can be expanded");
    }
    let same = !class_of(new).is_empty() && class_of(new) == class_of(old);
    if same && class.is_some_and(|class| class["allowVolumeExpansion"] == true) {
        return Ok(());
    }
    Err("only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize")
}

/// Claims and volumes stay while somebody uses them.
pub struct StorageObjectInUseProtection;

#[async_trait]
impl Plugin for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    fn handles(&self, request: &Request<'_>) -> bool {
        let ours = request.is(&PERSISTENT_VOLUME_CLAIMS) || request.is(&PERSISTENT_VOLUMES);
        request.operation == Operation::Create && ours
    }

    async fn mutate(&self, _: &ApiServer, request: &Request<'_>, object: &mut Value, _: &Value) -> Result<(), Status> {
        let volume = request.is(&PERSISTENT_VOLUMES);
        protect(object, if volume { "kubernetes.io/pv-protection" } else { "kubernetes.io/pvc-protection" });
        Ok(())
    }
}

fn protect(object: &mut Value, finalizer: &str) {
    let mut finalizers: Vec<String> = meta::finalizers(object).map(str::to_owned).collect();
    if !finalizers.iter().any(|own| own == finalizer) {
        finalizers.push(finalizer.to_owned());
        meta::set(object, "finalizers", finalizers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_grows_when_it_is_bound_and_its_class_lets_it() {
        let claim = |phase: &str, class: &str| json!({"spec": {"storageClassName": class}, "status": {"phase": phase}});
        let (grows, stays) = (json!({"allowVolumeExpansion": true}), json!({}));
        let bound = claim("Bound", "gold");
        assert_eq!(check_growth(&bound, &bound, Some(&grows)), Ok(()));
        assert!(check_growth(&bound, &bound, Some(&stays)).unwrap_err().starts_with("only dynamically provisioned"));
        assert!(check_growth(&bound, &claim("Bound", "silver"), Some(&grows)).is_err());
        let pending = claim("Pending", "gold");
        let refused = check_growth(&pending, &pending, Some(&grows));
        assert_eq!(refused, Err("Only bound persistent volume claims can be expanded"));
    }

    #[test]
    fn a_claim_is_protected_once() {
        let mut claim = json!({"metadata": {"finalizers": ["a/b"]}});
        protect(&mut claim, "kubernetes.io/pvc-protection");
        protect(&mut claim, "kubernetes.io/pvc-protection");
        assert_eq!(claim["metadata"]["finalizers"], json!(["a/b", "kubernetes.io/pvc-protection"]));
    }
}
