//! What is counted of tokens, under kube-apiserver's names.

use prometheus_client::{metrics::counter::Counter, registry::Registry};

/// Uses of tokens that live in Secrets.
#[derive(Clone, Debug, Default)]
pub struct TokenMetrics {
    /// All of them.
    pub legacy: Counter,
    /// Those that somebody has asked for.
    pub manual: Counter,
    /// Those that every account once got.
    pub generated: Counter,
    /// Those that are marked as good no more.
    pub invalid: Counter,
}

impl TokenMetrics {
    /// Makes them part of `/metrics`.
    pub fn register(&self, registry: &mut Registry) {
        let name = |name: &str| format!("serviceaccount_{name}");
        registry.register(name("legacy_tokens"), "Uses of tokens that live in Secrets", self.legacy.clone());
        registry.register(name("legacy_manual_token_uses"), "Uses of those that were asked for", self.manual.clone());
        registry.register(name("legacy_auto_token_uses"), "Uses of those that accounts once got", self.generated.clone());
        let invalid = self.invalid.clone();
        registry.register(name("invalid_legacy_auto_token_uses"), "Uses of those that are good no more", invalid);
    }
}
