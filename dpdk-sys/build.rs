//! Finds the distribution's DPDK, compiles the shim and generates the bindings, all with the flags that pkg-config gives.
//!
//! Sets `DEP_DPDK_VERSION` for the crates that depend on this one.

use std::{env, path::PathBuf, process};

/// Releases whose headers this crate was written against. Field offsets come from the headers at hand, so others may work;
/// older ones lack functions that the shim calls.
const OLDEST: (u32, u32) = (22, 11);

fn main() {
    for file in ["build.rs", "shim.h", "shim.c"] {
        println!("cargo:rerun-if-changed={file}");
    }
    let dpdk = pkg_config::Config::new().probe("libdpdk").unwrap_or_else(|error| {
        fail(&format!(
            "DPDK was not found by pkg-config; install Debian's or Ubuntu's package libdpdk-dev (and pkg-config), \
             or set PKG_CONFIG_PATH to the folder of your libdpdk.pc\n{error}"
        ))
    });
    let release: Vec<u32> =
        dpdk.version.split(['.', '-', '~']).map_while(|part| part.parse().ok()).collect();
    if release.len() < 2 || (release[0], release[1]) < OLDEST {
        fail(&format!(
            "DPDK {} is too old; install libdpdk-dev {}.{} or later",
            dpdk.version, OLDEST.0, OLDEST.1
        ));
    }
    println!("cargo:version={}", dpdk.version);

    let flags = compiler_flags();
    let mut shim = cc::Build::new();
    shim.file("shim.c")
        .opt_level(3)
        .force_frame_pointer(false)
        .warnings(true)
        .flag("-Wno-deprecated-declarations");
    flags.iter().for_each(|flag| {
        shim.flag(flag);
    });
    shim.compile("tapline_shim");

    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("bindings.rs");
    bindgen::Builder::default()
        .header("shim.h")
        .clang_args(&flags)
        .allowlist_function("tl_.*")
        .allowlist_function("rte_(eal_init|eal_cleanup|eal_has_hugepages|eal_remote_launch|eal_wait_lcore|strerror|version|get_tsc_hz|socket_id_by_idx|lcore_to_socket_id|lcore_is_enabled|get_main_lcore)")
        .allowlist_function("rte_dev_(probe|remove)")
        .allowlist_function("rte_tel(emetry_register_cmd|_data_(start_array|start_dict|add_array_string))")
        .allowlist_function("rte_eth_(dev_(start|stop|close|count_avail|get_mtu|set_mtu|get_name_by_port|get_port_by_name|is_valid_port|socket_id|set_link_up|set_link_down|adjust_nb_rx_tx_desc)|macaddr_get|promiscuous_(enable|disable)|allmulticast_enable|stats_get|stats_reset|timesync_enable|timesync_read_time|timesync_disable|read_clock)")
        .allowlist_function("rte_pktmbuf_(pool_create|free_bulk|copy)")
        .allowlist_function("rte_mempool_(free|avail_count|in_use_count)")
        .allowlist_function("rte_mbuf_dyn_rx_timestamp_register")
        .allowlist_function("rte_ring_(create|free)")
        .allowlist_type("rte_eth_stats|rte_eth_link|rte_ether_addr|tl_.*")
        .allowlist_var("rte_eth_fp_ops|TL_.*|RTE_MAX_.*|RTE_PKTMBUF_HEADROOM|SOCKET_ID_ANY|RTE_MEMPOOL_CACHE_MAX_SIZE|RTE_EAL_PMD_PATH")
        .opaque_type("rte_mbuf|rte_mempool|rte_ring")
        .derive_debug(false)
        .derive_default(true)
        .layout_tests(true)
        .generate()
        .unwrap_or_else(|error| {
            fail(&format!(
                "bindings to DPDK could not be generated; if libclang is missing, install Debian's packages libclang1-14 and \
                 libclang-common-14-dev (Ubuntu 24.04: libclang1-18 and libclang-common-18-dev)\n{error}"
            ))
        })
        .write_to_file(&out)
        .unwrap_or_else(|error| fail(&format!("{}: {error}", out.display())));
}

/// What `pkg-config --cflags` prints, which the `pkg_config` crate only partly hands on (`-include`, `-march`).
fn compiler_flags() -> Vec<String> {
    let output = process::Command::new("pkg-config").args(["--cflags", "libdpdk"]).output().unwrap_or_else(
        |error| fail(&format!("pkg-config cannot be run: {error}; install the package pkg-config")),
    );
    String::from_utf8_lossy(&output.stdout).split_whitespace().map(str::to_owned).collect()
}

fn fail(message: &str) -> ! {
    eprintln!("error: {message}");
    process::exit(1)
}
