//! What is left on the node, and what a pod uses.

use std::{fs, path::PathBuf, sync::Arc};

use k8s_openapi::api::core::v1::Pod;

use super::{
    rank::{ContainerUse, PodUse},
    thresholds::{Measure, Measures, Signal},
};
use crate::{
    Options, disk,
    pods::{config, model},
    runtime::{FileSystem, SandboxState},
    volumes,
};

/// Measures the node.
pub async fn node(options: &Options) -> Measures {
    let Ok(stats) = options.runtime.node_stats().await else { return Measures::new() };
    let (root, capacity) = (options.root.clone(), options.capacity.memory_bytes);
    let own = tokio::task::spawn_blocking(move || (disk::file_system(&root), processes())).await;
    let (node_fs, processes) = own.unwrap_or_default();
    let mut measures = Measures::new();
    let mut add = |signal, available, capacity| measures.insert(signal, Measure { available, capacity });
    if let Some(available) = stats.memory_available {
        add(Signal::Memory, available, capacity);
    }
    let of = |room: &FileSystem| ((room.available_bytes, room.capacity_bytes), (room.inodes_free, room.inodes));
    let file_systems =
        [(Signal::NodeFs, Signal::NodeFsInodes, &node_fs), (Signal::ImageFs, Signal::ImageFsInodes, &stats.file_system)];
    for (bytes, inodes, room) in file_systems {
        let (in_bytes, in_inodes) = of(room);
        add(bytes, in_bytes.0, in_bytes.1);
        add(inodes, in_inodes.0, in_inodes.1);
    }
    if let Some(Measure { available, capacity }) = processes {
        add(Signal::Pid, available, capacity);
    }
    measures
}

/// Numbers for processes that are left.
fn processes() -> Option<Measure> {
    let number = |file: &str| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
    let capacity = number("/proc/sys/kernel/pid_max")?.min(number("/proc/sys/kernel/threads-max")?);
    let used = running(&fs::read_to_string("/proc/loadavg").ok()?)?;
    Some(Measure { available: capacity.saturating_sub(used), capacity })
}

/// Threads that there are, in /proc/loadavg: `0.1 0.2 0.3 2/345 6789`.
fn running(loadavg: &str) -> Option<u64> {
    loadavg.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()
}

/// Measures a pod; none where nothing of it is there.
pub async fn pod(options: &Options, pod: Arc<Pod>) -> Option<PodUse> {
    let runtime = &options.runtime;
    let sandboxes = runtime.list_sandboxes().await.ok()?;
    let mut ready = sandboxes.into_iter().filter(|sandbox| sandbox.state == SandboxState::Ready);
    let sandbox = ready.find(|sandbox| sandbox.pod_uid == model::uid(&pod))?;
    let stats = runtime.sandbox_stats(&sandbox.id).await.ok()?;
    let mut one = PodUse { memory: stats.usage.memory_working_set, processes: stats.usage.processes, ..PodUse::default() };
    for container in runtime.list_containers().await.ok()?.into_iter().filter(|container| container.sandbox_id == sandbox.id) {
        let Ok(stats) = runtime.container_stats(&container.id).await else { continue };
        let memory = stats.usage.memory_working_set;
        one.disk = (one.disk.0 + stats.written_bytes, one.disk.1 + stats.written_inodes);
        match one.containers.iter_mut().find(|known| known.name == container.name) {
            // Another run of the same container; what it wrote is still there.
            Some(known) => (known.memory, known.disk) = (known.memory.max(memory), known.disk + stats.written_bytes),
            None => one.containers.push(ContainerUse { name: container.name, memory, disk: stats.written_bytes }),
        }
    }
    for container in &mut one.containers {
        // Of all its runs.
        let (bytes, inodes) = size(config::log_directory(options, &pod).join(&container.name)).await;
        container.disk += bytes;
        one.disk = (one.disk.0 + bytes, one.disk.1 + inodes);
    }
    for (name, folder, in_memory) in empty_dirs(options, &pod) {
        let (bytes, inodes) = size(folder).await;
        one.empty_dirs.push((name, bytes));
        if !in_memory {
            one.disk = (one.disk.0 + bytes, one.disk.1 + inodes);
        }
    }
    one.pod = pod;
    Some(one)
}

/// Volumes that begin empty: name, folder, whether they lie in memory.
fn empty_dirs(options: &Options, pod: &Pod) -> Vec<(String, PathBuf, bool)> {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    let one = |volume: &k8s_openapi::api::core::v1::Volume| {
        let in_memory = volume.empty_dir.as_ref()?.medium.as_deref() == Some("Memory");
        Some((volume.name.clone(), volumes::empty_dir_folder(&options.root, pod, &volume.name), in_memory))
    };
    volumes.iter().filter_map(one).collect()
}

async fn size(folder: PathBuf) -> (u64, u64) {
    tokio::task::spawn_blocking(move || disk::size(&folder)).await.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_in_the_load() {
        assert_eq!(running("0.00 0.01 0.05 2/345 6789\n"), Some(345));
        assert_eq!(running(""), None);
    }
}
