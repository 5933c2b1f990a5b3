//! How servers elsewhere know that a request comes from this one, and whom its headers name.
//!
//! In: the certificate that this server shows them, and the authorities of clients and of that certificate. Out: the
//! ConfigMap that they read, and one that was there before mended.
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/configure-aggregation-layer/>

use std::sync::Arc;

use kontiki_api::resources::{CONFIG_MAPS, ResourceKey};
use serde_json::{Value, json};

use crate::{auth::FrontProxy, outbound::Identity};

/// Name of the ConfigMap.
pub const CONFIG_MAP: &str = "extension-apiserver-authentication";

/// What servers elsewhere are told about trust.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// Authority of clients, as PEM.
    pub client_authority: String,
    /// How this server shows who it is; without it requests are passed on without a certificate.
    pub identity: Option<Arc<Identity>>,
    /// Who may name users in headers, to them and to this server.
    pub front_proxy: Option<Arc<FrontProxy>>,
}

impl Trust {
    /// The ConfigMap as it must be at least.
    #[must_use]
    pub fn config_map(&self) -> (ResourceKey, Value) {
        let mut data = json!({});
        if !self.client_authority.is_empty() {
            data["client-ca-file"] = json!(self.client_authority);
        }
        if let Some(front_proxy) = &self.front_proxy {
            let list = |words: Vec<String>| json!(json!(words).to_string());
            let names = |names: &[http::HeaderName]| list(names.iter().map(|name| canonical(name.as_str())).collect());
            let headers = &front_proxy.headers;
            data["requestheader-client-ca-file"] = json!(front_proxy.authority);
            data["requestheader-allowed-names"] = list(front_proxy.allowed_names.clone());
            data["requestheader-username-headers"] = names(&headers.names);
            data["requestheader-uid-headers"] = names(&headers.uids);
            data["requestheader-group-headers"] = names(&headers.groups);
            let prefixes = headers.extra_prefixes.iter().map(|prefix| canonical(prefix)).collect();
            data["requestheader-extra-headers-prefix"] = list(prefixes);
        }
        let metadata = json!({ "name": CONFIG_MAP, "namespace": "kube-system" });
        (CONFIG_MAPS, json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data }))
    }
}

/// A header's name as it is usually written: each word with a capital.
fn canonical(name: &str) -> String {
    let capital = |word: &str| {
        let (first, rest) = word.split_at(word.len().min(1));
        first.to_uppercase() + rest
    };
    name.split('-').map(capital).collect::<Vec<_>>().join("-")
}

/// What a ConfigMap that is there must become, `None` if nothing: authorities and names that are missing are added;
/// those of other servers stay.
#[must_use]
pub fn reconciled(found: &Value, wanted: &Value) -> Option<Value> {
    let mut object = found.clone();
    if !object["data"].is_object() {
        object["data"] = json!({});
    }
    for (key, value) in wanted["data"].as_object().into_iter().flatten() {
        let (own, wanted) = (found["data"][key].as_str().unwrap_or_default(), value.as_str().unwrap_or_default());
        let joined = if key.ends_with("-ca-file") { with_certificates(own, wanted) } else { with_words(own, wanted) };
        object["data"][key] = json!(joined);
    }
    (object != *found).then_some(object)
}

fn with_certificates(own: &str, wanted: &str) -> String {
    const END: &str = "-----END CERTIFICATE-----";
    let mut all = own.to_owned();
    for certificate in wanted.split_inclusive(END).filter(|text| text.contains(END)) {
        if !own.contains(certificate.trim()) {
            all = format!(
                "{}{}\n",
                if all.is_empty() { String::new() } else { format!("{}\n", all.trim_end()) },
                certificate.trim()
            );
        }
    }
    all
}

fn with_words(own: &str, wanted: &str) -> String {
    let parse = |text: &str| serde_json::from_str::<Vec<String>>(text).unwrap_or_default();
    let before = parse(own);
    let missing: Vec<String> = parse(wanted).into_iter().filter(|word| !before.contains(word)).collect();
    if missing.is_empty() && !own.is_empty() { own.to_owned() } else { json!([before, missing].concat()).to_string() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn certificate(text: &str) -> String {
        format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
    }

    #[test]
    fn what_other_servers_trust_stays_and_what_is_missing_is_added() {
        let (authority, allowed_names) = (certificate("front"), vec!["front-proxy-client".to_owned()]);
        let front_proxy = Some(Arc::new(FrontProxy { authority, allowed_names, ..FrontProxy::default() }));
        let trust = Trust { client_authority: certificate("client"), identity: None, front_proxy };
        let (_, wanted) = trust.config_map();
        assert_eq!(wanted["data"]["requestheader-username-headers"], "[\"X-Remote-User\"]");
        assert_eq!(wanted["data"]["requestheader-extra-headers-prefix"], "[\"X-Remote-Extra-\"]");
        assert_eq!(wanted["data"]["requestheader-allowed-names"], "[\"front-proxy-client\"]");
        assert_eq!(reconciled(&wanted, &wanted), None);
        let mut found = wanted.clone();
        found["data"]["client-ca-file"] = json!(certificate("other"));
        found["data"]["requestheader-allowed-names"] = json!("[\"mine\"]");
        found["data"].as_object_mut().unwrap().remove("requestheader-group-headers");
        let mended = reconciled(&found, &wanted).unwrap();
        assert_eq!(mended["data"]["client-ca-file"], certificate("other") + &certificate("client"));
        assert_eq!(mended["data"]["requestheader-allowed-names"], "[\"mine\",\"front-proxy-client\"]");
        assert_eq!(mended["data"]["requestheader-group-headers"], "[\"X-Remote-Group\"]");
        assert_eq!(reconciled(&mended, &wanted), None, "once is enough");
    }
}
