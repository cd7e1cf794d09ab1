//! Edits, transports, timestamps and next hops by themselves.

/// Edits, by editcap, tcprewrite, tshark and a model.
mod edits;
/// Where packets end, by tshark and by bytes.
mod ends;
/// Requests and answers for tunnel addresses, by tshark.
mod next_hop;
/// Tunnels that end: what was sent comes back.
mod terminate;
/// Timestamp formats, by tshark.
mod timestamps;
/// Transports, by tshark.
mod transports;
