//! Where a pod's volumes come from, and where containers see them.

use crate::{
    kinds::{check::At, kind::Errors},
    names,
};

const HOST_PATH_TYPES: &[&str] =
    &["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
/// Highest file mode: all bits of three octal digits.
const MODE_MAX: i64 = 0o777;

/// Each volume's source; names are checked elsewhere.
pub(super) fn check(spec: &At<'_>, errors: &mut Errors) {
    for volume in spec.items("volumes") {
        let source = |field: &str| Some(volume.get(field)).filter(At::is_set);
        if let Some(host) = source("hostPath") {
            if host.get("path").must_be_set(errors) {
                check_no_back_steps(&host.get("path"), errors);
            }
            host.get("type").one_of(HOST_PATH_TYPES, errors);
        }
        if let Some(secret) = source("secret") {
            secret.get("secretName").must_be_set(errors);
            check_files(&secret, errors);
        }
        if let Some(map) = source("configMap") {
            map.get("name").must_be_set(errors);
            check_files(&map, errors);
        }
        if let Some(claim) = source("persistentVolumeClaim") {
            claim.get("claimName").must_be_set(errors);
        }
        if let Some(nfs) = source("nfs") {
            nfs.get("server").must_be_set(errors);
            let path = nfs.get("path");
            if path.must_be_set(errors) && !path.text().starts_with('/') {
                path.invalid("must be an absolute path", errors);
            }
        }
        if let Some(csi) = source("csi") {
            csi.get("driver").must_be_named(names::dns_subdomain, errors);
        }
        if let Some(downward) = source("downwardAPI") {
            check_mode(&downward.get("defaultMode"), errors);
            downward.items("items").for_each(|item| check_downward_item(&item, errors));
        }
        if let Some(projected) = source("projected") {
            check_projected(&projected, errors);
        }
    }
}

fn check_projected(projected: &At<'_>, errors: &mut Errors) {
    const SOURCES: [&str; 6] =
        ["secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle", "podCertificate"];
    check_mode(&projected.get("defaultMode"), errors);
    for source in projected.items("sources") {
        let given: Vec<_> = SOURCES.iter().map(|field| source.get(field)).filter(At::is_set).collect();
        for other in given.iter().skip(1) {
            other.forbidden("may not specify more than 1 volume type", errors);
        }
        if given.is_empty() {
            source.required("must specify a volume type", errors);
        }
        for named in ["secret", "configMap"].map(|field| source.get(field)).iter().filter(|named| named.is_set()) {
            named.get("name").must_be_set(errors);
            check_files(named, errors);
        }
        source.get("downwardAPI").items("items").for_each(|item| check_downward_item(&item, errors));
        let token = source.get("serviceAccountToken");
        if token.is_set() {
            let seconds = token.get("expirationSeconds");
            if seconds.number().is_some_and(|number| number < 600) {
                seconds.invalid("may not specify a duration less than 10 minutes", errors);
            }
            token.get("path").must_be_set(errors);
        }
    }
}

fn check_downward_item(item: &At<'_>, errors: &mut Errors) {
    check_path(&item.get("path"), errors);
    check_mode(&item.get("mode"), errors);
    match (item.get("fieldRef").is_set(), item.get("resourceFieldRef").is_set()) {
        (true, true) => item.invalid("fieldRef and resourceFieldRef can not be specified simultaneously", errors),
        (false, false) => item.required("one of fieldRef and resourceFieldRef is required", errors),
        _ => {}
    }
}

fn check_files(source: &At<'_>, errors: &mut Errors) {
    check_mode(&source.get("defaultMode"), errors);
    for item in source.items("items") {
        item.get("key").must_be_set(errors);
        check_path(&item.get("path"), errors);
        check_mode(&item.get("mode"), errors);
    }
}

fn check_mode(mode: &At<'_>, errors: &mut Errors) {
    if mode.number().is_some_and(|number| !(0..=MODE_MAX).contains(&number)) {
        mode.invalid("must be a number between 0 and 0777 (octal), both inclusive", errors);
    }
}

fn check_path(path: &At<'_>, errors: &mut Errors) {
    if path.must_be_set(errors) {
        check_relative(path, errors);
        if path.text().starts_with("..") && !path.text().starts_with("../") {
            path.invalid("must not start with '..'", errors);
        }
    }
}

/// A path that stays below where it begins.
pub(super) fn check_relative(path: &At<'_>, errors: &mut Errors) {
    if path.text().starts_with('/') {
        path.invalid("must be a relative path", errors);
    }
    check_no_back_steps(path, errors);
}

fn check_no_back_steps(path: &At<'_>, errors: &mut Errors) {
    if path.text().split('/').any(|step| step == "..") {
        path.invalid("must not contain '..'", errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn sources_say_what_they_must() {
        let first = |source: Value| {
            let mut errors = Vec::new();
            check(&At::new(&json!({ "volumes": [source] }), "spec"), &mut errors);
            errors.first().map(ToString::to_string).unwrap_or_default()
        };
        let at = "spec.volumes[0]";
        for (source, error) in [
            (json!({"secret": {}}), format!("{at}.secret.secretName: Required value")),
            (
                json!({"hostPath": {"path": "/a/../b"}}),
                format!("{at}.hostPath.path: Invalid value: \"/a/../b\": must not contain '..'"),
            ),
            (
                json!({"configMap": {"name": "x", "items": [{"key": "a", "path": "/b"}]}}),
                format!("{at}.configMap.items[0].path: Invalid value: \"/b\": must be a relative path"),
            ),
            (
                json!({"secret": {"secretName": "x", "defaultMode": 512}}),
                format!(
                    "{at}.secret.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive"
                ),
            ),
            (
                json!({"projected": {"sources": [{"secret": {"name": "a"}, "configMap": {"name": "b"}}]}}),
                format!("{at}.projected.sources[0].configMap: Forbidden: may not specify more than 1 volume type"),
            ),
            (json!({"emptyDir": {}}), String::new()),
        ] {
            assert_eq!(first(source), error);
        }
    }
}
