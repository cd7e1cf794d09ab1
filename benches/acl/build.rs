//! Compiles the shim with the flags that pkg-config gives, as dpdk-sys does.

use std::process::Command;

fn main() {
    for file in ["build.rs", "acl.c"] {
        println!("cargo:rerun-if-changed={file}");
    }
    pkg_config::Config::new().probe("libdpdk").expect("DPDK is found by pkg-config, as for dpdk-sys");
    let output =
        Command::new("pkg-config").args(["--cflags", "libdpdk"]).output().expect("pkg-config runs");
    let mut build = cc::Build::new();
    build.file("acl.c").opt_level(3).warnings(false);
    String::from_utf8_lossy(&output.stdout).split_whitespace().for_each(|flag| {
        build.flag(flag);
    });
    build.compile("tapline_acl");
}
