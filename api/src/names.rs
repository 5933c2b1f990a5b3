//! Rules for names, labels and annotations, with a message for each that is broken.
//!
//! <https://kubernetes.io/docs/concepts/overview/working-with-objects/names/>

const DNS_LABEL_MAX: usize = 63;
const DNS_SUBDOMAIN_MAX: usize = 253;
const QUALIFIED_NAME_MAX: usize = 63;

/// RFC 1123 subdomain: what most objects are named by.
#[must_use]
pub fn dns_subdomain(name: &str) -> Vec<String> {
    let mut errors = too_long(name, DNS_SUBDOMAIN_MAX);
    if !name.split('.').all(is_dns_label) {
        errors.push(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end \
             with an alphanumeric character (e.g. 'example.com', regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
                .into(),
        );
    }
    errors
}

/// RFC 1123 label: namespaces, containers, volumes.
#[must_use]
pub fn dns_label(name: &str) -> Vec<String> {
    let mut errors = too_long(name, DNS_LABEL_MAX);
    if !is_dns_label(name) {
        errors.push(
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an \
             alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
                .into(),
        );
    }
    errors
}

/// RFC 1035 label.
#[must_use]
pub fn dns_1035_label(name: &str) -> Vec<String> {
    let mut errors = too_long(name, DNS_LABEL_MAX);
    if !(is_dns_label(name) && name.starts_with(|c: char| c.is_ascii_lowercase())) {
        errors.push(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end \
             with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
                .into(),
        );
    }
    errors
}

/// Names that stand in a path but follow no DNS rule, such as those of roles.
#[must_use]
pub fn path_segment(name: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if matches!(name, "." | "..") {
        errors.push(format!("may not be '{name}'"));
    }
    for forbidden in ['/', '%'] {
        if name.contains(forbidden) {
            errors.push(format!("may not contain '{forbidden}'"));
        }
    }
    errors
}

/// A subdomain whose first label is a star, as hosts of certificates and ingresses have.
#[must_use]
pub fn wildcard_dns_subdomain(name: &str) -> Vec<String> {
    let mut errors = too_long(name, DNS_SUBDOMAIN_MAX);
    if !name.strip_prefix("*.").is_some_and(|rest| rest.split('.').all(is_dns_label)) {
        errors.push(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case \
             alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for \
             validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
                .into(),
        );
    }
    errors
}

/// Name of a port.
#[must_use]
pub fn port_name(name: &str) -> Vec<String> {
    const LENGTH_MAX: usize = 15;
    let mut errors = Vec::new();
    if name.len() > LENGTH_MAX {
        errors.push(format!("must be no more than {LENGTH_MAX} bytes"));
    }
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') {
        errors.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !name.bytes().any(|byte| byte.is_ascii_lowercase()) {
        errors.push("must contain at least one letter (a-z)".into());
    }
    if name.contains("--") {
        errors.push("must not contain consecutive hyphens".into());
    }
    if name.starts_with('-') || name.ends_with('-') {
        errors.push("must not begin or end with a hyphen".into());
    }
    errors
}

/// A domain and a path behind it, such as `acme.io/foo`: who manages a job, or a finalizer.
#[must_use]
pub fn domain_path(name: &str) -> Vec<String> {
    let wrong = || vec!["must be a domain-prefixed path (such as \"acme.io/foo\")".to_owned()];
    if name.is_empty() {
        return vec!["must not be empty".to_owned()];
    }
    let Some((domain, path)) = name.split_once('/').filter(|(domain, path)| !domain.is_empty() && !path.is_empty()) else {
        return wrong();
    };
    let mut errors = dns_subdomain(domain);
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@%/".contains(&byte);
    if !path.bytes().all(letter) {
        errors.push("Invalid path".to_owned());
    }
    errors
}

/// Key of a label, annotation or taint: an optional DNS prefix and a name.
#[must_use]
pub fn qualified_name(key: &str) -> Vec<String> {
    let mut errors = Vec::new();
    let name = match key.split_once('/') {
        None => key,
        Some((prefix, name)) => {
            if prefix.is_empty() {
                errors.push("prefix part must be non-empty".into());
            } else {
                errors.extend(dns_subdomain(prefix).into_iter().map(|reason| format!("prefix part {reason}")));
            }
            if name.contains('/') {
                errors.push(
                    "a valid label key must consist of a name part with an optional DNS subdomain prefix and '/' (e.g. \
                     'example.com/MyName')"
                        .into(),
                );
                return errors;
            }
            name
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".into());
    } else if name.len() > QUALIFIED_NAME_MAX {
        errors.push(format!("name part must be no more than {QUALIFIED_NAME_MAX} bytes"));
    }
    if !is_qualified(name) {
        errors.push(
            "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character \
             (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
             '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
                .into(),
        );
    }
    errors
}

/// Value of a label.
#[must_use]
pub fn label_value(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > DNS_LABEL_MAX {
        errors.push(format!("must be no more than {DNS_LABEL_MAX} bytes"));
    }
    if !value.is_empty() && !is_qualified(value) {
        errors.push(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with \
             an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is \
             '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
                .into(),
        );
    }
    errors
}

/// Key of a ConfigMap or Secret.
#[must_use]
pub fn config_map_key(key: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if key.len() > DNS_SUBDOMAIN_MAX {
        errors.push(format!("must be no more than {DNS_SUBDOMAIN_MAX} characters"));
    }
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')) {
        errors.push(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or \
             'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
                .into(),
        );
    }
    if key == "." || key.starts_with("..") {
        errors.push(format!("must not be '{key}'"));
    }
    errors
}

fn too_long(name: &str, limit: usize) -> Vec<String> {
    if name.len() > limit { vec![format!("must be no more than {limit} bytes")] } else { Vec::new() }
}

fn is_dns_label(label: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = label.as_bytes();
    !bytes.is_empty()
        && inner(bytes[0])
        && inner(bytes[bytes.len() - 1])
        && bytes.iter().all(|byte| inner(*byte) || *byte == b'-')
}

fn is_qualified(name: &str) -> bool {
    let bytes = name.as_bytes();
    let edge = |byte: &u8| byte.is_ascii_alphanumeric();
    bytes.first().is_some_and(edge)
        && bytes.last().is_some_and(edge)
        && bytes.iter().all(|byte| edge(byte) || matches!(byte, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged_as_kubernetes_does() {
        for (rule, good, bad) in [
            (dns_subdomain as fn(&str) -> Vec<String>, "a.b-1", "A"),
            (dns_label, "1a", "a.b"),
            (dns_1035_label, "a1", "1a"),
            (qualified_name, "example.com/My.Name", "a/b/c"),
            (qualified_name, "app", "-app"),
            (label_value, "", "a b"),
            (config_map_key, "a.b", "a/b"),
            (path_segment, "system:node", "a/b"),
        ] {
            assert_eq!(rule(good), Vec::<String>::new(), "{good}");
            assert!(!rule(bad).is_empty(), "{bad}");
        }
        assert_eq!(dns_subdomain(&"a".repeat(300)), ["must be no more than 253 bytes"]);
    }
}
