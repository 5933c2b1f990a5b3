//! How long a node may take to go down: what its kubelet's settings give to pods.

use std::{fs, time::Duration};

use kontiki_kubelet::{configuration::Configuration, shutdown};

use super::paths::Paths;

/// What the kubelet may take beside the pods: it tells of their ends, and at last of its own.
const MARGIN: Duration = Duration::from_secs(8);

/// Time for the pods of a node and its kubelet; none where pods end with the machine. Settings that cannot be read give
/// none: a kubelet that has them does not run.
pub fn shutdown_grace(paths: &Paths, node: &str) -> Duration {
    let text = fs::read_to_string(paths.kubelet_config(node)).unwrap_or_default();
    from_settings(&text)
}

fn from_settings(text: &str) -> Duration {
    let pods = Configuration::parse(text).map(|settings| shutdown::total(&settings.shutdown)).unwrap_or_default();
    if pods.is_zero() { pods } else { pods + MARGIN }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_that_get_no_time_delay_nobody() {
        assert_eq!(from_settings(""), Duration::ZERO);
        assert_eq!(from_settings("shutdownGracePeriod: some"), Duration::ZERO);
        assert_eq!(from_settings("shutdownGracePeriod: 20s"), Duration::from_secs(20) + MARGIN);
    }
}
