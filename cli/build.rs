//! Makes the shim part of the binary: takes the program that `KONTIKI_SHIM` names, else builds it.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

fn main() {
    println!("cargo::rerun-if-env-changed=KONTIKI_SHIM");
    let shim = env::var_os("KONTIKI_SHIM").map_or_else(build, PathBuf::from);
    assert!(shim.is_file(), "{} is no file; KONTIKI_SHIM must name the shim's program", shim.display());
    println!("cargo::rerun-if-changed={}", shim.display());
    println!("cargo::rustc-env=KONTIKI_SHIM_FILE={}", shim.display());
}

/// Without `make`, as `cargo install` does it: one more cargo, with a target folder of its own.
fn build() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    println!("cargo::rerun-if-changed={}", root.join("shim").display());
    let target = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("shim");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--package", "kontiki-shim", "--profile", "shim", "--locked", "--target-dir"])
        .arg(&target)
        .current_dir(root)
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .status();
    assert!(status.is_ok_and(|status| status.success()), "cannot build the shim");
    target.join("shim").join("kontiki-shim")
}
