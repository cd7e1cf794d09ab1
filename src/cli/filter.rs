//! `tapline filter`: selects packets of a capture file, with tcpdump's meaning; needs no EAL and no privileges.
//!
//!     capture file -> Reader -> bursts of 64 -> expression -> Writer -> capture file
//!
//! Several threads read and judge parts of a long file in turn ([`scan`](tapline_capture::scan)).

use std::fs::{File, Metadata};
use std::io::{self, IsTerminal, Seek, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use super::UsageError;
use super::output::{tell, tell_line};
use crate::broker::outputs::Locked;
use crate::plan::surroundings::{System, target_of_open};
use tapline_capture::scan::{Scan, Sink, Stop};
use tapline_capture::{
    Burst, ByteOrder, FileHeader, Format, Interface, InterfaceId, LinkType, Packet, Reader, Writer,
    compression,
};
use tapline_datapath::classify::{Classifier, FilterTerm, Matcher, Matches, classify};
use tapline_datapath::flow::burst_flows::Flows;
use tapline_filter::{LinkLayer, compile_for};
use tapline_lang::files::{Files as _, Target};
use tapline_packet::burst::{MAX_BURST, Selection};
use tapline_packet::frame::Frame;
use tapline_packet::headers::layer::LayerSet;
use tapline_packet::headers::{ethernet, vlan};
use tapline_packet::layers;

/// Select packets of a capture file with a pcap-filter expression
///
/// Reads pcap and pcapng, micro- and nanosecond, of either byte order, also compressed by gzip, zstd or lz4. The output has the
/// input's format, or that of its name's ending (.pcap, .pcapng). In the input's format packets keep every byte of their record:
/// times, lengths, options, comments.
///
/// A damaged file yields the packets before the damage, and exit status 1.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Capture file to read; - is standard input
    #[arg(short = 'r', long = "read", value_name = "IN")]
    input: PathBuf,
    /// Capture file to write; - is standard output
    #[arg(short = 'w', long = "write", value_name = "OUT")]
    output: PathBuf,
    /// Format to write, whatever the name of OUT
    #[arg(long, value_enum)]
    format: Option<FormatArg>,
    /// Types that announce VLAN tags beside 0x8100, 0x88a8, 0x9100 and 0x9200, for `through`
    #[arg(long, value_name = "LIST", value_delimiter = ',', num_args = 1, value_parser = tpid)]
    tpid: Vec<u16>,
    /// Print no summary and no progress
    #[arg(short, long)]
    quiet: bool,
    /// Expression as for tcpdump, and `through LIST` to look inside tags and tunnels; without one all packets are selected
    #[arg(value_name = "EXPR")]
    words: Vec<String>,
}

/// Formats by the names that editcap gives them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum FormatArg {
    /// pcap with microseconds
    Pcap,
    /// pcap with nanoseconds
    Nsecpcap,
    /// pcapng with nanoseconds
    Pcapng,
}

/// A file as long as this is read by several threads.
const SCAN_MIN_LEN: u64 = 4 << 20;
/// Writing is done by one at a time: of more threads, some would only wait.
const MOST_THREADS: usize = 4;
/// How long a selected packet may wait in the buffer while others are looked for.
const FLUSH_INTERVAL: Duration = Duration::from_millis(50);
/// Runs shorter than this show no progress.
const PROGRESS_DELAY: Duration = Duration::from_secs(1);
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// Runs the subcommand.
/// # Errors
/// [`UsageError`] where the command line or the expression is wrong; otherwise what failed, and for a damaged file where. What was
/// selected before a failure has been written.
pub fn run(args: &Args) -> Result<ExitCode> {
    let (expression, through) = request(&args.words)?;
    if args.tpid.len() > vlan::MAX_ADDED_TPIDS {
        return Err(UsageError(format!("--tpid: expected at most {} types", vlan::MAX_ADDED_TPIDS)).into());
    }
    vlan::add_tpids(&args.tpid);
    if args.output == Path::new("-") && io::stdout().is_terminal() {
        return Err(UsageError(
            "standard output is a terminal; send it to a file or a pipe, or name a file with -w".into(),
        )
        .into());
    }
    let (file, metadata) = open(&args.input)?;
    let context = || shown(&args.input, "standard input");
    let selector = || Selector::new(expression.clone(), through);
    let sink = |header| Selected {
        output: Output { args, header, input: target_of_open(&metadata), open: None },
        progress: Progress::new(args, metadata.len()),
        is_live: !metadata.is_file(),
        flushed_at: None,
        has_interfaces: false,
    };
    let threads = threads(&file, &metadata);
    let (reader, mut sink, result) = if threads > 1 {
        let scan = Scan::begin(file).with_context(context)?;
        // a mistake in the expression is told before anything is written
        selector().learn(scan.reader().interfaces(), scan.reader().byte_order())?;
        let sink = sink(scan.reader().header());
        let judge = || {
            let mut selector = selector();
            move |burst: &Burst<'_>, is_afresh: bool| selector.select(burst, is_afresh)
        };
        let (reader, sink, result) = scan.run(threads, judge, sink);
        let result = result.or_else(|stop| match stop {
            Stop::Damaged(damage) => Err(damage).with_context(context),
            Stop::Refused(error) => Err(error),
        });
        (reader, sink, result)
    } else {
        let mut reader = Reader::decompressing(Box::new(file)).with_context(context)?;
        let mut selector = selector();
        selector.learn(reader.interfaces(), reader.byte_order())?;
        let mut sink = sink(reader.header());
        let result = select_alone(&mut reader, &mut selector, &mut sink, context);
        (reader, sink, result)
    };
    sink.has_interfaces |= !reader.interfaces().is_empty();
    let result = if sink.has_interfaces {
        result
    } else {
        result.and_then(|()| Ok(selector().compile(LinkLayer::ETHERNET).map(drop)?))
    };
    let Selected { output, progress, .. } = sink;
    let is_refused = result.as_ref().is_err_and(anyhow::Error::is::<UsageError>);
    let result = if is_refused && output.open.is_none() {
        result
    } else {
        // What came before a damage is kept, so the output is ended in any case.
        let ended = output.finish(reader.interfaces());
        result.and(ended)
    };
    progress.end();
    match result {
        Ok(()) => Ok(ExitCode::SUCCESS),
        // Whoever read our output has seen enough.
        Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
        Err(error) => Err(error),
    }
}

/// Reads, judges and writes with one thread, as packets come.
fn select_alone(
    reader: &mut Reader,
    selector: &mut Selector,
    sink: &mut Selected<'_>,
    context: impl Fn() -> String,
) -> Result<()> {
    while let Some(burst) = reader.next_burst().with_context(&context)? {
        let selection = selector.select(&burst, false)?;
        sink.take(&burst, selection)?;
        if reader.is_starved() {
            sink.pause(reader.offset())?;
        }
    }
    Ok(())
}

/// Gives what the words ask for: the expression, as tcpdump joins them, and the layers that it looks through.
fn request(words: &[String]) -> Result<(String, LayerSet)> {
    let joined = format!(" {}", words.join(" "));
    let Some((expression, layers)) = joined.rsplit_once(" through ") else {
        return Ok((joined.trim().to_owned(), LayerSet::default()));
    };
    let through = layers.trim().parse().map_err(|error| UsageError(format!("through: {error}")))?;
    Ok((expression.trim().to_owned(), through))
}

/// Reads a type that may announce VLAN tags.
fn tpid(text: &str) -> Result<u16, String> {
    let digits = text.strip_prefix("0x");
    let read = digits.map_or_else(|| text.parse(), |digits| u16::from_str_radix(digits, 16));
    match read {
        Ok(ethertype) if ethertype < ethernet::TYPE_MIN => Err("expected a type from 0x0600 on".to_owned()),
        Ok(ethertype) if layers::has_other_meaning(ethertype) => {
            Err("this type stands for something else".to_owned())
        }
        Ok(ethertype) => Ok(ethertype),
        Err(_) => Err("expected a type of VLAN tags, such as 0x8200".to_owned()),
    }
}

/// Opens the capture; standard input is a file like others.
fn open(path: &Path) -> Result<(File, Metadata)> {
    let context = || shown(path, "standard input");
    let file = if path == Path::new("-") {
        io::stdin().as_fd().try_clone_to_owned().map(File::from)
    } else {
        File::open(path)
    }
    .with_context(context)?;
    let metadata = file.metadata().with_context(context)?;
    Ok((file, metadata))
}

/// How many threads read and judge: several for a long file on several cores. A compressed one has no parts that can be read alone.
fn threads(mut file: &File, metadata: &Metadata) -> usize {
    let is_long = metadata.is_file() && metadata.len() >= SCAN_MIN_LEN;
    let mut has_parts = || {
        file.stream_position().is_ok_and(|position| position == 0)
            && compression(file).is_ok_and(|compression| compression.is_none())
    };
    if !is_long || !has_parts() {
        return 1;
    }
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(MOST_THREADS))
}

/// A path as messages name it.
fn shown(path: &Path, standard: &str) -> String {
    if path == Path::new("-") { standard.to_owned() } else { path.display().to_string() }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// The expression, compiled for each link layer that the capture has.
struct Selector {
    expression: String,
    through: LayerSet,
    filters: Vec<(LinkLayer, Filter)>,
    /// The filter of each interface of the current section.
    by_interface: Vec<usize>,
}

/// The expression for a link layer, or the reason why it has no meaning there. That is told when a packet of the link layer comes.
enum Filter {
    Judge(Box<Judge>),
    Unfit(String),
}

impl Selector {
    fn new(expression: String, through: LayerSet) -> Self {
        Self { expression, through, filters: Vec::new(), by_interface: Vec::new() }
    }

    /// Compiles for link layers that were not seen before.
    /// # Errors
    /// A mistake in the expression: that of the first link layer where there is none that it fits, not even Ethernet.
    fn learn(&mut self, interfaces: &[Interface], byte_order: ByteOrder) -> Result<()> {
        self.by_interface.clear();
        for interface in interfaces {
            let link_layer =
                LinkLayer { link_type: interface.link_type.0, is_swapped: byte_order != ByteOrder::NATIVE };
            let known = self.filters.iter().position(|(known, _)| *known == link_layer);
            let index = known.unwrap_or_else(|| {
                let filter = match self.compile(link_layer) {
                    Ok(judge) => Filter::Judge(Box::new(judge)),
                    Err(UsageError(message)) => Filter::Unfit(message),
                };
                self.filters.push((link_layer, filter));
                self.filters.len() - 1
            });
            self.by_interface.push(index);
        }
        let is_unfit = self.filters.iter().all(|(_, filter)| matches!(filter, Filter::Unfit(_)));
        if let [(_, Filter::Unfit(message)), ..] = self.filters.as_slice()
            && is_unfit
            && self.compile(LinkLayer::ETHERNET).is_err()
        {
            return Err(UsageError(message.clone()).into());
        }
        Ok(())
    }

    fn compile(&self, link_layer: LinkLayer) -> Result<Judge, UsageError> {
        let LinkLayer { link_type, .. } = link_layer;
        let is_ethernet = link_type == LinkType::ETHERNET.0;
        if !self.through.is_empty() && !is_ethernet {
            return Err(UsageError(format!(
                "`through` looks into Ethernet frames; this capture has link type {link_type}"
            )));
        }
        let program = compile_for(&self.expression, link_layer).map_err(|error| {
            let place = if is_ethernet { String::new() } else { format!(" (for link type {link_type})") };
            UsageError(format!("expression `{}`{place}: {error}", self.expression))
        })?;
        Ok(Judge::new(FilterTerm { programs: vec![program], prefixes: None, through: self.through }))
    }

    /// `is_afresh` where the burst before this one was judged by another selector.
    fn select(&mut self, burst: &Burst<'_>, is_afresh: bool) -> Result<Selection> {
        if is_afresh || burst.begins_section() || burst.interfaces().len() != self.by_interface.len() {
            self.learn(burst.interfaces(), burst.byte_order())?;
        }
        let mut frames = [Frame::whole(&[]); MAX_BURST];
        let frames = burst.frames(&mut frames);
        if let [(_, Filter::Judge(judge))] = self.filters.as_mut_slice() {
            return Ok(judge.select(frames));
        }
        let mut selection = Selection::NONE;
        for (index, (_, filter)) in self.filters.iter_mut().enumerate() {
            let is_its = |packet: &usize| self.by_interface[burst.interface(*packet).0 as usize] == index;
            let its: Selection = (0..burst.len()).filter(is_its).collect();
            if its.is_empty() {
                continue;
            }
            match filter {
                Filter::Judge(judge) => selection |= judge.select(frames) & its,
                Filter::Unfit(message) => return Err(UsageError(message.clone()).into()),
            }
        }
        Ok(selection)
    }
}

/// The classify stage with the expression as its only rule.
struct Judge {
    classifier: Classifier,
    matches: Matches,
    flows: Flows,
}

impl Judge {
    fn new(filter: FilterTerm) -> Self {
        let classifier = Classifier::new(&[Matcher { filters: vec![filter], ..Matcher::default() }]);
        let matches = Matches::new(std::iter::once(&classifier));
        let flows = Flows::new(&[], classifier.parse_depth().unwrap_or_default());
        Self { classifier, matches, flows }
    }

    fn select(&mut self, frames: &[Frame<'_>]) -> Selection {
        self.flows.clear();
        classify(
            &self.classifier,
            Selection::first(frames.len()),
            frames,
            &mut self.flows,
            &mut self.matches,
        );
        let mut selected = Selection::NONE;
        self.matches.drain(|_, selection| selected = selection);
        selected
    }
}

/// The destination of judged packets.
struct Selected<'a> {
    output: Output<'a>,
    progress: Progress,
    /// The input is no file: what it will give may take any time.
    is_live: bool,
    flushed_at: Option<Instant>,
    /// The expression was compiled for some link type.
    has_interfaces: bool,
}

impl Sink for Selected<'_> {
    type Error = anyhow::Error;

    fn take(&mut self, burst: &Burst<'_>, selection: Selection) -> Result<()> {
        self.has_interfaces |= !burst.interfaces().is_empty();
        self.progress.count(burst.len(), selection);
        self.output.write(burst, selection)
    }

    fn pause(&mut self, offset: u64) -> Result<()> {
        let is_due = self.flushed_at.is_none_or(|at| at.elapsed() >= FLUSH_INTERVAL);
        if self.is_live || is_due {
            self.output.flush()?;
            self.flushed_at = Some(Instant::now());
        }
        self.progress.show(offset);
        Ok(())
    }
}

/// The file that is written; created when the first burst was judged, so that a wrong expression leaves an existing file as it is.
struct Output<'a> {
    args: &'a Args,
    header: FileHeader,
    /// The file that is read, if it is one.
    input: Option<Target>,
    open: Option<OpenOutput>,
}

struct OpenOutput {
    writer: Writer<Box<dyn Write + Send>>,
    /// Records are kept byte for byte.
    is_carried: bool,
    /// Parts of a microsecond would be lost although nobody asked for it.
    must_be_us: bool,
    /// The link type of a pcap file's header.
    link_type: LinkType,
}

impl Output<'_> {
    /// The format asked for, else that of the name's ending, else the input's. A pcap named by its ending keeps the input's
    /// resolution.
    fn format(&self, interfaces: &[Interface]) -> Format {
        let extension = self
            .args
            .output
            .extension()
            .and_then(|extension| extension.to_str())
            .map(str::to_ascii_lowercase);
        match (self.args.format, extension.as_deref(), self.header.format()) {
            (Some(FormatArg::Pcap), _, _) => Format::Pcap,
            (Some(FormatArg::Nsecpcap), _, _) => Format::PcapNs,
            (Some(FormatArg::Pcapng), _, _) | (None, Some("pcapng"), _) => Format::Pcapng,
            (None, Some("pcap" | "cap"), Format::Pcapng) => {
                if interfaces.iter().any(Interface::is_finer_than_us) {
                    Format::PcapNs
                } else {
                    Format::Pcap
                }
            }
            (None, _, input) => input,
        }
    }

    fn is_carried(&self, interfaces: &[Interface]) -> bool {
        self.format(interfaces) == self.header.format() && self.header.is_carried()
    }

    fn open(&mut self, interfaces: &[Interface], order: ByteOrder) -> Result<&mut OpenOutput> {
        if self.open.is_none() {
            let format = self.format(interfaces);
            let is_carried = self.is_carried(interfaces);
            let out = self.create()?;
            let first =
                interfaces.first().cloned().unwrap_or_else(|| Interface::new(LinkType::ETHERNET, 0, None));
            let writer = if is_carried {
                Writer::carrying(out, &self.header)
            } else if format == Format::Pcapng {
                Writer::pcapng(out, order)
                    .and_then(|mut writer| writer.add_interface(&first).map(|_| writer))
            } else {
                Writer::pcap(out, order, format == Format::PcapNs, first.link_type, first.snaplen)
            };
            let writer = writer.with_context(|| shown(&self.args.output, "standard output"))?;
            let must_be_us = format == Format::Pcap && self.args.format.is_none();
            self.open = Some(OpenOutput { writer, is_carried, must_be_us, link_type: first.link_type });
        }
        Ok(self.open.as_mut().expect("opened above"))
    }

    fn create(&self) -> Result<Box<dyn Write + Send>> {
        let path = &self.args.output;
        let stdout =
            (path == Path::new("-")).then(|| io::stdout().as_fd().try_clone_to_owned().map(File::from));
        let stdout = stdout.transpose().context("standard output")?;
        let target = match &stdout {
            Some(stdout) => target_of_open(&stdout.metadata().context("standard output")?),
            None => System.target(path),
        };
        if target.is_some() && target == self.input {
            let name = shown(path, "standard output");
            return Err(
                UsageError(format!("{name}: is the file that is read; name another with -w")).into()
            );
        }
        // Not `io::stdout()`, which looks for line ends.
        if let Some(stdout) = stdout {
            return Ok(Box::new(stdout));
        }
        let file = match Locked::take(path) {
            Ok(Some(locked)) => locked.begin(),
            Ok(None) => File::create(path),
            Err(error) => Err(error),
        };
        Ok(Box::new(file.with_context(|| path.display().to_string())?))
    }

    fn write(&mut self, burst: &Burst<'_>, selection: Selection) -> Result<()> {
        if burst.is_empty() && self.open.is_none() && !self.is_carried(&[]) {
            // A pcap file's header needs to know what the first packet is.
            return Ok(());
        }
        let output = self.open(burst.interfaces(), burst.byte_order())?;
        let result = if output.is_carried && !burst.has_cut() {
            output.writer.carry(burst, selection).map_err(anyhow::Error::from)
        } else {
            output.convert(burst, selection)
        };
        result.with_context(|| shown(&self.args.output, "standard output"))
    }

    fn flush(&mut self) -> Result<()> {
        match &mut self.open {
            Some(output) => {
                output.writer.flush().with_context(|| shown(&self.args.output, "standard output"))
            }
            None => Ok(()),
        }
    }

    /// Writes what is left, and the header if there was nothing else to write.
    fn finish(mut self, interfaces: &[Interface]) -> Result<()> {
        self.open(interfaces, ByteOrder::NATIVE)?;
        self.flush()
    }
}

impl OpenOutput {
    fn convert(&mut self, burst: &Burst<'_>, selection: Selection) -> Result<()> {
        for index in selection.indices() {
            let record = burst.get(index);
            let interface = &burst.interfaces()[record.interface.0 as usize];
            if interface.link_type != self.link_type {
                bail!(
                    "interface {} has link type {}, the pcap file that was begun holds link type {}; write pcapng",
                    record.interface.0,
                    interface.link_type.0,
                    self.link_type.0
                );
            }
            if self.must_be_us && interface.is_finer_than_us() {
                bail!(
                    "interface {} has times finer than the microseconds of the pcap file that was begun; use --format nsecpcap, or pcap to cut them",
                    record.interface.0
                );
            }
            self.writer.write(&Packet {
                interface: InterfaceId(0),
                time_ns: record.time_ns,
                bytes: record.bytes,
                original_len: record.original_len,
                comments: &[],
            })?;
        }
        Ok(())
    }
}

/// Counts packets, and shows them on a terminal while a long file is read.
struct Progress {
    is_quiet: bool,
    is_terminal: bool,
    is_shown: bool,
    input_len: u64,
    started_at: Instant,
    shown_at: Instant,
    read: u64,
    selected: u64,
}

impl Progress {
    fn new(args: &Args, input_len: u64) -> Self {
        let now = Instant::now();
        let is_terminal = io::stderr().is_terminal();
        Self {
            is_quiet: args.quiet,
            is_terminal,
            is_shown: false,
            input_len,
            started_at: now,
            shown_at: now,
            read: 0,
            selected: 0,
        }
    }

    fn count(&mut self, packets: usize, selection: Selection) {
        self.read += packets as u64;
        self.selected += u64::from(selection.count());
    }

    fn show(&mut self, offset: u64) {
        if self.is_quiet
            || !self.is_terminal
            || self.started_at.elapsed() < PROGRESS_DELAY
            || self.shown_at.elapsed() < PROGRESS_INTERVAL
        {
            return;
        }
        self.shown_at = Instant::now();
        self.is_shown = true;
        let share = offset.saturating_mul(100).checked_div(self.input_len);
        let share = share.map_or(String::new(), |share| format!("{share:3} % "));
        tell(format_args!("\r{share}{} packets read, {} selected ", self.read, self.selected));
    }

    fn end(&self) {
        if self.is_shown {
            tell("\r\x1b[K");
        }
        if !self.is_quiet {
            tell_line(format_args!("{} of {} packets selected", self.selected, self.read));
        }
    }
}
