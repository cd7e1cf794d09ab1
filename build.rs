//! Hands on the DPDK release that `dpdk-sys` was built against.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let version = std::env::var("DEP_DPDK_VERSION").expect("dpdk-sys sets the version in its build script");
    println!("cargo:rustc-env=TAPLINE_DPDK_VERSION={version}");
}
