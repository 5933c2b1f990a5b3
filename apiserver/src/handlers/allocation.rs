//! Addresses and ports for a Service on its way to the store: chosen, and chosen again while somebody else was faster.

use std::collections::BTreeSet;

use bytes::Bytes;
use jiff::Timestamp;
use kontiki_api::{registry, resources::IP_ADDRESSES, resources::SERVICES, status::Status};
use kontiki_proto::etcdserverpb as pb;
use serde_json::Value;

use crate::{
    addresses::{self, Choice, NODE_PORTS_PREFIX, Refusal},
    service::ApiServer,
    storage::{Guard, keys, store_failure},
};

/// How often another choice is made.
const ATTEMPTS: u32 = 32;

/// What one write of a Service chooses.
pub struct Allocation<'a> {
    server: &'a ApiServer,
    random: u32,
    uid: String,
    /// Keys of ports that were taken when this write last lost.
    ports: BTreeSet<String>,
    attempts: u32,
}

impl<'a> Allocation<'a> {
    /// Nothing is chosen yet.
    pub fn new(server: &'a ApiServer) -> Self {
        let uid = uuid::Uuid::new_v4().to_string();
        Self { server, random: rand::random(), uid, ports: BTreeSet::new(), attempts: 0 }
    }

    /// Fills in what a Service lacks and says which keys its write takes and gives back.
    pub fn guard(&self, service: &mut Value, old: Option<&Value>) -> Result<Guard, Status> {
        let known = registry::of(&IP_ADDRESSES).and_then(|resource| self.server.storage.caches.of(resource));
        let taken = |key: &str| self.ports.contains(key) || known.as_ref().is_some_and(|cache| cache.get(key).is_some());
        let network = self.server.options.service_network;
        let choice = Choice { network, random: self.random, taken: &taken, uid: &self.uid, now: Timestamp::now() };
        let name = kontiki_api::object::meta::name(service).to_owned();
        addresses::allocate(service, old, &choice).map_err(|refusal| told(&name, vec![refusal]))
    }

    /// Goes on after keys were taken by somebody else.
    ///
    /// # Errors
    /// What was asked for by name is taken, or nothing was free for too long.
    pub async fn lost(&mut self, name: &str, refusals: Vec<Refusal>) -> Result<(), Status> {
        if !refusals.is_empty() {
            return Err(told(name, refusals));
        }
        self.attempts += 1;
        if self.attempts > ATTEMPTS {
            return Err(Status::internal_error(format!("failed to allocate a serviceIP for Service {name:?}: range is full")));
        }
        self.random = rand::random();
        let request = pb::RangeRequest {
            key: Bytes::from_static(NODE_PORTS_PREFIX.as_bytes()),
            range_end: keys::range_end(NODE_PORTS_PREFIX),
            keys_only: true,
            serializable: true,
            ..pb::RangeRequest::default()
        };
        let found = self.server.storage.kv.range(request).await.map_err(|error| store_failure(&error))?;
        self.ports = found.kvs.iter().map(|pair| String::from_utf8_lossy(&pair.key).into_owned()).collect();
        Ok(())
    }
}

/// What a client is told.
fn told(name: &str, refusals: Vec<Refusal>) -> Status {
    let mut errors = Vec::new();
    for refusal in refusals {
        match refusal {
            Refusal::Internal(why) => return Status::internal_error(why),
            Refusal::Field(error) => errors.push(error),
        }
    }
    Status::invalid(SERVICES.group, SERVICES.kind, name, &errors)
}
