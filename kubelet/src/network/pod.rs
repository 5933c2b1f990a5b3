//! Connects a pod's network namespace to the node.

use std::{
    fs::File,
    net::{IpAddr, Ipv4Addr},
    os::fd::AsRawFd,
    path::PathBuf,
};

use anyhow::{Context, Result};
use rtnetlink::{LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::namespace::{add_address, find, index_of, inside, on_thread, set_up, with_netlink};

/// The gateway of every pod: each host interface owns it, and nobody else sees it.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// Name of the interface inside the pod.
pub const INTERFACE: &str = "eth0";

/// One pod to connect.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Name of the interface on the node.
    pub host_interface: String,
    /// The pod's network namespace.
    pub namespace: PathBuf,
    /// Address of the pod.
    pub address: Ipv4Addr,
    /// Address of the node, from which the node itself speaks to the pod.
    pub node_address: Ipv4Addr,
}

/// Name of the interface on the node for a sandbox: `veth` and the first digits of its identifier.
pub fn host_interface(sandbox: &str) -> String {
    format!("veth{}", &sandbox[..sandbox.len().min(11)])
}

/// Connects a pod. Blocks; may be repeated.
pub fn connect(connection: Connection) -> Result<()> {
    let host = connection.clone();
    on_thread(move || with_netlink(async move |handle| connect_host(&handle, &host).await))?;
    inside(&connection.namespace.clone(), async move |handle| {
        set_up(&handle, "lo").await?;
        let index = index_of(&handle, INTERFACE).await?;
        add_address(&handle, index, IpAddr::V4(connection.address), 32).await?;
        set_up(&handle, INTERFACE).await?;
        let gateway = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(GATEWAY, 32)
            .output_interface(index)
            .scope(rtnetlink::packet_route::route::RouteScope::Link)
            .build();
        handle.route().add(gateway).replace().execute().await.context("route to the gateway")?;
        let default = RouteMessageBuilder::<Ipv4Addr>::new().gateway(GATEWAY).output_interface(index).build();
        handle.route().add(default).replace().execute().await.context("set the pod's default route")
    })
}

async fn connect_host(handle: &rtnetlink::Handle, connection: &Connection) -> Result<()> {
    let name = &connection.host_interface;
    if let Some(index) = find(handle, name).await? {
        handle.link().del(index).execute().await.with_context(|| format!("remove the old {name}"))?;
    }
    let namespace = File::open(&connection.namespace).context("open the pod's network namespace")?;
    // The far end must not meet an interface of the node by name before it is moved.
    let far = format!("p{}", &name[4..]);
    handle.link().add(LinkVeth::new(name, &far).build()).execute().await.with_context(|| format!("make {name}"))?;
    let far_index = index_of(handle, &far).await?;
    let moved = LinkUnspec::new_with_index(far_index).name(INTERFACE.to_owned()).setns_by_fd(namespace.as_raw_fd()).build();
    handle.link().set(moved).execute().await.context("move the interface into the pod")?;
    let index = index_of(handle, name).await?;
    add_address(handle, index, IpAddr::V4(GATEWAY), 32).await?;
    set_up(handle, name).await?;
    let route = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(connection.address, 32)
        .output_interface(index)
        .pref_source(connection.node_address)
        .scope(rtnetlink::packet_route::route::RouteScope::Link)
        .build();
    handle.route().add(route).replace().execute().await.context("route to the pod")
}

/// Removes a pod's interface from the node, and its route with it. Blocks.
pub fn disconnect(host_interface: String) -> Result<()> {
    on_thread(move || {
        with_netlink(async move |handle| match find(&handle, &host_interface).await? {
            Some(index) => match handle.link().del(index).execute().await {
                // It went with the pod's namespace meanwhile.
                Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -nix::libc::ENODEV => Ok(()),
                other => other.with_context(|| format!("remove {host_interface}")),
            },
            None => Ok(()),
        })
    })
}
