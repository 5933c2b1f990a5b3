//! `metrics.k8s.io`: what nodes and pods use, for `kubectl top` and autoscalers, with nothing installed.
//!
//! In: the kubelets' own counters, read when somebody asks ([`collect`]). Out: NodeMetrics and PodMetrics: rates between
//! two readings ([`rates`]), in the API's forms ([`answer`]). A metrics server that is installed takes the group over by
//! its APIService. Invariant: nothing is read while nobody asks, and no answer waits for a node that is silent.
//! <https://kubernetes.io/docs/tasks/debug/debug-cluster/resource-metrics-pipeline/>

mod answer;
pub mod api;
mod collect;
mod rates;
mod readings;

pub use answer::answer;
pub use api::extension;
pub use collect::Collector;
