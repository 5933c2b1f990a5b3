//! Gets a container's image onto the node, by its pull policy.
//! <https://kubernetes.io/docs/concepts/containers/images/#image-pull-policy>

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Container as ContainerSpec, Pod};
use kontiki_api::resources::SECRETS;
use kontiki_client::events::EventType;
use serde_json::Value;

use super::{model, worker::Worker};
use crate::runtime::{RegistryAuth, RuntimeError};

/// Why an image is not there.
pub struct NoImage {
    /// Kubernetes' word.
    pub reason: &'static str,
    /// For the user.
    pub message: String,
    /// What the status says while the next attempt waits.
    pub waiting: (String, String),
}

/// As Go writes a duration: three digits behind the point, seconds or milliseconds.
pub fn in_words(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        return format!("{}ms", duration.as_millis());
    }
    let text = format!("{:.3}", duration.as_secs_f64());
    format!("{}s", text.trim_end_matches('0').trim_end_matches('.'))
}

fn policy<'a>(image: &str, own: Option<&'a str>) -> &'a str {
    let latest = image.ends_with(":latest") || !image.rsplit('/').next().unwrap_or_default().contains([':', '@']);
    own.unwrap_or(if latest { "Always" } else { "IfNotPresent" })
}

impl Worker {
    /// The identifier of a container's image, pulled if need be.
    pub(super) async fn image(&self, pod: &Pod, spec: &ContainerSpec) -> Result<String, NoImage> {
        let image = spec.image.as_deref().unwrap_or_default();
        self.image_named(pod, Some(spec), image, spec.image_pull_policy.as_deref()).await
    }

    /// The identifier of an image, pulled if need be; events are the container's, or the pod's where there is none.
    pub(super) async fn image_named(
        &self,
        pod: &Pod,
        spec: Option<&ContainerSpec>,
        image: &str,
        pull_policy: Option<&str>,
    ) -> Result<String, NoImage> {
        let tell = |kind, reason: &str, message: &str| match spec {
            Some(spec) => self.container_event(pod, spec, kind, reason, message),
            None => self.event(pod, kind, reason, message),
        };
        if let Err(error) = crate::images::name::parse(image) {
            let message = error.to_string();
            tell(EventType::Warning, "InspectFailed", &message);
            return Err(NoImage { reason: "InvalidImageName", waiting: ("InvalidImageName".into(), message.clone()), message });
        }
        let here = self.options.runtime.image_status(image).await.ok().flatten();
        let policy = policy(image, pull_policy);
        if let Some(here) = here.filter(|_| policy != "Always") {
            let message = format!("Container image \"{image}\" already present on machine and can be accessed by the pod");
            tell(EventType::Normal, "Pulled", &message);
            return Ok(here.id);
        }
        if policy == "Never" {
            let message = format!("Container image \"{image}\" is not present with pull policy of Never");
            tell(EventType::Warning, "ErrImageNeverPull", &message);
            return Err(NoImage { reason: "ErrImageNeverPull", waiting: ("ErrImageNeverPull".into(), message.clone()), message });
        }
        tell(EventType::Normal, "Pulling", &format!("Pulling image \"{image}\""));
        let began = Instant::now();
        let credentials = self.credentials(pod, image).await;
        match self.options.runtime.pull_image(image, &credentials).await {
            Ok(id) => {
                let took = in_words(began.elapsed());
                let size = self.options.runtime.image_status(image).await.ok().flatten().map_or(0, |image| image.size);
                let message = format!(
                    "Successfully pulled image \"{image}\" in {took} ({took} including waiting). Image size: {size} bytes."
                );
                tell(EventType::Normal, "Pulled", &message);
                Ok(id)
            }
            Err(error) => {
                let message = error.to_string();
                tell(EventType::Warning, "Failed", &format!("Failed to pull image \"{image}\": {message}"));
                tell(EventType::Warning, "Failed", "Error: ErrImagePull");
                let waiting = format!("Back-off pulling image \"{image}\": ErrImagePull: {message}");
                let reason = if matches!(error, RuntimeError::InvalidImageName(_)) { "InvalidImageName" } else { "ErrImagePull" };
                Err(NoImage { reason, message, waiting: ("ImagePullBackOff".to_owned(), waiting) })
            }
        }
    }

    /// Credentials for an image's registry from the pod's `imagePullSecrets`.
    async fn credentials(&self, pod: &Pod, image: &str) -> Vec<RegistryAuth> {
        let secrets = pod.spec.as_ref().and_then(|spec| spec.image_pull_secrets.as_deref()).unwrap_or_default();
        let mut found = Vec::new();
        for reference in secrets {
            // A secret that is missing is no error: the image may be public.
            let secret: Result<Value, _> = self.options.client.get(SECRETS, model::namespace(pod), &reference.name).await;
            if let Ok(secret) = secret {
                let data = crate::volumes::secret_bytes(&secret);
                found.extend(data.get(".dockerconfigjson").map(|config| credentials_in(config, image)).unwrap_or_default());
            }
        }
        found
    }
}

/// Credentials for an image's registry in a Docker configuration file.
fn credentials_in(config: &[u8], image: &str) -> Vec<RegistryAuth> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let registry = crate::images::name::parse(image).map(|reference| reference.registry().to_owned()).unwrap_or_default();
    let config: Value = serde_json::from_slice(config).unwrap_or_default();
    let entries = config["auths"].as_object().into_iter().flatten();
    let host = |server: &str| {
        let bare = server.trim_start_matches("https://").trim_start_matches("http://");
        let host = bare.split('/').next().unwrap_or_default();
        if host == "index.docker.io" { "docker.io".to_owned() } else { host.to_owned() }
    };
    let parse = |entry: &Value| {
        if let (Some(username), Some(password)) = (entry["username"].as_str(), entry["password"].as_str()) {
            return Some(RegistryAuth { username: username.to_owned(), password: password.to_owned() });
        }
        let text = String::from_utf8(STANDARD.decode(entry["auth"].as_str()?).ok()?).ok()?;
        let (username, password) = text.split_once(':')?;
        Some(RegistryAuth { username: username.to_owned(), password: password.to_owned() })
    };
    entries.filter(|(server, _)| host(server) == registry).filter_map(|(_, entry)| parse(entry)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_policy_goes_by_the_tag() {
        for (image, wanted) in
            [("nginx", "Always"), ("nginx:latest", "Always"), ("nginx:1.21", "IfNotPresent"), ("r:5000/nginx", "Always")]
        {
            assert_eq!(policy(image, None), wanted, "{image}");
        }
    }

    #[test]
    fn credentials_by_registry() {
        let config =
            br#"{"auths": {"https://index.docker.io/v1/": {"auth": "bWU6cHc="}, "quay.io": {"username": "u", "password": "p"}}}"#;
        assert_eq!(credentials_in(config, "nginx")[0].password, "pw");
        assert_eq!(credentials_in(config, "quay.io/a/b")[0].username, "u");
        assert!(credentials_in(config, "ghcr.io/a").is_empty());
    }

    #[test]
    fn durations_as_go_writes_them() {
        assert_eq!(in_words(Duration::from_millis(250)), "250ms");
        assert_eq!(in_words(Duration::from_millis(1500)), "1.5s");
    }
}
