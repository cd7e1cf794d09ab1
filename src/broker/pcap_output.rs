//! Capture files that net_pcap writes: whether they hold what the driver says that it sent.
//!
//! libpcap does not hear what the system says to a write (`pcap_dump`), so on a disk that is full the driver goes on and counts every
//! packet as sent. The control thread compares instead. The driver hands each burst to the system before it counts it, and so a
//! file is at no time shorter than what was counted before it was looked at, unless something was not written.
//!
//! # Source
//! DPDK, `eth_pcap_tx_dumper` in drivers/net/pcap/pcap_ethdev.c.

use std::fs::{self, File, Metadata};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use crate::plan::devargs::device_files;
use crate::plan::value::PortPlan;
use tapline_api::event::Event;
use tapline_api::snapshot::DriverStats;
use tapline_dpdk::driver::Devargs;

/// Bytes of a pcap file before its first packet, and before each packet.
const FILE_HEADER: u64 = 24;
const RECORD_HEADER: usize = 16;

/// Why a file that [`is_removed`] fails.
pub(super) const REMOVED: &str = "the file was removed while it was written";

/// Returns whether an open file has no name any more: it takes all that is written, for nobody.
pub(super) fn is_removed(file: &Metadata) -> bool {
    file.nlink() == 0
}

/// Why what was sent is in no file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    pub path: String,
    pub error: String,
}

/// The files of one port.
pub struct Written {
    files: Vec<(String, File)>,
    failure: Option<Failure>,
    missing: u64,
    is_counted: bool,
}

impl Written {
    /// Makes the watch of a started port, if it writes regular files. What becomes of writes to anything else is not known.
    pub fn of(devargs: &Devargs) -> Option<Self> {
        let paths = paths(devargs).filter(|path| fs::metadata(path).is_ok_and(|file| file.is_file()));
        let files: Vec<(String, File)> =
            paths.filter_map(|path| Some((path.to_owned(), File::open(path).ok()?))).collect();
        (!files.is_empty()).then_some(Self { files, failure: None, missing: 0, is_counted: false })
    }

    /// Why the files do not hold what was sent, once they do not.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Packets that were sent and are in no file, as far as they were counted.
    pub fn missing(&self) -> u64 {
        self.missing
    }

    /// Compares what is there with what the driver had counted before.
    pub fn look(&mut self, counted: &DriverStats) {
        let mut len = 0;
        for (path, file) in &self.files {
            let Ok(metadata) = file.metadata() else { continue };
            if is_removed(&metadata) {
                self.failure = Some(Failure { path: path.clone(), error: REMOVED.to_owned() });
            }
            len += metadata.len();
        }
        if len < expected(counted) {
            let error = "net_pcap could not write all of it; is the disk full?".to_owned();
            self.failure = Some(Failure { path: self.paths(), error });
        }
    }

    /// Counts what is missing, once, after the last packet. Gives how many packets are whole in the files, unless those are gone.
    pub fn count(&mut self, counted: &DriverStats) -> Option<u64> {
        if std::mem::replace(&mut self.is_counted, true) {
            return None;
        }
        let (mut held, mut is_gone) = (0, false);
        for (_, file) in &self.files {
            is_gone |= file.metadata().is_ok_and(|metadata| is_removed(&metadata));
            // what cannot be read is not there
            held += records(file).unwrap_or(0);
        }
        self.missing = if is_gone { counted.tx_packets } else { counted.tx_packets.saturating_sub(held) };
        (!is_gone).then_some(held)
    }

    /// The paths of the files.
    pub fn paths(&self) -> String {
        self.files.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// The paths that net_pcap writes to.
pub(super) fn paths(devargs: &Devargs) -> impl Iterator<Item = &str> {
    device_files(devargs).filter(|file| file.is_written).map(|file| file.path)
}

/// Returns the first pipe that net_pcap opens, to read it or to write to it.
pub(super) fn pipe(devargs: &Devargs) -> Option<&str> {
    device_files(devargs).map(|file| file.path).find(|path| is_pipe(path))
}

fn is_pipe(path: &str) -> bool {
    fs::metadata(path).is_ok_and(|file| file.file_type().is_fifo())
}

/// A warning where net_pcap writes to a pipe, whose reader may go without anyone hearing of it.
pub fn pipe_note(port: &PortPlan) -> Option<Event> {
    let path = paths(&port.devargs).find(|path| is_pipe(path))?;
    Some(Event::PipeUnwatched { port: port.name.clone(), path: path.to_owned() })
}

/// Gives the least length of files that have what was counted. Some of several files may have no header yet.
fn expected(counted: &DriverStats) -> u64 {
    let header = if counted.tx_packets > 0 { FILE_HEADER } else { 0 };
    header + counted.tx_packets * RECORD_HEADER as u64 + counted.tx_bytes
}

/// Packets that are whole in a file of this machine's byte order, up to the first that is not.
fn records(file: &File) -> io::Result<u64> {
    let len = file.metadata()?.len();
    let mut reader = BufReader::with_capacity(1 << 20, file);
    reader.seek_relative(FILE_HEADER as i64)?;
    let (mut at, mut count) = (FILE_HEADER, 0);
    let mut header = [0; RECORD_HEADER];
    while at + RECORD_HEADER as u64 <= len {
        reader.read_exact(&mut header)?;
        let captured = u32::from_ne_bytes([header[8], header[9], header[10], header[11]]);
        at += RECORD_HEADER as u64 + u64::from(captured);
        // a hole where writes failed and went on later reads as zeroes
        if at > len || header == [0; RECORD_HEADER] {
            break;
        }
        reader.seek_relative(i64::from(captured))?;
        count += 1;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A port's file with three packets of 10, 0 and 30 bytes, cut to `len` bytes.
    fn written(len: u64) -> (tempfile::TempDir, Written) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("out.pcap");
        let mut bytes = vec![0; FILE_HEADER as usize];
        for captured in [10u32, 0, 30] {
            for field in [1_700_000_000, 5, captured, captured] {
                bytes.extend(u32::to_ne_bytes(field));
            }
            bytes.resize(bytes.len() + captured as usize, 0xee);
        }
        bytes.truncate(len as usize);
        fs::write(&path, bytes).expect("a file");
        let devargs = Devargs::new(format!("net_pcap0,rx_pcap=in.pcap,tx_pcap={}", path.display()));
        let written = Written::of(&devargs).expect("a regular file");
        (folder, written)
    }

    const COUNTED: DriverStats = DriverStats {
        tx_packets: 3,
        tx_bytes: 40,
        rx_packets: 0,
        rx_bytes: 0,
        missed: 0,
        rx_errors: 0,
        tx_errors: 0,
        no_mbuf: 0,
    };

    #[test]
    fn a_file_that_holds_what_was_sent_is_no_failure() {
        let (_folder, mut written) = written(112);
        written.look(&COUNTED);
        assert_eq!(written.failure(), None);
    }

    #[test]
    fn of_a_file_that_is_cut_the_whole_packets_are_counted() {
        for (len, whole) in [(111, 2), (66, 2), (65, 1), (50, 1), (49, 0), (24, 0), (0, 0)] {
            let (_folder, mut written) = written(len);
            written.look(&COUNTED);
            assert!(written.failure().is_some_and(|failure| failure.error.contains("disk full")), "{len}");
            let held = written.count(&COUNTED);
            assert_eq!((written.missing(), held), (3 - whole, Some(whole)), "{len}");
        }
    }

    #[test]
    fn a_file_that_is_removed_holds_nothing_and_one_that_is_moved_all() {
        let (folder, mut written) = written(112);
        let (from, to) = (folder.path().join("out.pcap"), folder.path().join("old.pcap"));
        fs::rename(from, &to).expect("one folder");
        written.look(&COUNTED);
        assert_eq!(written.failure(), None);
        fs::remove_file(to).expect("a file");
        written.look(&COUNTED);
        assert!(written.failure().is_some_and(|failure| failure.error.contains("removed")));
        assert_eq!((written.count(&COUNTED), written.missing()), (None, 3));
    }

    #[test]
    fn ports_that_write_no_regular_file_are_left_alone() {
        for devargs in [
            "net_pcap0,tx_pcap=/dev/null",
            "net_pcap0,iface=eth0",
            "net_null0",
            "net_pcap0,tx_pcap=/no/such/file",
        ] {
            assert!(Written::of(&Devargs::new(devargs)).is_none(), "{devargs}");
        }
    }
}
