//! `ImageLocality`: nodes that have the pod's images already, unless few nodes do: those would be overrun.

use super::SCORE_MAX;
use crate::{
    cluster::{Cluster, NodeInfo},
    model::Pod,
};

/// Weight of the score.
pub const WEIGHT: i64 = 1;

const MEGABYTE: i64 = 1 << 20;
/// Images that are smaller together count for nothing.
const LEAST: i64 = 23 * MEGABYTE;
/// Bytes of one container's image above which more counts for nothing.
const MOST: i64 = 1000 * MEGABYTE;

/// The name as nodes tell it.
fn whole_name(name: &str) -> String {
    let tagged = name.rfind(':') > name.rfind('/');
    if tagged { name.to_owned() } else { format!("{name}:latest") }
}

/// How much of the pod's images is there.
pub fn score(pod: &Pod, info: &NodeInfo, cluster: &Cluster) -> i64 {
    if info.node.status.images.is_empty() {
        return 0;
    }
    let nodes = cluster.len().max(1) as f64;
    let there = |name: &String| {
        let name = whole_name(name);
        let known = info.node.status.images.iter().any(|image| image.names.contains(&name));
        let (bytes, spread) = cluster.image(&name).filter(|_| known)?;
        Some((bytes as f64 * spread as f64 / nodes) as i64)
    };
    let sum: i64 = pod.spec.images.iter().filter_map(there).sum();
    let most = MOST * i64::try_from(pod.spec.containers.max(1)).unwrap_or(1);
    SCORE_MAX * (sum.clamp(LEAST, most) - LEAST) / (most - LEAST)
}
