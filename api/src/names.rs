//! Rules for names, labels and annotations.

/// RFC 1123 subdomain: what most objects are named by. A message per violated rule.
#[must_use]
pub fn dns_subdomain(_name: &str) -> Vec<String> {
    Vec::new()
}
