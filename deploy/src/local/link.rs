//! The network that joins a cluster's nodes: a bridge in a namespace of its own.
//!
//! Whoever needs a socket or an interface there works on a thread that has entered the namespace
//! ([`inside`]); the rest of the process stays where it is.

use std::{
    fs::{self, File},
    net::{IpAddr, Ipv4Addr},
    os::fd::AsRawFd,
    path::Path,
};

use anyhow::{Context, Result};
pub use kontiki_kubelet::network::namespace::inside;
use kontiki_kubelet::network::namespace::{index_of, on_thread, set_up, with_netlink};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    sys::statfs::{NSFS_MAGIC, statfs},
};
use rtnetlink::{LinkBridge, LinkUnspec, LinkVeth, RouteMessageBuilder};

use crate::shape::{LINK_ADDRESS, LINK_PREFIX_LENGTH};

/// Name of the bridge in the link namespace.
pub const BRIDGE: &str = "nodes";
/// Name of a node's interface on the link.
pub const INTERFACE: &str = "eth0";
/// Longest name of an interface that the kernel takes.
const INTERFACE_NAME_MAX: usize = 15;

/// Makes the link namespace with its bridge, or finds it.
pub fn create(path: &Path) -> Result<()> {
    if !is_pinned(path) {
        pin(path)?;
    }
    inside(path, async |handle| {
        if index_of(&handle, BRIDGE).await.is_ok() {
            return Ok(());
        }
        handle.link().add(LinkBridge::new(BRIDGE).up().build()).execute().await.context("make the bridge")?;
        let bridge = index_of(&handle, BRIDGE).await?;
        let address = IpAddr::V4(LINK_ADDRESS);
        handle.address().add(bridge, address, LINK_PREFIX_LENGTH).execute().await.context("give the bridge its address")?;
        set_up(&handle, "lo").await
    })
}

/// Removes the link namespace and with it the bridge.
pub fn remove(path: &Path) -> Result<()> {
    // The supervisor that ends removes it too, and may be faster.
    if is_pinned(path)
        && let Err(error) = umount2(path, MntFlags::MNT_DETACH)
        && is_pinned(path)
    {
        return Err(error).with_context(|| format!("unmount {}", path.display()));
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Whether the link namespace is there. What the path shows decides: the table of mounts also names what a later mount hides.
pub fn is_pinned(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == NSFS_MAGIC)
}

/// Makes the folder of namespaces a mount of its own that is shared, unless it is one: `ip netns add` does the same, and
/// where it came later it would hide what is pinned there.
fn share(folder: &Path) -> Result<()> {
    let nothing = None::<&str>;
    let shared = || mount(nothing, folder, nothing, MsFlags::MS_SHARED | MsFlags::MS_REC, nothing);
    if shared().is_ok() {
        return Ok(());
    }
    mount(Some(folder), folder, nothing, MsFlags::MS_BIND | MsFlags::MS_REC, nothing)
        .and_then(|()| shared())
        .with_context(|| format!("make {} a shared mount (needs root)", folder.display()))
}

/// Makes a network namespace and binds it to `path`, as `ip netns add` does.
fn pin(path: &Path) -> Result<()> {
    let folder = path.parent().context("a namespace lies in a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    share(folder)?;
    File::create(path).with_context(|| format!("make {}", path.display()))?;
    let path = path.to_owned();
    on_thread(move || {
        unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace (needs root)")?;
        mount(Some("/proc/thread-self/ns/net"), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .with_context(|| format!("pin a network namespace at {}", path.display()))
    })
}

/// A node that is started again has the hardware address that it had: its neighbours remember that one, and would send to
/// nobody for half a minute. Locally administered, the node's own address in it.
fn hardware_address(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0x00, a, b, c, d]
}

/// Connects this process's network namespace to the link: called by a node's init.
pub fn attach(path: &Path, node: &str, address: Ipv4Addr) -> Result<()> {
    let own = File::open("/proc/self/ns/net").context("open this network namespace")?;
    let name: String = node.chars().take(INTERFACE_NAME_MAX).collect();
    inside(path, async move |handle| {
        let pair = LinkVeth::new(&name, INTERFACE).build();
        handle.link().add(pair).execute().await.with_context(|| format!("make interface {name}"))?;
        let bridge = index_of(&handle, BRIDGE).await?;
        let (near, far) = (index_of(&handle, &name).await?, index_of(&handle, INTERFACE).await?);
        let near = LinkUnspec::new_with_index(near).controller(bridge).up().build();
        handle.link().set(near).execute().await.context("attach to the bridge")?;
        let far =
            LinkUnspec::new_with_index(far).address(hardware_address(address).to_vec()).setns_by_fd(own.as_raw_fd()).build();
        handle.link().set(far).execute().await.context("move the interface into the node")
    })?;
    on_thread(move || {
        with_netlink(async |handle| {
            let interface = index_of(&handle, INTERFACE).await?;
            let prefix = LINK_PREFIX_LENGTH;
            handle.address().add(interface, IpAddr::V4(address), prefix).execute().await.context("give the node its address")?;
            set_up(&handle, INTERFACE).await?;
            set_up(&handle, "lo").await?;
            let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(LINK_ADDRESS).build();
            handle.route().add(route).execute().await.context("set the default route")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_are_local_to_one_interface_and_each_nodes_own() {
        let [first, second] = [11, 12].map(|last| hardware_address(Ipv4Addr::new(10, 89, 0, last)));
        assert_ne!(first, second);
        assert_eq!(first[0] & 0b11, 0b10);
    }
}
