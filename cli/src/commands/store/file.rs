//! etcd's YAML file: keys are flags, and two groups of keys are the TLS flags of clients and peers.

use serde_json::Value;

/// Groups, and the flags that their keys stand for.
const GROUPS: [(&str, &[(&str, &str)]); 2] = [
    (
        "client-transport-security",
        &[
            ("cert-file", "cert-file"),
            ("key-file", "key-file"),
            ("client-cert-file", "client-cert-file"),
            ("client-key-file", "client-key-file"),
            ("client-cert-auth", "client-cert-auth"),
            ("trusted-ca-file", "trusted-ca-file"),
            ("client-crl-file", "client-crl-file"),
            ("allowed-hostname", "client-cert-allowed-hostname"),
            ("auto-tls", "auto-tls"),
        ],
    ),
    (
        "peer-transport-security",
        &[
            ("cert-file", "peer-cert-file"),
            ("key-file", "peer-key-file"),
            ("client-cert-file", "peer-client-cert-file"),
            ("client-key-file", "peer-client-key-file"),
            ("client-cert-auth", "peer-client-cert-auth"),
            ("trusted-ca-file", "peer-trusted-ca-file"),
            ("crl-file", "peer-crl-file"),
            ("allowed-cn", "peer-cert-allowed-cn"),
            ("allowed-hostname", "peer-cert-allowed-hostname"),
            ("auto-tls", "peer-auto-tls"),
            ("skip-client-san-verification", "peer-skip-client-san-verification"),
        ],
    ),
];

/// Flags and values, in the file's order.
pub fn read(text: &str) -> Result<Vec<(String, String)>, String> {
    let value: Value = serde_norway::from_str(text).map_err(|error| format!("error parsing the configuration file: {error}"))?;
    let Some(map) = value.as_object() else {
        return Err("the configuration file must hold a map of settings".to_owned());
    };
    let mut settings = Vec::new();
    for (key, value) in map {
        let Some((_, keys)) = GROUPS.iter().find(|(group, _)| group == key) else {
            settings.extend(plain(key, value)?.map(|value| (key.clone(), value)));
            continue;
        };
        for (inner, value) in value.as_object().into_iter().flatten() {
            let Some((_, flag)) = keys.iter().find(|(name, _)| name == inner) else {
                return Err(format!("unknown key {inner:?} of {key:?} in the configuration file"));
            };
            settings.extend(plain(inner, value)?.map(|value| ((*flag).to_owned(), value)));
        }
    }
    Ok(settings)
}

/// A value as a flag's text; what is empty says nothing.
fn plain(key: &str, value: &Value) -> Result<Option<String>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
        Value::Number(_) | Value::Bool(_) => Ok(Some(value.to_string())),
        Value::Array(items) => {
            let texts =
                items.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(|| format!("{key}: a list of texts")));
            Ok(Some(texts.collect::<Result<Vec<_>, _>>()?.join(",")).filter(|text| !text.is_empty()))
        }
        Value::Object(_) => Err(format!("{key}: must be text, a number, true or false")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn groups_become_flags() {
        let text = "name: a\ncors:\nlog-outputs: [stderr]\npeer-transport-security:\n  cert-file: c\n  allowed-cn:\n";
        let mut settings = read(text).unwrap();
        settings.sort();
        let pairs: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("log-outputs", "stderr"), ("name", "a"), ("peer-cert-file", "c")]);
        assert!(read("- a").is_err());
        assert!(read("peer-transport-security:\n  nothing: x\n").is_err());
    }
}
