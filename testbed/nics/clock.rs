//! Reads a NIC's PTP clock and fits it to the system's, as the broker does for NICs that stamp packets: `nic_clock PCI-ADDRESS`.
//!
//! Exit status 0: the clock goes, and the fit converged.

use std::process::ExitCode;
use std::time::Duration;

use tapline_datapath::receive::clock_fit::{ClockFit, FitLimits, Reading};
use tapline_dpdk::driver::Devargs;
use tapline_dpdk::eal::{Memory, Options};
use tapline_dpdk::mempool::Mempool;
use tapline_dpdk::port::{Port, PortConfig};
use tapline_dpdk::{Eal, Error, clock};
use tapline_kernel::machine::available_cpus;

/// Readings, and the time between two: as many as a line is fitted to, in 3 seconds.
const READINGS: u32 = 48;
const INTERVAL: Duration = Duration::from_millis(60);

/// An emulated NIC's clock is read through the emulator, which other programs keep from its CPU: what is asked is that it goes as
/// fast as the system's.
const LIMITS: FitLimits =
    FitLimits { tick_bits: 64, error_ns: 5_000_000, span_ns: 1_000_000_000, step_ns: 20_000_000 };

fn main() -> ExitCode {
    let Some(address) = std::env::args().nth(1) else {
        eprintln!("usage: nic_clock PCI-ADDRESS");
        return ExitCode::from(2);
    };
    match measure(&address) {
        Ok(Ok(text)) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Ok(Err(text)) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What was read of the clock, or what is wrong with it.
fn measure(address: &str) -> Result<Result<String, String>, Error> {
    let eal = Eal::start(&Options {
        workers: Vec::new(),
        main_cpus: available_cpus(),
        memory: Memory::HugePages,
        pci_devices: vec![address.to_owned()],
        extra: Vec::new(),
    })?;
    let port = Port::attach(&eal, "nic", &Devargs::new(address))?;
    let pool = Mempool::create(&eal, "nic", 2047, None)?;
    let config = PortConfig {
        rx_queues: 1,
        tx_queues: 1,
        rx_descriptors: 256,
        tx_descriptors: 256,
        mtu: None,
        is_promiscuous: true,
        wants_groups: false,
        wants_rx_timestamps: false,
        wants_rss_hashes: false,
        wants_udp_checksums: false,
        written_len: None,
    };
    let queues = port.start(&config, Some(&pool))?;
    let outcome =
        if port.start_clock() { fit(&port) } else { Err("the driver has no PTP clock".to_owned()) };
    drop(queues);
    Ok(outcome)
}

fn fit(port: &Port) -> Result<String, String> {
    let mut fit = ClockFit::new(LIMITS);
    let mut first = None;
    let mut last = 0;
    for _ in 0..READINGS {
        let before_ns = clock::now_ns();
        let ticks = port.read_clock().ok_or("the PTP clock cannot be read")?;
        let after_ns = clock::now_ns();
        if ticks < last {
            return Err(format!("the PTP clock went back, from {last} to {ticks}"));
        }
        last = ticks;
        first.get_or_insert((ticks, before_ns));
        fit.observe(Reading { ticks, before_ns, after_ns });
        std::thread::sleep(INTERVAL);
    }
    let (first_ticks, first_ns) = first.unwrap_or_default();
    let (went, passed) = (last - first_ticks, clock::now_ns() - first_ns);
    let model = fit.model().ok_or("no line through the readings")?;
    let text = format!(
        "{READINGS} readings of the PTP clock: {:.0} ms in {:.0} ms; {:.4} ns a tick, error bound {:.0} us",
        went as f64 / 1e6,
        passed as f64 / 1e6,
        model.ns_per_tick(),
        model.error_ns(last) as f64 / 1e3
    );
    if model.is_degraded() || !(0.9..1.1).contains(&model.ns_per_tick()) { Err(text) } else { Ok(text) }
}
