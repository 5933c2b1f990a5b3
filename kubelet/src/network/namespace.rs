//! Work inside a network namespace, on a thread of its own; the rest of the process stays where it is.

use std::{fs::File, net::IpAddr, path::Path};

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns};
use rtnetlink::{Handle, LinkUnspec};

/// Runs `work` inside the network namespace at `path`, with an async runtime and a netlink connection that
/// belong to that namespace. Blocks.
pub fn inside<T, F>(path: &Path, work: F) -> Result<T>
where
    T: Send + 'static,
    F: AsyncFnOnce(Handle) -> Result<T> + Send + 'static,
{
    let namespace = File::open(path).with_context(|| format!("open network namespace {}", path.display()))?;
    on_thread(move || {
        setns(&namespace, CloneFlags::CLONE_NEWNET).context("enter the network namespace")?;
        with_netlink(work)
    })
}

/// Runs blocking work on a thread that ends with it, so that what it does to itself stays there.
pub fn on_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let thread = std::thread::Builder::new().name("netns".into()).spawn(work).context("start a thread")?;
    thread.join().map_err(|_| anyhow!("the network namespace thread panicked"))?
}

/// Runs `work` with a netlink connection of the calling thread's namespace. Blocks.
pub fn with_netlink<T, F: AsyncFnOnce(Handle) -> Result<T>>(work: F) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().context("open netlink")?;
        let connection = tokio::spawn(connection);
        let result = work(handle).await;
        connection.abort();
        result
    })
}

/// Sets an interface up.
pub async fn set_up(handle: &Handle, name: &str) -> Result<()> {
    let index = index_of(handle, name).await?;
    let message = LinkUnspec::new_with_index(index).up().build();
    handle.link().set(message).execute().await.with_context(|| format!("set {name} up"))
}

/// Index of an interface.
pub async fn index_of(handle: &Handle, name: &str) -> Result<u32> {
    find(handle, name).await?.with_context(|| format!("no interface {name}"))
}

/// Index of an interface, if it is there.
pub async fn find(handle: &Handle, name: &str) -> Result<Option<u32>> {
    use futures::TryStreamExt;
    let mut links = handle.link().get().match_name(name.to_owned()).execute();
    match links.try_next().await {
        Ok(link) => Ok(link.map(|link| link.header.index)),
        Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -nix::libc::ENODEV => Ok(None),
        Err(error) => Err(error).with_context(|| format!("look up interface {name}")),
    }
}

/// Gives an interface an address.
pub async fn add_address(handle: &Handle, index: u32, address: IpAddr, prefix: u8) -> Result<()> {
    let added = handle.address().add(index, address, prefix).replace().execute().await;
    added.with_context(|| format!("give an interface the address {address}/{prefix}"))
}
