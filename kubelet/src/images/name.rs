//! Names of images, as Docker writes them: `nginx` is `docker.io/library/nginx:latest`.

use oci_client::Reference;

use crate::runtime::RuntimeError;

/// Parses a name and completes it.
pub fn parse(image: &str) -> Result<Reference, RuntimeError> {
    let invalid = |reason: String| {
        RuntimeError::InvalidImageName(format!(
            "Failed to apply default image tag \"{image}\": couldn't parse image name \"{image}\": {reason}"
        ))
    };
    let lower_case = image.split('@').next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
    let repository = lower_case.split(':').next().unwrap_or_default();
    if repository.chars().any(|c| c.is_ascii_uppercase()) {
        return Err(invalid(format!("invalid reference format: repository name ({repository}) must be lowercase")));
    }
    image.parse::<Reference>().map_err(|_| invalid("invalid reference format".to_owned()))
}

/// The name without tag and digest: `docker.io/library/nginx`.
pub fn repository(reference: &Reference) -> String {
    format!("{}/{}", reference.registry(), reference.repository())
}

/// The completed name with its tag, if it is named by tag.
pub fn tagged(reference: &Reference) -> Option<String> {
    let tag = reference.tag()?;
    reference.digest().is_none().then(|| format!("{}:{tag}", repository(reference)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_completed() {
        let cases = [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.21", "docker.io/library/nginx:1.21"),
            ("me/app:v1", "docker.io/me/app:v1"),
            ("localhost:5000/app", "localhost:5000/app:latest"),
            ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10"),
        ];
        for (given, wanted) in cases {
            assert_eq!(tagged(&parse(given).unwrap()).as_deref(), Some(wanted));
        }
    }

    #[test]
    fn a_name_that_cannot_be_is_refused_in_kubernetes_words() {
        let error = parse("UPPER").unwrap_err().to_string();
        assert!(error.contains("couldn't parse image name \"UPPER\": invalid reference format"), "{error}");
        assert!(parse("a b").is_err());
    }
}
