//! Custom resources: kinds that a CustomResourceDefinition adds at run time.
//!
//! In: definitions and objects as JSON. Out: what the registry's entries of built-in kinds also give: decoded, pruned
//! and defaulted objects, field errors, table rows, OpenAPI. Pure; the API server decides what is served now.
//! Start at [`definition`] (what a definition says) and [`schema`] (what its objects look like).

pub mod columns;
pub mod declare;
pub mod decode;
pub mod defaults;
pub mod definition;
pub mod field_versions;
pub mod formats;
pub mod json_path;
pub mod names;
pub mod openapi;
pub mod prune;
pub mod resource;
pub mod rules;
pub mod schema;
pub mod shape;
pub mod strategy;
pub mod structural;
pub mod validate;
pub mod versions;
