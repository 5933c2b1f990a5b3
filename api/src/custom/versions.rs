//! The order of versions: stable before beta before alpha, newer before older, others last by name.

use std::cmp::Reverse;

/// What a version sorts by, the preferred one first.
#[must_use]
pub fn rank(version: &str) -> (u8, Reverse<u64>, Reverse<u64>, String) {
    let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let other = || (3, Reverse(0), Reverse(0), version.to_owned());
    let Some(rest) = version.strip_prefix('v') else { return other() };
    let (major, rest) = rest.split_at(digits(rest));
    let Ok(major) = major.parse() else { return other() };
    let (stage, minor) = match (rest, rest.strip_prefix("beta"), rest.strip_prefix("alpha")) {
        ("", ..) => (0, ""),
        (_, Some(minor), _) => (1, minor),
        (_, _, Some(minor)) => (2, minor),
        _ => return other(),
    };
    let minor = if minor.is_empty() { Ok(0) } else { minor.parse() };
    minor.map_or_else(|_| other(), |minor| (stage, Reverse(major), Reverse(minor), String::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_sort_as_kubernetes_documents() {
        let mut versions = ["foo10", "v3beta1", "v12alpha1", "v11alpha2", "v10", "v2", "v10beta3", "v11beta2", "v1", "foo1"];
        versions.sort_by_key(|version| rank(version));
        assert_eq!(versions, ["v10", "v2", "v1", "v11beta2", "v10beta3", "v3beta1", "v12alpha1", "v11alpha2", "foo1", "foo10"]);
    }
}
