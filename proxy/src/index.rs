//! What the cluster has of Services and endpoints, ready to be asked: by name, by Service, by address.
//!
//! The reflectors' callbacks keep it; rules and DNS read it. A change costs what it concerns.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use crate::model::{Service, Slice};

/// Namespace and name of a Service.
pub type Key = (String, String);

/// The index.
#[derive(Default)]
pub struct Index {
    services: HashMap<Key, Arc<Service>>,
    slices: HashMap<Key, BTreeMap<String, Arc<Slice>>>,
    addresses: HashMap<IpAddr, BTreeSet<Key>>,
    namespaces: HashMap<String, usize>,
}

impl Index {
    /// A Service as it is now; `None` if it is gone.
    pub fn set_service(&mut self, key: &Key, service: Option<Arc<Service>>) {
        let before = match service {
            Some(service) => {
                service.addresses().into_iter().for_each(|address| self.add_address(address, key));
                self.services.insert(key.clone(), service)
            }
            None => self.services.remove(key),
        };
        let is_there = self.services.contains_key(key);
        if before.is_some() != is_there {
            let count = self.namespaces.entry(key.0.clone()).or_default();
            *count = if is_there { *count + 1 } else { count.saturating_sub(1) };
            if *count == 0 {
                self.namespaces.remove(&key.0);
            }
        }
        before.iter().flat_map(|service| service.addresses()).for_each(|address| self.check_address(address, key));
    }

    /// A slice as it was and is; says whose it is.
    pub fn set_slice(&mut self, name: &str, before: Option<&Slice>, after: Option<Arc<Slice>>) -> BTreeSet<Key> {
        let key_of = |slice: &Slice| (slice.metadata.namespace.clone(), slice.service().to_owned());
        let mut touched = BTreeSet::new();
        if let Some(before) = before {
            let key = key_of(before);
            if let Some(slices) = self.slices.get_mut(&key) {
                slices.remove(name);
                if slices.is_empty() {
                    self.slices.remove(&key);
                }
            }
            touched.insert(key);
        }
        if let Some(after) = after {
            let key = key_of(&after);
            after.endpoints.iter().filter_map(|endpoint| endpoint.address()).for_each(|address| self.add_address(address, &key));
            self.slices.entry(key.clone()).or_default().insert(name.to_owned(), after);
            touched.insert(key);
        }
        if let Some(slice) = before {
            let key = key_of(slice);
            slice
                .endpoints
                .iter()
                .filter_map(|endpoint| endpoint.address())
                .for_each(|address| self.check_address(address, &key));
        }
        touched
    }

    fn add_address(&mut self, address: IpAddr, key: &Key) {
        self.addresses.entry(address).or_default().insert(key.clone());
    }

    /// Forgets an address if the Service has it no more.
    fn check_address(&mut self, address: IpAddr, key: &Key) {
        let own = self.services.get(key).is_some_and(|service| service.addresses().contains(&address));
        let of_endpoint = || {
            let endpoints = self.slices_of(key).flat_map(|slice| &slice.endpoints);
            endpoints.filter_map(|endpoint| endpoint.address()).any(|other| other == address)
        };
        if own || of_endpoint() {
            return;
        }
        if let Some(keys) = self.addresses.get_mut(&address) {
            keys.remove(key);
            if keys.is_empty() {
                self.addresses.remove(&address);
            }
        }
    }

    /// A Service.
    #[must_use]
    pub fn service(&self, key: &Key) -> Option<&Arc<Service>> {
        self.services.get(key)
    }

    /// All Services' keys.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.services.keys()
    }

    /// Slices of a Service.
    pub fn slices_of(&self, key: &Key) -> impl Iterator<Item = &Arc<Slice>> + Clone {
        self.slices.get(key).into_iter().flat_map(BTreeMap::values)
    }

    /// Services that have an address themselves or among their endpoints.
    pub fn with_address(&self, address: IpAddr) -> impl Iterator<Item = &Arc<Service>> {
        self.addresses.get(&address).into_iter().flatten().filter_map(|key| self.services.get(key))
    }

    /// Whether a namespace has any Service.
    #[must_use]
    pub fn has_namespace(&self, namespace: &str) -> bool {
        self.namespaces.contains_key(namespace)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;

    pub(crate) fn key(name: &str) -> Key {
        ("n".to_owned(), name.to_owned())
    }

    /// An index of these Services and slices; a slice is its Service's name and its further fields.
    pub(crate) fn index(services: &[Value], slices: &[(&str, Value)]) -> Index {
        let mut index = Index::default();
        for service in services {
            let service: Service = serde_json::from_value(service.clone()).unwrap();
            let key = (service.metadata.namespace.clone(), service.metadata.name.clone());
            index.set_service(&key, Some(Arc::new(service)));
        }
        for (number, (service, slice)) in slices.iter().enumerate() {
            index.set_slice(&number.to_string(), None, Some(Arc::new(self::slice(service, slice.clone()))));
        }
        index
    }

    pub(crate) fn slice(service: &str, mut slice: Value) -> Slice {
        let labels = json!({"kubernetes.io/service-name": service});
        slice["metadata"] = json!({"name": "s", "namespace": "n", "labels": labels});
        if slice.get("addressType").is_none() {
            slice["addressType"] = json!("IPv4");
        }
        serde_json::from_value(slice).unwrap()
    }

    #[test]
    fn addresses_lead_to_services_while_these_have_them() {
        let service = json!({"metadata": {"name": "web", "namespace": "n"}, "spec": {"clusterIP": "10.96.0.7"}});
        let mut index = index(&[service], &[]);
        let of = |index: &Index, address: &str| index.with_address(address.parse().unwrap()).count();
        assert_eq!(of(&index, "10.96.0.7"), 1);
        let one = slice("web", json!({"endpoints": [{"addresses": ["10.244.0.2"]}]}));
        index.set_slice("1", None, Some(Arc::new(one.clone())));
        index.set_slice("2", None, Some(Arc::new(one.clone())));
        index.set_slice("1", Some(&one), None);
        assert_eq!(of(&index, "10.244.0.2"), 1, "the other slice has it still");
        index.set_slice("2", Some(&one), None);
        assert_eq!(of(&index, "10.244.0.2"), 0);
        assert!(index.has_namespace("n"));
        index.set_service(&key("web"), None);
        assert!(!index.has_namespace("n"));
        assert_eq!(of(&index, "10.96.0.7"), 0);
    }
}
