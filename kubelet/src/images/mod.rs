//! Images on the node: records of what is there, and layers unpacked once and shared by all containers.
//!
//! In: manifests and layers from registries ([`pull`]) or archives. Out: the configuration of an image and
//! the folders of its layers, lowest first. Everything lies in one folder: `images/<id>.json`,
//! `layers/<digest>/`, `downloads/`.
//! Invariant: a record is written only after all its layers are on disk, so that an image is there whole or
//! not at all, whatever happens.

pub mod collect;
mod import;
mod layer;
pub mod name;
mod pull;
pub mod registries;
mod store;

pub use self::import::import;
pub use self::pull::Puller;
pub use self::store::{ImageConfig, ImageRecord, ImageStore};
