//! Compiles DPDK's inline Toeplitz functions: the portable one as DPDK itself is compiled, the one for GFNI in a file of its own
//! with the instructions that it needs, because the header hides it otherwise.

use std::{env, process::Command};

fn main() {
    for file in ["build.rs", "softrss.c", "gfni.c"] {
        println!("cargo:rerun-if-changed={file}");
    }
    pkg_config::Config::new().probe("libdpdk").expect("DPDK is found by pkg-config, as for dpdk-sys");
    let output =
        Command::new("pkg-config").args(["--cflags", "libdpdk"]).output().expect("pkg-config runs");
    let flags = String::from_utf8_lossy(&output.stdout).into_owned();
    let compile = |file: &str, name: &str, more: &[&str]| {
        let mut build = cc::Build::new();
        build.file(file).opt_level(3).warnings(false).define("ALLOW_EXPERIMENTAL_API", None);
        flags.split_whitespace().chain(more.iter().copied()).for_each(|flag| {
            build.flag(flag);
        });
        build.compile(name);
    };
    compile("softrss.c", "tapline_softrss", &[]);
    let is_x86_64 = env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64");
    let gfni: &[&str] = &["-mgfni", "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vbmi"];
    compile("gfni.c", "tapline_gfni", if is_x86_64 { gfni } else { &[] });
}
