//! EAL in the test's own process, for tests of the layer below the product.
//!
//! One process has one: a test that starts it does its work inside of [`crate::programs::alone`].

use tapline_dpdk::Eal;
use tapline_dpdk::eal::{Memory, Options};
use tapline_kernel::machine::available_cpus;

pub fn eal() -> Eal {
    Eal::start(&Options {
        workers: Vec::new(),
        main_cpus: available_cpus(),
        memory: Memory::Ordinary { mib: 64 },
        pci_devices: Vec::new(),
        extra: ["--no-telemetry"].map(str::to_owned).to_vec(),
    })
    .expect("DPDK starts")
}
