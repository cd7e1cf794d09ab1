//! What needs no EAL: parts of the product by themselves, judged by other programs and by models.

/// Capture files and `tapline filter`, by libpcap, tcpdump and Wireshark's tools.
mod capture;
/// The parser of layers and the flow hash, by models and by tshark.
mod classify;
/// Doc comments: each begins as a sentence does.
mod comments;
/// Edits, transports, timestamps and next hops by themselves, by tshark, editcap, tcprewrite and models.
mod copies;
/// What machines lack that are made up.
mod doctor;
/// The table of encapsulations, each row with each feature that reads it, by tshark.
mod encapsulations;
/// Events, by golden texts, and by Python and the reference.
mod events;
/// The verifier, interpreter, native code and index of filters, by libpcap and tcpdump.
mod filter;
/// The bodies of the fuzz targets that need no EAL, on random input and on what once failed.
mod fuzz;
/// Words of the documentation: each leads to the glossary, and means one thing.
mod glossary;
/// Diagnostics of pipeline files, by golden texts; files of thousands of filters and rules.
mod lang;
/// Plans: repeatable, of nothing but what their caller gives, and compared.
mod plan;
/// Paths and headings that documents and comments name.
mod references;
/// Dedup and groups, by editcap and models.
mod state;
