//! The file: an EncryptionConfiguration of `apiserver.config.k8s.io/v1`, checked by Kubernetes' rules.
//!
//! In: bytes. Out: which providers store which resources, or every mistake at once. A secret is in no message.
//! <https://kubernetes.io/docs/tasks/administer-cluster/encrypt-data/>

use base64::{Engine, prelude::BASE64_STANDARD};
use kontiki_api::field::FieldError;
use serde::Deserialize;
use serde_json::json;

use super::{
    chain::{Chain, Provider},
    cipher::Algorithm,
    resources::{GroupResource, check_names, check_overlaps},
};

/// Why a value of a configured resource is not read: no provider knows it.
const UNMATCHED: &str = "no matching prefix found";

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is nothing in the file.
    #[error("encryption configuration: the file is empty")]
    Empty,
    /// It cannot be read.
    #[error("encryption configuration: {0}")]
    Syntax(#[from] serde_norway::Error),
    /// It is of another kind.
    #[error(
        "encryption configuration: expected kind EncryptionConfiguration of apiserver.config.k8s.io/v1, found {kind} of {version}"
    )]
    Kind {
        /// What was found.
        kind: String,
        /// In which version.
        version: String,
    },
    /// It breaks rules.
    #[error("encryption configuration: {}", words(.0))]
    Invalid(Vec<FieldError>),
    /// An earlier rule leaves nothing to a later one.
    #[error("encryption configuration: resource {0:?} is masked by earlier rule {1:?}")]
    Masked(String, String),
}

fn words(errors: &[FieldError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    resources: Vec<Rule>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Rule {
    resources: Vec<String>,
    providers: Vec<ProviderEntry>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ProviderEntry {
    aesgcm: Option<Keys>,
    aescbc: Option<Keys>,
    secretbox: Option<Keys>,
    identity: Option<Nothing>,
    kms: Option<serde_json::Value>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Nothing {}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Keys {
    keys: Vec<Key>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Key {
    name: String,
    secret: String,
}

/// Which providers store which resources. The most particular entry for a resource decides.
#[derive(Default)]
pub struct Rules {
    chains: Vec<(GroupResource, Chain)>,
}

impl Rules {
    /// Reads YAML or JSON.
    ///
    /// # Errors
    /// It is no EncryptionConfiguration, or breaks its rules.
    pub fn parse(text: &[u8]) -> Result<Self, ConfigError> {
        if text.is_empty() {
            return Err(ConfigError::Empty);
        }
        let file: File = serde_norway::from_slice(text)?;
        if (file.api_version.as_str(), file.kind.as_str()) != ("apiserver.config.k8s.io/v1", "EncryptionConfiguration") {
            return Err(ConfigError::Kind { kind: file.kind, version: file.api_version });
        }
        let errors = check(&file);
        if !errors.is_empty() {
            return Err(ConfigError::Invalid(errors));
        }
        let mut rules = Self::default();
        for rule in &file.resources {
            for resource in &rule.resources {
                rules.add(GroupResource::parse(resource), Chain::new(rule.links(), UNMATCHED))?;
            }
        }
        Ok(rules)
    }

    fn add(&mut self, resource: GroupResource, chain: Chain) -> Result<(), ConfigError> {
        for wider in [GroupResource::all_of(&resource.group), GroupResource::all()] {
            if self.chains.iter().any(|(known, _)| *known == wider) {
                return Err(ConfigError::Masked(resource.to_string(), wider.to_string()));
            }
        }
        match self.chains.iter_mut().find(|(known, _)| *known == resource) {
            Some((_, known)) => known.extend(chain),
            None => self.chains.push((resource, chain)),
        }
        Ok(())
    }

    /// The providers of a resource; `None` where its values are stored as they are.
    pub fn of(&self, group: &str, plural: &str) -> Option<&Chain> {
        let find = |group: &str, plural: &str| {
            self.chains.iter().find(|(known, _)| known.group == group && known.resource == plural).map(|(_, chain)| chain)
        };
        find(group, plural).or_else(|| find(group, "*")).or_else(|| find("*", "*"))
    }
}

impl Rule {
    /// Providers with their ciphers; the rule was checked.
    fn links(&self) -> Vec<(String, Provider)> {
        let link = |entry: &ProviderEntry| match entry.keys() {
            Some((algorithm, _, keys)) => {
                let key = |key: &Key| {
                    let cipher = algorithm.with_key(&BASE64_STANDARD.decode(&key.secret).ok()?)?;
                    Some((format!("{}:", key.name), Provider::Key(cipher)))
                };
                let keys = Chain::new(keys.iter().filter_map(key).collect(), algorithm.unmatched());
                (algorithm.prefix().to_owned(), Provider::Keys(keys))
            }
            None => (String::new(), Provider::Identity),
        };
        self.providers.iter().map(link).collect()
    }
}

impl ProviderEntry {
    /// The provider with its name in the file and its keys, if it is one that has any.
    fn keys(&self) -> Option<(Algorithm, &'static str, &[Key])> {
        let providers = [
            (Algorithm::AesGcm, "aesgcm", &self.aesgcm),
            (Algorithm::AesCbc, "aescbc", &self.aescbc),
            (Algorithm::Secretbox, "secretbox", &self.secretbox),
        ];
        providers.into_iter().find_map(|(algorithm, name, keys)| Some((algorithm, name, keys.as_ref()?.keys.as_slice())))
    }
}

fn check(file: &File) -> Vec<FieldError> {
    if file.resources.is_empty() {
        return vec![FieldError::required("resources", "at least one resources is required")];
    }
    let mut errors = Vec::new();
    for (index, rule) in file.resources.iter().enumerate() {
        let (resources, providers) = (format!("resources[{index}].resources"), format!("resources[{index}].providers"));
        for (path, empty) in [(&resources, rule.resources.is_empty()), (&providers, rule.providers.is_empty())] {
            if empty {
                errors.push(FieldError::required(path, format!("at least one {path} is required")));
            }
        }
        errors.extend(check_overlaps(&resources, &rule.resources));
        errors.extend(check_names(&resources, &rule.resources));
        for (index, provider) in rule.providers.iter().enumerate() {
            errors.extend(check_provider(&format!("{providers}[{index}]"), provider));
        }
    }
    errors
}

fn check_provider(path: &str, provider: &ProviderEntry) -> Vec<FieldError> {
    let ProviderEntry { aesgcm, aescbc, secretbox, identity, kms } = provider;
    let given = [kms.is_some(), aesgcm.is_some(), aescbc.is_some(), secretbox.is_some(), identity.is_some()];
    match given.into_iter().filter(|given| *given).count() {
        0 => {
            let detail = "provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, Secretbox, Identity";
            return vec![FieldError::invalid(path, &json!({}), detail)];
        }
        1 => {}
        _ => {
            let detail = "more than one provider specified in a single element, should split into different list elements";
            return vec![FieldError::invalid(path, &json!("REDACTED"), detail)];
        }
    }
    if kms.is_some() {
        return vec![FieldError::forbidden(format!("{path}.kms"), "key management services are not supported by this server")];
    }
    let Some((algorithm, name, keys)) = provider.keys() else { return Vec::new() };
    let path = format!("{path}.{name}.keys");
    if keys.is_empty() {
        return vec![FieldError::required(path, "at least one keys is required")];
    }
    let check = |(index, key): (usize, &Key)| check_key(&format!("{path}[{index}]"), key, algorithm);
    keys.iter().enumerate().flat_map(check).collect()
}

fn check_key(path: &str, key: &Key, algorithm: Algorithm) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if key.name.is_empty() {
        errors.push(FieldError::required(format!("{path}.name"), "name is a mandatory field for a key"));
    }
    let secret = format!("{path}.secret");
    if key.secret.is_empty() {
        errors.push(FieldError::required(secret, "secret is a mandatory field for a key"));
        return errors;
    }
    let hidden = json!("REDACTED");
    match BASE64_STANDARD.decode(&key.secret) {
        Err(_) => errors.push(FieldError::invalid(secret, &hidden, "secrets must be base64 encoded")),
        Ok(bytes) if !algorithm.key_lengths().contains(&bytes.len()) => {
            let lengths = algorithm.key_lengths().iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            let detail = format!("secret is not of the expected length, got {}, expected one of [{lengths}]", bytes.len());
            errors.push(FieldError::invalid(secret, &hidden, detail));
        }
        Ok(_) => {}
    }
    errors
}
