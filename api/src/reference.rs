//! What a real Kubernetes v1.36 serves, for tests that compare our tables with it.
//!
//! The documents are no part of the repository: they lie in the folder that the environment variable
//! KONTIKI_KUBERNETES_REFERENCE names, else in `shared/kubernetes-1.36` beside the checkout. Where
//! they are absent the comparison is skipped and says so.

use std::path::{Path, PathBuf};

use serde_json::Value;

fn folder() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("KONTIKI_KUBERNETES_REFERENCE") {
        return Some(folder.into());
    }
    let ancestors = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    ancestors.map(|folder| folder.join("shared/kubernetes-1.36")).find(|folder| folder.is_dir())
}

fn read(part: &str, file: &str) -> Option<Value> {
    let Some(folder) = folder() else {
        println!("skipped: no Kubernetes reference documents here");
        return None;
    };
    let text = std::fs::read_to_string(folder.join(part).join(file)).ok()?;
    serde_json::from_str(&text).ok()
}

/// A discovery document.
pub(crate) fn discovery(file: &str) -> Option<Value> {
    read("discovery", file)
}

/// An OpenAPI v3 document.
pub(crate) fn openapi(file: &str) -> Option<Value> {
    read("openapi-v3", file)
}
