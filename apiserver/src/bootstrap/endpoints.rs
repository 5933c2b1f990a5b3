//! The endpoints of the `kubernetes` Service: the servers that are alive.
//!
//! In: a key of each server's in the store, which vanishes with its lease when the server stops renewing it. Out:
//! one EndpointSlice and one Endpoints object with the addresses of those that are there, written by whoever sees them
//! differ.

use std::{net::IpAddr, time::Duration};

use bytes::Bytes;
use http::Method;
use kontiki_api::resources::{ENDPOINT_SLICES, ENDPOINTS, ResourceKey};
use kontiki_proto::etcdserverpb as pb;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{ask, exists};
use crate::service::Handle;

/// Where the servers' keys lie, as kube-apiserver has them.
const PREFIX: &str = "/registry/masterleases/";
/// Seconds after which a silent server is no endpoint any more.
const LEASE_SECONDS: i64 = 15;
/// How often a server says that it is alive.
const PERIOD: Duration = Duration::from_secs(5);
const NAME: &str = "kubernetes";

/// Keeps this server's key and the slice true until `cancel`.
pub async fn run(handle: Handle, cancel: CancellationToken) {
    let mut lease = 0;
    loop {
        match tend(&handle, lease).await {
            Ok(kept) => lease = kept,
            Err(error) => {
                tracing::debug!(error, "the endpoints of the kubernetes Service are not up to date");
                lease = 0;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(PERIOD.mul_f64(rand::random_range(0.9..1.1))) => {}
            () = cancel.cancelled() => return,
        }
    }
}

async fn tend(handle: &Handle, lease: i64) -> Result<i64, String> {
    let kv = &handle.server().options.kv;
    let words = |error: kontiki_store::error::Error| error.to_string();
    let advertise = handle.server().options.advertise;
    let lives = lease != 0 && kv.lease_keep_alive(lease).await.map_err(words)?.ttl > 0;
    let lease = if lives {
        lease
    } else {
        let granted = kv.lease_grant(pb::LeaseGrantRequest { ttl: LEASE_SECONDS, id: 0 }).await.map_err(words)?;
        let key = format!("{PREFIX}{}", advertise.ip());
        kv.put(pb::PutRequest { key: key.into(), lease: granted.id, ..Default::default() }).await.map_err(words)?;
        granted.id
    };
    let end = crate::storage::keys::range_end(PREFIX);
    let request = pb::RangeRequest { key: PREFIX.into(), range_end: end, keys_only: true, ..Default::default() };
    let found = kv.range(request).await.map_err(words)?;
    let address = |kv: &kontiki_proto::mvccpb::KeyValue| -> Option<IpAddr> {
        std::str::from_utf8(&kv.key).ok()?.strip_prefix(PREFIX)?.parse().ok()
    };
    let mut servers: Vec<IpAddr> = found.kvs.iter().filter_map(address).collect();
    servers.sort();
    write(handle, &ENDPOINT_SLICES, &slice(&servers, advertise.port())).await?;
    write(handle, &ENDPOINTS, &endpoints(&servers, advertise.port())).await?;
    Ok(lease)
}

fn slice(servers: &[IpAddr], port: u16) -> Value {
    let endpoint = |address: &IpAddr| json!({ "addresses": [address], "conditions": { "ready": true } });
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": { "name": NAME, "namespace": "default", "labels": { "kubernetes.io/service-name": NAME } },
        "addressType": "IPv4",
        "endpoints": servers.iter().map(endpoint).collect::<Vec<_>>(),
        "ports": [{ "name": "https", "port": port, "protocol": "TCP" }],
    })
}

/// For clients that know no slices; the label keeps the mirroring controller from making a second slice of it.
fn endpoints(servers: &[IpAddr], port: u16) -> Value {
    let address = |address: &IpAddr| json!({ "ip": address });
    json!({
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": { "name": NAME, "namespace": "default", "labels": { "endpointslice.kubernetes.io/skip-mirror": "true" } },
        "subsets": [{
            "addresses": servers.iter().map(address).collect::<Vec<_>>(),
            "ports": [{ "name": "https", "port": port, "protocol": "TCP" }],
        }],
    })
}

async fn write(handle: &Handle, key: &ResourceKey, wanted: &Value) -> Result<(), String> {
    let path = key.path("default", NAME);
    let (status, found) = ask(handle, Method::GET, &path, Bytes::new()).await?;
    if status == 404 {
        let path = key.path("default", "");
        return exists(ask(handle, Method::POST, &path, Bytes::from(wanted.to_string())).await?);
    }
    if ["endpoints", "ports", "subsets"].iter().all(|field| found[field] == wanted[field]) {
        return Ok(());
    }
    let mut body = wanted.clone();
    body["metadata"]["resourceVersion"] = found["metadata"]["resourceVersion"].clone();
    exists(ask(handle, Method::PUT, &path, Bytes::from(body.to_string())).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_name_every_server() {
        let servers: Vec<IpAddr> = vec![[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
        let (slice, endpoints) = (slice(&servers, 6443), endpoints(&servers, 6443));
        let addresses: Vec<&Value> =
            slice["endpoints"].as_array().into_iter().flatten().map(|one| &one["addresses"][0]).collect();
        assert_eq!(addresses, [&json!("10.0.0.1"), &json!("10.0.0.2")]);
        assert_eq!(endpoints["subsets"][0]["addresses"], json!([{ "ip": "10.0.0.1" }, { "ip": "10.0.0.2" }]));
        assert_eq!(endpoints["subsets"][0]["ports"], slice["ports"]);
        assert_eq!(endpoints["metadata"]["labels"]["endpointslice.kubernetes.io/skip-mirror"], "true");
    }
}
