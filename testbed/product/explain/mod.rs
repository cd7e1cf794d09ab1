//! `tapline explain`: what it says of a capture is what `run` does with it, byte for byte and count for count; its reasons by tcpdump,
//! its fields by tshark. `tapline diff`: what it says of two files is the difference of their runs.

/// The command line: what is asked for, and what is left alone.
mod command;
/// Two files beside each other, by two runs.
mod differ;
/// Conditions and fields, by tcpdump, tshark and changed packets.
mod reasons;
/// Copies and counts, by runs of the same files.
mod runs;
