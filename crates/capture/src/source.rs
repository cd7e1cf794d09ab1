//! The source of a reader's bytes: any stream, a file that a second thread reads ahead or decompresses, or the parts of a file that
//! several threads take turns with.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::compressed::{Compression, Decompressor};
use tapline_kernel::machine::run_beside_main;

/// Bytes of one read: large enough that the system call costs little, small enough to stay in a core's second-level cache
/// until its packets are judged.
const CHUNK_LEN: usize = 256 * 1024;
/// Bytes of a part that a thread reads and judges by itself: it takes most of a second-level cache of 2 MiB, since fewer parts are
/// handed over less often (at 256 KiB `tapline filter` took a fifth longer where 40 % of the packets match).
pub(super) const PART_LEN: usize = 768 * 1024;
/// Room before a chunk for the part of a record that ended the chunk before, so that reads stay aligned to pages of the file.
const HEADROOM_LEN: usize = 64 * 1024;
/// Chunks in flight between the two threads.
const CHUNKS: usize = 6;
/// The thread that reads ahead is woken for no fewer free chunks: a wake-up costs as much as reading a few pages.
const WAKE_AT: usize = 3;

/// A window on the bytes of a capture file: those that were read and not yet consumed.
pub(super) struct Input {
    source: Source,
    /// `bytes[start..end]` are unread; `bytes[start]` is byte `offset` of the file.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    offset: u64,
    /// The compression of the file, and the number of its bytes that were taken.
    compressed: Option<(Compression, Arc<AtomicU64>)>,
}

enum Source {
    Stream(Box<dyn Read + Send>),
    ReadAhead(ReadAhead),
    Decompressed(DecompressAhead),
    /// A part that was attached; the file ends with it if `is_last`.
    Part {
        is_last: bool,
    },
}

impl Input {
    pub(crate) fn stream(stream: Box<dyn Read + Send>) -> Self {
        Self::new(Source::Stream(stream))
    }

    /// Reads `file`, which must be a regular one, from its beginning, with a thread that reads ahead.
    pub(crate) fn read_ahead(file: File) -> io::Result<Self> {
        Ok(Self::new(Source::ReadAhead(ReadAhead::start(file)?)))
    }

    /// Decompresses from here on what comes of a stream, of which nothing was consumed, by a thread of its own if that `is_ahead`.
    pub(crate) fn decompress(&mut self, compression: Compression, is_ahead: bool) -> io::Result<()> {
        let begun = std::mem::replace(&mut self.bytes, chunk());
        let begun = &begun[self.start..self.end];
        (self.start, self.end) = (HEADROOM_LEN, HEADROOM_LEN);
        let Source::Stream(stream) = std::mem::replace(&mut self.source, Source::Part { is_last: true })
        else {
            return Err(io::Error::other("a part of a compressed file cannot be read alone"));
        };
        let decompressor = Decompressor::new(compression, begun, stream)?;
        self.compressed = Some((compression, decompressor.taken()));
        self.source = if is_ahead {
            Source::Decompressed(DecompressAhead::start(decompressor)?)
        } else {
            Source::Stream(Box::new(decompressor))
        };
        Ok(())
    }

    /// Gives the compression of the file.
    pub(crate) fn compression(&self) -> Option<Compression> {
        self.compressed.as_ref().map(|(compression, _)| *compression)
    }

    /// Bytes that were taken of a compressed file.
    pub(crate) fn taken(&self) -> Option<u64> {
        self.compressed.as_ref().map(|(_, taken)| taken.load(Ordering::Relaxed))
    }

    /// A window on a file whose parts are attached one after another.
    pub(crate) fn of_parts(first: Part) -> Self {
        let mut input = Self::new(Source::Part { is_last: false });
        input.attach(first);
        input
    }

    /// Puts a part behind what is unread.
    pub(crate) fn attach(&mut self, part: Part) {
        self.source = Source::Part { is_last: part.is_last() };
        self.put_behind(part.0);
    }

    /// Gives away the bytes, of which what is unread is kept.
    pub(crate) fn detach(&mut self) -> Vec<u8> {
        let unread = self.available().to_vec();
        (self.start, self.end) = (0, unread.len());
        std::mem::replace(&mut self.bytes, unread)
    }

    /// Returns whether nothing comes behind what is available once [`fill`](Self::fill) could not get more.
    pub(crate) fn is_at_end(&self) -> bool {
        !matches!(self.source, Source::Part { is_last: false })
    }

    /// Gives the place of the available bytes in what [`detach`](Self::detach) gives.
    pub(crate) fn start(&self) -> usize {
        self.start
    }

    fn new(source: Source) -> Self {
        Self { source, bytes: chunk(), start: HEADROOM_LEN, end: HEADROOM_LEN, offset: 0, compressed: None }
    }

    /// The bytes that were read and not consumed.
    #[inline(always)]
    pub(crate) fn available(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Gives the offset in the file at which the available bytes begin.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn consume(&mut self, len: usize) {
        debug_assert!(len <= self.end - self.start);
        self.start += len;
        self.offset += len as u64;
    }

    /// Reads until `len` bytes are available; fewer are only at the end of the file.
    pub(crate) fn fill(&mut self, len: usize) -> io::Result<()> {
        while self.end - self.start < len {
            let is_end = match &mut self.source {
                Source::Stream(_) => self.read_stream(len)?,
                Source::ReadAhead(_) | Source::Decompressed(_) => self.next_chunk()?,
                Source::Part { .. } => true,
            };
            if is_end {
                break;
            }
        }
        Ok(())
    }

    fn read_stream(&mut self, len: usize) -> io::Result<bool> {
        let Source::Stream(stream) = &mut self.source else { return Ok(true) };
        let kept = self.end - self.start;
        if kept == 0 || self.end == self.bytes.len() || self.start + len > self.bytes.len() {
            let to = HEADROOM_LEN.saturating_sub(kept);
            self.bytes.copy_within(self.start..self.end, to);
            (self.start, self.end) = (to, to + kept);
            // A packet of more than the headroom: grow by what is known to come, but never by what a damaged length claims.
            let wanted = (to + len).min(self.end + 4 * CHUNK_LEN);
            if self.bytes.len() < wanted {
                self.bytes.resize(wanted, 0);
            }
        }
        let count = loop {
            let read_end = self.bytes.len().min(self.end + CHUNK_LEN);
            match stream.read(&mut self.bytes[self.end..read_end]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        self.end += count;
        Ok(count == 0)
    }

    fn next_chunk(&mut self) -> io::Result<bool> {
        let next = match &mut self.source {
            Source::ReadAhead(ahead) => ahead.next()?,
            Source::Decompressed(ahead) => ahead.next()?,
            Source::Stream(_) | Source::Part { .. } => None,
        };
        let Some(next) = next else { return Ok(true) };
        let mut spare = self.put_behind(next);
        spare.resize(HEADROOM_LEN + CHUNK_LEN, 0);
        match &self.source {
            Source::ReadAhead(ahead) => ahead.give_back(spare),
            Source::Decompressed(ahead) => ahead.give_back(spare),
            Source::Stream(_) | Source::Part { .. } => {}
        }
        Ok(false)
    }

    /// Puts a chunk behind what is unread; gives a buffer that is no longer needed.
    fn put_behind(&mut self, mut next: Chunk) -> Vec<u8> {
        let kept = self.end - self.start;
        if kept <= HEADROOM_LEN {
            let start = HEADROOM_LEN - kept;
            next.bytes[start..HEADROOM_LEN].copy_from_slice(&self.bytes[self.start..self.end]);
            (self.start, self.end) = (start, HEADROOM_LEN + next.len);
            std::mem::swap(&mut self.bytes, &mut next.bytes);
        } else {
            self.bytes.copy_within(self.start..self.end, 0);
            self.bytes.truncate(kept);
            self.bytes.extend_from_slice(&next.bytes[HEADROOM_LEN..HEADROOM_LEN + next.len]);
            (self.start, self.end) = (0, self.bytes.len());
        }
        next.bytes
    }
}

/// A part of a file, as long as all but the last.
pub(super) struct Part(Chunk);

impl Part {
    /// Reads part `index` of `file` into `bytes`, a buffer that [`Input::detach`] gave or an empty one.
    pub(crate) fn read(file: &File, index: u64, mut bytes: Vec<u8>) -> io::Result<Self> {
        bytes.resize(HEADROOM_LEN + PART_LEN, 0);
        let len = read_chunk(file, index, &mut bytes)?;
        Ok(Self(Chunk { bytes, len }))
    }

    fn is_last(&self) -> bool {
        self.0.len < PART_LEN
    }
}

fn chunk() -> Vec<u8> {
    vec![0; HEADROOM_LEN + CHUNK_LEN]
}

/// Reads chunk `index` behind the headroom of `bytes`, which is as long as all chunks; its length, which is less only at the end of
/// the file.
fn read_chunk(file: &File, index: u64, bytes: &mut [u8]) -> io::Result<usize> {
    let chunk = &mut bytes[HEADROOM_LEN..];
    let begin = index * chunk.len() as u64;
    let mut len = 0;
    while len < chunk.len() {
        match file.read_at(&mut chunk[len..], begin + len as u64) {
            Ok(0) => break,
            Ok(count) => len += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

/// Part of the file: `len` bytes after the headroom.
struct Chunk {
    bytes: Vec<u8>,
    len: usize,
}

/// Reads a file's chunks in order with two threads: whoever is free reads the next one, so that a consumer that waits for
/// bytes reads too.
struct ReadAhead {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    file: File,
    state: Mutex<State>,
    /// Told when a chunk was read, or a free one came back.
    changed: Condvar,
}

struct State {
    free: Vec<Vec<u8>>,
    /// The next chunk that nobody reads yet.
    unclaimed: u64,
    /// The results for the chunks that the consumer gets next; `None` while one is being read.
    read: VecDeque<Option<io::Result<Chunk>>>,
    is_stopped: bool,
}

impl ReadAhead {
    fn start(file: File) -> io::Result<Self> {
        let state = State {
            free: (0..CHUNKS).map(|_| chunk()).collect(),
            unclaimed: 0,
            read: VecDeque::with_capacity(CHUNKS + 1),
            is_stopped: false,
        };
        let shared = Arc::new(Shared { file, state: Mutex::new(state), changed: Condvar::new() });
        let thread = std::thread::Builder::new().name("read-ahead".into()).spawn({
            let shared = Arc::clone(&shared);
            move || {
                run_beside_main();
                shared.read_ahead();
            }
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// The next chunk; `None` at the end of the file.
    fn next(&mut self) -> io::Result<Option<Chunk>> {
        let mut state = self.shared.lock();
        let result = loop {
            if let Some(Some(_)) = state.read.front() {
                break state.read.pop_front().flatten().expect("the front was seen");
            }
            state = match self.shared.read_next(state) {
                Ok(state) => state,
                Err(state) => self.shared.wait(state),
            };
        };
        let chunk = result?;
        Ok((chunk.len != 0).then_some(chunk))
    }

    fn give_back(&self, bytes: Vec<u8>) {
        let mut state = self.shared.lock();
        state.free.push(bytes);
        if state.free.len() >= WAKE_AT {
            drop(state);
            self.shared.changed.notify_one();
        }
    }
}

impl Shared {
    // A panic while the lock is held is not possible short of exhausted memory; the state stays sound either way.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the next chunk into a free one; gives the lock back as an error where there is none.
    fn read_next<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
    ) -> Result<MutexGuard<'a, State>, MutexGuard<'a, State>> {
        let Some(mut bytes) = state.free.pop() else { return Err(state) };
        let index = state.unclaimed;
        state.unclaimed += 1;
        state.read.push_back(None);
        drop(state);

        let result = read_chunk(&self.file, index, &mut bytes).map(|len| Chunk { bytes, len });

        let mut state = self.lock();
        let place =
            state.read.len() - usize::try_from(state.unclaimed - index).expect("few chunks are in flight");
        state.read[place] = Some(result);
        self.changed.notify_one();
        Ok(state)
    }

    fn read_ahead(&self) {
        let mut state = self.lock();
        while !state.is_stopped {
            state = match self.read_next(state) {
                Ok(state) => state,
                Err(state) => self.wait(state),
            };
        }
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        self.shared.lock().is_stopped = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A file that a thread of its own decompresses, at most [`CHUNKS`] chunks before they are asked for.
struct DecompressAhead {
    /// An empty one is the end.
    chunks: Receiver<io::Result<Chunk>>,
    free: Sender<Vec<u8>>,
    is_ended: bool,
}

impl DecompressAhead {
    /// The thread ends with the data, or when nobody wants it any more: one that waits for a pipe hears of that when something comes.
    fn start(mut decompressor: Decompressor) -> io::Result<Self> {
        let (sender, chunks) = channel();
        let (free, frees) = channel::<Vec<u8>>();
        for _ in 0..CHUNKS {
            // the other end is held below
            let _ = free.send(chunk());
        }
        std::thread::Builder::new().name("decompress".into()).spawn(move || {
            run_beside_main();
            while let Ok(mut bytes) = frees.recv() {
                let chunk = decompressor.read(&mut bytes[HEADROOM_LEN..]).map(|len| Chunk { bytes, len });
                let is_last = chunk.as_ref().map_or(true, |chunk| chunk.len == 0);
                if sender.send(chunk).is_err() || is_last {
                    break;
                }
            }
        })?;
        Ok(Self { chunks, free, is_ended: false })
    }

    /// The next chunk; `None` at the end of the file.
    fn next(&mut self) -> io::Result<Option<Chunk>> {
        if self.is_ended {
            return Ok(None);
        }
        let chunk = self.chunks.recv().unwrap_or_else(|_| {
            Err(io::Error::other("the thread that decompresses it panicked, as it should for no file"))
        });
        self.is_ended = chunk.as_ref().map_or(true, |chunk| chunk.len == 0);
        chunk.map(|chunk| (chunk.len > 0).then_some(chunk))
    }

    fn give_back(&self, bytes: Vec<u8>) {
        // it may have ended already
        let _ = self.free.send(bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Takes all bytes of `input` in pieces of lengths that go round `piece_lens`.
    fn take_all(mut input: Input, piece_lens: &[usize]) -> Vec<u8> {
        let mut taken = Vec::new();
        for piece_len in piece_lens.iter().cycle() {
            input.fill(*piece_len).expect("a readable file");
            assert_eq!(input.offset(), taken.len() as u64);
            let piece_len = input.available().len().min(*piece_len);
            if piece_len == 0 {
                break;
            }
            taken.extend_from_slice(&input.available()[..piece_len]);
            input.consume(piece_len);
        }
        taken
    }

    #[test]
    fn a_file_arrives_whole_in_pieces_of_any_length_with_and_without_reading_ahead() {
        for len in [0, 1, CHUNK_LEN - 1, CHUNK_LEN, CHUNK_LEN + 1, 9 * CHUNK_LEN + 77] {
            let bytes: Vec<u8> = (0..len).map(|at| (at / 251 + at) as u8).collect();
            let mut file = tempfile::NamedTempFile::new().expect("a file");
            file.write_all(&bytes).expect("a writable file");
            // Shorter than the headroom, longer than it, longer than a chunk, longer than the first buffer.
            for piece_lens in [
                &[100, 3][..],
                &[1500, HEADROOM_LEN + 9],
                &[CHUNK_LEN + 5, 16],
                &[3 * CHUNK_LEN, 40, HEADROOM_LEN],
            ] {
                let open = || File::open(file.path()).expect("a file");
                assert!(
                    take_all(Input::stream(Box::new(open())), piece_lens) == bytes,
                    "{len} bytes as a stream, {piece_lens:?}"
                );
                let ahead = Input::read_ahead(open()).expect("a thread");
                assert!(take_all(ahead, piece_lens) == bytes, "{len} bytes read ahead, {piece_lens:?}");
            }
        }
    }

    #[test]
    fn a_reader_that_is_dropped_early_stops_its_thread() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(&vec![0; 20 * CHUNK_LEN]).expect("a writable file");
        let mut input = Input::read_ahead(File::open(file.path()).expect("a file")).expect("a thread");
        input.fill(1).expect("a readable file");
        drop(input);
    }

    #[test]
    fn a_claimed_length_takes_no_memory_that_the_file_does_not_fill() {
        let mut input = Input::stream(Box::new(io::Cursor::new(vec![0; 1000])));
        input.fill(128 << 20).expect("a readable stream");
        assert_eq!(input.available().len(), 1000);
        assert!(input.bytes.len() < 8 * CHUNK_LEN, "{} bytes", input.bytes.len());
    }
}
