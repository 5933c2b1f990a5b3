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

use anyhow::{Context, Result, anyhow};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
};
use rtnetlink::{Handle, LinkBridge, LinkUnspec, LinkVeth, RouteMessageBuilder};

use crate::shape::{LINK_ADDRESS, LINK_PREFIX_LENGTH};

/// Name of the bridge in the link namespace.
pub const BRIDGE: &str = "nodes";
/// Name of a node's interface on the link.
pub const INTERFACE: &str = "eth0";
/// Longest name of an interface that the kernel takes.
const INTERFACE_NAME_MAX: usize = 15;

/// Runs `work` on a thread of its own inside the network namespace at `path`, with an async
/// runtime and a netlink connection that belong to that namespace.
pub fn inside<T, F>(path: &Path, work: F) -> Result<T>
where
    T: Send + 'static,
    F: AsyncFnOnce(Handle) -> Result<T> + Send + 'static,
{
    let namespace = File::open(path).with_context(|| format!("open network namespace {}", path.display()))?;
    run_thread(move || {
        setns(&namespace, CloneFlags::CLONE_NEWNET).context("enter the network namespace")?;
        block_on_netlink(work)
    })
}

fn run_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let thread = std::thread::Builder::new().name("netns".into()).spawn(work).context("start a thread")?;
    thread.join().map_err(|_| anyhow!("the network namespace thread panicked"))?
}

fn block_on_netlink<T, F: AsyncFnOnce(Handle) -> Result<T>>(work: F) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().context("open netlink")?;
        let connection = tokio::spawn(connection);
        let result = work(handle).await;
        connection.abort();
        result
    })
}

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
    if is_pinned(path) {
        umount2(path, MntFlags::MNT_DETACH).with_context(|| format!("unmount {}", path.display()))?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn is_pinned(path: &Path) -> bool {
    fs::read_to_string("/proc/self/mounts").is_ok_and(|mounts| mounts.lines().any(|line| line.split(' ').nth(1) == path.to_str()))
}

/// Makes a network namespace and binds it to `path`, as `ip netns add` does.
fn pin(path: &Path) -> Result<()> {
    let folder = path.parent().context("a namespace lies in a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    File::create(path).with_context(|| format!("make {}", path.display()))?;
    let path = path.to_owned();
    run_thread(move || {
        unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace (needs root)")?;
        mount(Some("/proc/thread-self/ns/net"), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .with_context(|| format!("pin a network namespace at {}", path.display()))
    })
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
        let far = LinkUnspec::new_with_index(far).setns_by_fd(own.as_raw_fd()).build();
        handle.link().set(far).execute().await.context("move the interface into the node")
    })?;
    run_thread(move || {
        block_on_netlink(async |handle| {
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

async fn set_up(handle: &Handle, name: &str) -> Result<()> {
    let index = index_of(handle, name).await?;
    let message = LinkUnspec::new_with_index(index).up().build();
    handle.link().set(message).execute().await.with_context(|| format!("set {name} up"))
}

async fn index_of(handle: &Handle, name: &str) -> Result<u32> {
    use futures::TryStreamExt;
    let mut links = handle.link().get().match_name(name.to_owned()).execute();
    let link = links.try_next().await.with_context(|| format!("look up interface {name}"))?;
    Ok(link.with_context(|| format!("no interface {name}"))?.header.index)
}
