//! `tapline-traffic FILE`: writes the demo's capture. The same bytes every time.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(path), None) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: tapline-traffic FILE");
        return ExitCode::from(2);
    };
    let traffic = tapline_traffic::office();
    if let Err(error) = std::fs::write(&path, traffic.to_pcap()) {
        eprintln!("error: {}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    println!("{}: {} packets in {} flows", path.display(), traffic.packets.len(), traffic.flows);
    ExitCode::SUCCESS
}
