//! Capture file -> bursts, judged by several threads and handed on in the file's order.
//!
//! Each thread judges the packets of the parts that it read itself, as they are in its core's cache. Two things go from thread to
//! thread in the order of the parts: the [`Reader`], since a part's first record begins where the one before ends, and the
//! [`Sink`].

use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::error::{Error, ErrorKind};
use super::reader::{Burst, ReadPart, Reader};
use super::source::Part;
use tapline_packet::burst::Selection;

/// Takes judged packets, in the file's order.
pub trait Sink: Send {
    type Error: Send;

    /// Takes a burst with the packets that were selected.
    fn take(&mut self, burst: &Burst<'_>, selection: Selection) -> Result<(), Self::Error>;

    /// More has to be read, which may take time. `offset` bytes of the file are through.
    fn pause(&mut self, offset: u64) -> Result<(), Self::Error>;
}

/// Why a scan ended before its file.
#[derive(Debug)]
pub enum Stop<E> {
    /// The file is damaged or cannot be read; all packets before have been taken.
    Damaged(Error),
    /// The judge or the sink failed.
    Refused(E),
}

/// A regular file that is to be scanned.
pub struct Scan {
    file: File,
    reader: Reader,
}

impl Scan {
    /// Reads the file's first part.
    /// # Errors
    /// As [`Reader::open`].
    pub fn begin(file: File) -> Result<Self, Error> {
        let first =
            Part::read(&file, 0, Vec::new()).map_err(|error| Error::new(0, ErrorKind::Io(error)))?;
        Ok(Self { reader: Reader::of_parts(first)?, file })
    }

    /// The reader, before its first packet.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Hands all packets to `sink`, judged by `threads` threads with a judge each. A judge gets the bursts of a part in order; the
    /// second argument says that a part begins, so that the interfaces may be others. Gives the reader back.
    pub fn run<S: Sink, J>(
        self,
        threads: usize,
        judge: impl Fn() -> J + Sync,
        sink: S,
    ) -> (Reader, S, Result<(), Stop<S::Error>>)
    where
        J: FnMut(&Burst<'_>, bool) -> Result<Selection, S::Error>,
    {
        let unclaimed = AtomicU64::new(0);
        let (readers, sinks) = (Turnstile::new(self.reader), Turnstile::new((sink, Ok(()))));
        let turns = Turns { file: &self.file, unclaimed: &unclaimed, readers: &readers, sinks: &sinks };
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(|| turns.take(judge()));
            }
            turns.take(judge());
        });
        let (sink, result) = sinks.into_inner();
        (readers.into_inner(), sink, result)
    }
}

/// The state that the threads of a scan share.
struct Turns<'a, S: Sink> {
    file: &'a File,
    unclaimed: &'a AtomicU64,
    readers: &'a Turnstile<Reader>,
    sinks: &'a Turnstile<Taken<S>>,
}

/// The sink, and how the scan ended.
type Taken<S> = (S, Result<(), Stop<<S as Sink>::Error>>);

impl<S: Sink> Turns<'_, S> {
    /// Takes parts until there are no more, or until one fails.
    fn take<J>(&self, mut judge: J)
    where
        J: FnMut(&Burst<'_>, bool) -> Result<Selection, S::Error>,
    {
        let _released = Released(self);
        let mut spare = ReadPart::default();
        let mut selections = Vec::new();
        loop {
            let index = self.unclaimed.fetch_add(1, Ordering::Relaxed);
            // the reader has the first part already
            let part = if index == 0 {
                Ok(None)
            } else {
                Part::read(self.file, index, spare.take_bytes()).map(Some)
            };
            let Some(mut reader) = self.readers.enter(index) else { return };
            let (mut part, failure) = match part {
                Ok(part) => (reader.read_part(part, spare), None),
                Err(error) => {
                    (reader.read_part(None, spare), Some(Error::new(reader.offset(), ErrorKind::Io(error))))
                }
            };
            let offset = reader.offset();
            let is_last = part.is_last || failure.is_some();
            self.readers.leave(index, reader, is_last);

            selections.clear();
            let mut refused = None;
            for (at, burst) in part.bursts().enumerate() {
                match judge(&burst, at == 0) {
                    Ok(selection) => selections.push(selection),
                    Err(error) => {
                        refused = Some(error);
                        break;
                    }
                }
            }
            let Some((mut sink, _)) = self.sinks.enter(index) else { return };
            let taken = part
                .bursts()
                .zip(&selections)
                .try_for_each(|(burst, &selection)| sink.take(&burst, selection));
            let taken = taken.and_then(|()| refused.map_or(Ok(()), Err)).and_then(|()| sink.pause(offset));
            let damage = part.damage.take().or(failure);
            let result = match taken {
                Err(error) => Err(Stop::Refused(error)),
                Ok(()) => damage.map_or(Ok(()), |damage| Err(Stop::Damaged(damage))),
            };
            let is_over = is_last || result.is_err();
            if is_over {
                self.readers.close();
            }
            self.sinks.leave(index, (sink, result), is_over);
            if is_over {
                return;
            }
            spare = part;
        }
    }
}

/// Lets the other threads go if this one panics: they would wait for it.
struct Released<'a, 't, S: Sink>(&'t Turns<'a, S>);

impl<S: Sink> Drop for Released<'_, '_, S> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.readers.close();
            self.0.sinks.close();
        }
    }
}

/// Looks at a turnstile before a thread sleeps: a turn mostly takes less than falling asleep and waking up.
const LOOKS: u32 = 500;

/// One thing that threads hold one after another, in the order of their numbers.
struct Turnstile<T> {
    state: Mutex<State<T>>,
    /// The number whose turn it is, for those who look without the lock.
    turn: AtomicU64,
    moved: Condvar,
}

struct State<T> {
    /// Nobody has it.
    item: Option<T>,
    turn: u64,
    is_closed: bool,
}

impl<T> Turnstile<T> {
    fn new(item: T) -> Self {
        let state = State { item: Some(item), turn: 0, is_closed: false };
        Self { state: Mutex::new(state), turn: AtomicU64::new(0), moved: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turn of `number`; `None` where it does not come any more.
    fn enter(&self, number: u64) -> Option<T> {
        for _ in 0..LOOKS {
            if self.turn.load(Ordering::Relaxed) >= number {
                break;
            }
            std::hint::spin_loop();
        }
        let mut state = self.lock();
        while state.turn != number && !state.is_closed {
            state = self.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.is_closed { None } else { state.item.take() }
    }

    /// Hands the thing to the next number, or to nobody.
    fn leave(&self, number: u64, item: T, is_closed: bool) {
        let mut state = self.lock();
        state.item = Some(item);
        state.turn = number + 1;
        state.is_closed |= is_closed;
        self.turn.store(if state.is_closed { u64::MAX } else { state.turn }, Ordering::Relaxed);
        drop(state);
        self.moved.notify_all();
    }

    /// Lets nobody in any more.
    fn close(&self) {
        self.lock().is_closed = true;
        self.turn.store(u64::MAX, Ordering::Relaxed);
        self.moved.notify_all();
    }

    fn into_inner(self) -> T {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        state.item.expect("who had it gave it back, or panicked")
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};

    use proptest::prelude::*;

    use super::*;

    /// Everything that a reader hands out: time, place in the file and bytes of each record, then the error.
    #[derive(Default)]
    struct Seen {
        records: Vec<(u64, u32, Vec<u8>)>,
        spans: Vec<u8>,
        error: Option<String>,
    }

    impl Seen {
        fn add(&mut self, burst: &Burst<'_>) {
            self.records.extend(
                burst.iter().map(|record| (record.time_ns, record.interface.0, record.raw().to_vec())),
            );
            self.spans.extend_from_slice(burst.span());
        }
    }

    impl Sink for Seen {
        type Error = String;

        fn take(&mut self, burst: &Burst<'_>, selection: Selection) -> Result<(), String> {
            assert_eq!(selection, Selection::first(burst.len()));
            self.add(burst);
            Ok(())
        }

        fn pause(&mut self, _offset: u64) -> Result<(), String> {
            Ok(())
        }
    }

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(bytes).expect("a writable file");
        file
    }

    fn scanned(bytes: &[u8], threads: usize) -> Result<Seen, Error> {
        let scan = Scan::begin(File::open(file(bytes).path()).expect("a file"))?;
        let judge = || |burst: &Burst<'_>, _is_afresh: bool| Ok(Selection::first(burst.len()));
        let (_, mut seen, result) = scan.run(threads, judge, Seen::default());
        seen.error = match result {
            Ok(()) => None,
            Err(Stop::Damaged(error)) => Some(error.to_string()),
            Err(Stop::Refused(error)) => panic!("{error}"),
        };
        Ok(seen)
    }

    fn read(bytes: &[u8]) -> Result<Seen, Error> {
        let mut reader = Reader::from_stream(Box::new(io::Cursor::new(bytes.to_vec())))?;
        let mut seen = Seen::default();
        loop {
            match reader.next_burst() {
                Ok(Some(burst)) => seen.add(&burst),
                Ok(None) => return Ok(seen),
                Err(error) => {
                    seen.error = Some(error.to_string());
                    return Ok(seen);
                }
            }
        }
    }

    fn pcap(lens: &[usize]) -> Vec<u8> {
        let mut bytes = [
            &0xa1b2_c3d4u32.to_le_bytes()[..],
            &[2, 0, 4, 0],
            &[0; 8],
            &262_144u32.to_le_bytes(),
            &[1, 0, 0, 0],
        ]
        .concat();
        for (number, &len) in (0u32..).zip(lens) {
            [number, 7, len as u32, len as u32].iter().for_each(|field| bytes.extend(field.to_le_bytes()));
            bytes.extend((0..len).map(|at| (at * 7 + number as usize) as u8));
        }
        bytes
    }

    /// Sections in turn of either byte order, with one interface or two, and blocks of no packet between.
    fn pcapng(lens: &[usize]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (number, lens) in (0u32..).zip(lens.chunks(300)) {
            let field =
                |value: u32| if number % 2 == 0 { value.to_le_bytes() } else { value.to_be_bytes() };
            let mut block = |block_type: u32, body: &[u8]| {
                let len = field(12 + body.len() as u32);
                bytes.extend([&field(block_type)[..], &len, body, &len].concat());
            };
            let version: [u8; 4] = if number % 2 == 0 { [1, 0, 0, 0] } else { [0, 1, 0, 0] };
            block(0x0a0d_0d0a, &[&field(0x1a2b_3c4d)[..], &version, &[0xff; 8]].concat());
            for _ in 0..=number % 2 {
                let link = if number % 2 == 0 { [1, 0, 0, 0] } else { [0, 1, 0, 0] };
                block(1, &[&link[..], &field(0)].concat());
            }
            for (at, &len) in (0u32..).zip(lens) {
                let data: Vec<u8> =
                    (0..len.next_multiple_of(4)).map(|byte| (byte + at as usize) as u8).collect();
                let fields = [at % (1 + number % 2), 0, at, len as u32, len as u32];
                block(6, &[&fields.map(field).concat()[..], &data].concat());
                if at % 50 == 0 {
                    block(0x0bad, &data);
                }
            }
        }
        bytes
    }

    fn lens() -> impl Strategy<Value = Vec<usize>> {
        let len = prop_oneof![20 => 0usize..200, 20 => 1000usize..9000, 1 => 60_000usize..150_000];
        prop::collection::vec(len, 0..1500)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn a_scan_hands_out_what_one_reader_does_also_of_damaged_files(
            lens in lens(),
            is_pcapng in any::<bool>(),
            cut in prop::option::of(any::<prop::sample::Index>()),
            damage in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
            threads in 1usize..4,
        ) {
            let mut bytes = if is_pcapng { pcapng(&lens) } else { pcap(&lens) };
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len() + 1));
            }
            if let Some((at, value)) = damage && !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] ^= value;
            }
            match (read(&bytes), scanned(&bytes, threads)) {
                (Err(one), Err(other)) => prop_assert_eq!(one.to_string(), other.to_string()),
                (Ok(one), Ok(other)) => {
                    prop_assert_eq!(one.error, other.error);
                    prop_assert!(one.records == other.records && one.spans == other.spans);
                }
                (one, other) => prop_assert!(false, "one reader: {:?}, a scan: {:?}", one.is_ok(), other.is_ok()),
            }
        }
    }

    #[test]
    fn a_judge_or_sink_that_fails_ends_the_scan_after_all_that_came_before() {
        struct Until(usize);
        impl Sink for Until {
            type Error = &'static str;

            fn take(&mut self, burst: &Burst<'_>, _selection: Selection) -> Result<(), &'static str> {
                self.0 = self.0.checked_sub(burst.len()).ok_or("enough")?;
                Ok(())
            }

            fn pause(&mut self, _offset: u64) -> Result<(), &'static str> {
                Ok(())
            }
        }
        let file = file(&pcap(&[1000; 4000]));
        let scan = || Scan::begin(File::open(file.path()).expect("a file")).expect("a capture");
        let judge = || |burst: &Burst<'_>, _is_afresh: bool| Ok(Selection::first(burst.len()));
        let (_, _, result) = scan().run(3, judge, Until(2000));
        assert!(matches!(result, Err(Stop::Refused("enough"))));
        let judge = || {
            |burst: &Burst<'_>, _is_afresh: bool| {
                if burst.get(0).time_ns >= 3_000_000_000_000 { Err("no more") } else { Ok(Selection::NONE) }
            }
        };
        let (_, sink, result) = scan().run(3, judge, Until(4000));
        assert!(matches!(result, Err(Stop::Refused("no more"))));
        assert!((4000 - sink.0).abs_diff(3000) < 64, "{} packets were taken", 4000 - sink.0);
    }
}
