//! Image garbage collection: images that nobody uses go when the disk fills up, the longest unused first.
//!
//! In: the images, those in use, the file system. Out: images to remove ([`choose`], pure).
//! <https://kubernetes.io/docs/concepts/architecture/garbage-collection/#container-image-garbage-collection>

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{
    Options,
    pods::{Handle, model},
    runtime::Image,
};

/// How often the disk is looked at.
const PERIOD: Duration = Duration::from_secs(300);

/// When images go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Percentage of the disk in use from which on images go; at 100 none do.
    pub high: u8,
    /// Percentage down to which they go.
    pub low: u8,
    /// An image younger than this stays: its container may be about to come.
    pub age_min: Duration,
}

/// What is known of an image over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    first: Timestamp,
    last_used: Timestamp,
}

/// Remembers since when images are unused.
#[derive(Default)]
pub struct Collector {
    known: Mutex<BTreeMap<String, Known>>,
}

impl Collector {
    /// Looks at the disk until `cancel`.
    pub async fn run(&self, options: &Options, pods: &Handle, cancel: CancellationToken) {
        let policy = options.configuration.images;
        let mut period = tokio::time::interval(PERIOD);
        loop {
            tokio::select! {
                _ = period.tick() => {}
                () = cancel.cancelled() => return,
            }
            let room = options.runtime.node_stats().await.unwrap_or_default().file_system;
            if let Some(bytes) = excess(policy, room.capacity_bytes, room.available_bytes) {
                let freed = self.free(options, pods, bytes).await;
                if freed < bytes {
                    tracing::warn!(wanted = bytes, freed, "the disk is nearly full, and unused images do not make enough room");
                }
            } else if policy.high < 100 {
                self.look(options, pods, Timestamp::now()).await;
            }
        }
    }

    /// Removes unused images until so many bytes are free; says how many are.
    pub async fn free(&self, options: &Options, pods: &Handle, bytes: u64) -> u64 {
        let now = Timestamp::now();
        let images = self.look(options, pods, now).await;
        let chosen = choose(&images, &self.known.lock(), options.configuration.images.age_min, bytes, now);
        let mut freed = 0;
        for (id, size) in chosen {
            match options.runtime.remove_image(&id).await {
                Ok(()) => {
                    tracing::info!(image = id, size, "removed an image that nobody uses");
                    freed += size;
                }
                Err(error) => tracing::warn!(image = id, %error, "cannot remove an image"),
            }
        }
        freed
    }

    /// Takes note of what is there and in use.
    async fn look(&self, options: &Options, pods: &Handle, now: Timestamp) -> Vec<Image> {
        let images = options.runtime.list_images().await.unwrap_or_default();
        let mut used: BTreeSet<String> = BTreeSet::new();
        let containers = options.runtime.list_containers().await.unwrap_or_default();
        let mut names: BTreeSet<String> = containers.into_iter().map(|container| container.image).collect();
        for pod in pods.active() {
            let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
            names.extend(volumes.iter().filter_map(|volume| volume.image.as_ref()?.reference.clone()));
            names
                .extend(model::containers(&pod).iter().chain(model::init_containers(&pod)).filter_map(|spec| spec.image.clone()));
        }
        for name in names {
            used.extend(options.runtime.image_status(&name).await.ok().flatten().map(|image| image.id));
        }
        note(&mut self.known.lock(), &images, &used, now);
        images
    }
}

fn note(known: &mut BTreeMap<String, Known>, images: &[Image], used: &BTreeSet<String>, now: Timestamp) {
    known.retain(|id, _| images.iter().any(|image| image.id == *id));
    for image in images {
        // An image that was never used goes before those that were.
        let entry = known.entry(image.id.clone()).or_insert(Known { first: now, last_used: Timestamp::MIN });
        if used.contains(&image.id) {
            entry.last_used = now;
        }
    }
}

/// Bytes to free; none where the disk is not too full.
fn excess(policy: Policy, capacity: u64, available: u64) -> Option<u64> {
    let used = 100 - available.min(capacity).saturating_mul(100).checked_div(capacity)?;
    let wanted = capacity / 100 * u64::from(100 - policy.low.min(100));
    (policy.high < 100 && used >= u64::from(policy.high)).then(|| wanted.saturating_sub(available))
}

/// Images to remove, with their sizes.
fn choose(
    images: &[Image],
    known: &BTreeMap<String, Known>,
    age_min: Duration,
    bytes: u64,
    now: Timestamp,
) -> Vec<(String, u64)> {
    let age = |known: &Known| Duration::try_from(now.duration_since(known.first)).unwrap_or_default();
    let mut free: Vec<(&Known, &Image)> = images.iter().filter_map(|image| Some((known.get(&image.id)?, image))).collect();
    free.retain(|(known, _)| known.last_used < now && age(known) >= age_min);
    free.sort_by_key(|(known, _)| (known.last_used, known.first));
    let mut freed = 0;
    let enough = free.into_iter().take_while(|(_, image)| {
        let more = freed < bytes;
        freed += image.size;
        more
    });
    enough.map(|(_, image)| (image.id.clone(), image.size)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap_or_default()
    }

    #[test]
    fn a_full_disk_is_emptied_to_the_low_mark() {
        let policy = Policy { high: 85, low: 80, age_min: Duration::ZERO };
        assert_eq!(excess(policy, 1000, 160), None);
        assert_eq!(excess(policy, 1000, 150), Some(50));
        assert_eq!(excess(Policy { high: 100, ..policy }, 1000, 0), None);
        assert_eq!(excess(policy, 0, 0), None);
    }

    #[test]
    fn the_longest_unused_go_and_the_used_and_new_stay() {
        let image = |id: &str| Image { id: id.to_owned(), size: 10, ..Image::default() };
        let images: Vec<_> = ["used", "long-ago", "lately", "never", "new"].map(image).into();
        let mut known = BTreeMap::new();
        let used = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<BTreeSet<_>>();
        note(&mut known, &images[..4], &used(&["used", "long-ago"]), at(0));
        note(&mut known, &images[..4], &used(&["used", "lately"]), at(100));
        note(&mut known, &images, &used(&["used"]), at(200));
        let chosen = |bytes| {
            let chosen = choose(&images, &known, Duration::from_secs(120), bytes, at(200));
            chosen.into_iter().map(|(id, _)| id).collect::<Vec<_>>()
        };
        assert_eq!(chosen(u64::MAX), ["never", "long-ago", "lately"]);
        assert_eq!(chosen(11), ["never", "long-ago"]);
        assert!(chosen(0).is_empty());
        note(&mut known, &images[1..], &used(&[]), at(300));
        assert!(!known.contains_key("used"), "what is gone is forgotten");
    }
}
