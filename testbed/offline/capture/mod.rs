//! Capture files and `tapline filter`, against libpcap, tcpdump and Wireshark's tools.

/// Compressed files, by gzip, zstd and lz4.
mod compressed;
/// Damaged and random files.
mod damage;
/// `tapline filter`, by tcpdump.
mod filter;
/// Formats, read and written, by libpcap and tshark.
mod formats;
/// `tapline filter` as a process: pipes, damage, exit status.
mod process;
/// What these modules share.
mod support;
