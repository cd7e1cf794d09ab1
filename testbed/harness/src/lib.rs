//! What the test binaries share: the program in a folder of its own, packets, captures, and the judges of what comes out.

/// Pipelines that are told what to do at their prompt, in a network namespace if asked for.
pub mod bench;
/// Public captures, which are no part of the repository.
pub mod captures;
/// EAL in the test's own process.
pub mod eal;
/// Frames that tests are made of.
pub mod frames;
/// What is demanded of statistics and of packets.
pub mod judges;
/// A folder of its own for each test, in which the program runs.
pub mod lab;
/// Kernel interfaces and network namespaces.
pub mod links;
/// Capture files, written and read back by libpcap.
pub mod pcap_files;
/// The program under test, and those that judge it.
pub mod programs;
/// How long tests go on that can go on for as long as they are let.
pub mod spans;
/// Packets as tshark sees them.
pub mod tshark;
