//! Lines of a stream, read by a thread that nobody waits for.
//!
//! A line has a bound in bytes and the queue one in lines: whoever writes more is made to wait, and a line without an end fills no
//! memory. The thread ends with its stream, or with the process.

use std::io::{self, BufRead};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

use super::bell::Bell;

/// The longest line: as long as a word may become when its variables are expanded.
pub const MOST_BYTES: usize = tapline_lang::lexer::MOST_EXPANDED_BYTES;
/// The most lines that wait to be taken.
const MOST_LINES: usize = 64;

/// A line as it came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Line {
    /// Its bytes, without the end of the line. They may be no text.
    Whole(Vec<u8>),
    /// It had more than [`MOST_BYTES`], and was passed over.
    TooLong,
}

/// The lines of a stream, in their order.
pub struct Lines {
    receiver: Receiver<Line>,
    /// A line that was looked at before its turn.
    ahead: Option<Line>,
}

impl Lines {
    /// Begins to read `stream`; the bell is rung for each line and at the end.
    ///
    /// # Errors
    /// If there is no further thread.
    pub fn of(stream: impl io::Read + Send + 'static, bell: Bell) -> io::Result<Self> {
        let mut stream = io::BufReader::new(stream);
        // an error ends the stream as its end does
        Self::by(move || next_line(&mut stream, MOST_BYTES, Excess::Skip).ok().flatten(), bell)
    }

    /// Begins to take the lines that `read` gives, until it gives none; the bell is rung for each line and at the end.
    ///
    /// # Errors
    /// If there is no further thread.
    pub fn by(read: impl FnMut() -> Option<Line> + Send + 'static, bell: Bell) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(MOST_LINES);
        std::thread::Builder::new().name("lines".to_owned()).spawn(move || {
            send_lines(read, &sender, &bell);
            drop(sender);
            bell.ring();
        })?;
        Ok(Self { receiver, ahead: None })
    }

    /// Takes the next line.
    ///
    /// # Errors
    /// If none has come yet, or the stream has ended.
    pub fn take(&mut self) -> Result<Line, TryRecvError> {
        self.ahead.take().map_or_else(|| self.receiver.try_recv(), Ok)
    }

    /// Takes the next line if it says `word` alone. Returns whether it did.
    pub fn take_if(&mut self, word: &[u8]) -> bool {
        if self.ahead.is_none() {
            self.ahead = self.receiver.try_recv().ok();
        }
        let says_it = |line: &mut Line| matches!(line, Line::Whole(bytes) if bytes.trim_ascii() == word);
        self.ahead.take_if(says_it).is_some()
    }
}

/// Sends the lines that `read` gives, until it gives none or nobody takes them.
fn send_lines(mut read: impl FnMut() -> Option<Line>, lines: &SyncSender<Line>, bell: &Bell) {
    while let Some(line) = read() {
        if lines.send(line).is_err() {
            return;
        }
        bell.ring();
    }
}

/// The way of a reader with a line that is too long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Excess {
    /// It is read to its end, and the next one is read.
    Skip,
    /// It is read no further: nothing comes behind it.
    Stop,
}

/// Reads the next line of a stream; `None` at its end. The last line needs no end of its own.
///
/// # Errors
/// If the stream cannot be read.
pub fn next_line(stream: &mut impl BufRead, most_bytes: usize, excess: Excess) -> io::Result<Option<Line>> {
    let mut line = Vec::new();
    let (mut is_too_long, mut is_begun) = (false, false);
    loop {
        let read = stream.fill_buf()?;
        if read.is_empty() && !is_begun {
            return Ok(None);
        }
        is_begun = true;
        let end = read.iter().position(|&byte| byte == b'\n');
        let part = &read[..end.unwrap_or(read.len())];
        is_too_long |= line.len() + part.len() > most_bytes;
        if is_too_long && excess == Excess::Stop {
            return Ok(Some(Line::TooLong));
        }
        if is_too_long {
            line.clear();
        } else {
            line.extend_from_slice(part);
        }
        let (used, is_over) = (part.len() + usize::from(end.is_some()), end.is_some() || read.is_empty());
        stream.consume(used);
        if is_over {
            return Ok(Some(if is_too_long { Line::TooLong } else { Line::Whole(line) }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All lines of `bytes`, as they are taken.
    fn lines_of(bytes: Vec<u8>) -> Vec<Line> {
        let mut lines = Lines::of(io::Cursor::new(bytes), Bell::default()).expect("a thread");
        let mut all = Vec::new();
        loop {
            match lines.take() {
                Ok(line) => all.push(line),
                Err(TryRecvError::Empty) => std::thread::yield_now(),
                Err(TryRecvError::Disconnected) => return all,
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn lines_are_those_that_split_gives_but_for_the_long(
            lens in prop::collection::vec(prop_oneof![0usize..40, MOST_BYTES - 2..MOST_BYTES + 3], 0..6),
            has_end: bool,
        ) {
            let texts: Vec<Vec<u8>> = lens.iter().map(|&len| vec![b'a'; len]).collect();
            let mut bytes = texts.join(&b'\n');
            if has_end && !bytes.is_empty() {
                bytes.push(b'\n');
            }
            let expected: Vec<Line> = bytes
                .split_inclusive(|&byte| byte == b'\n')
                .map(|line| line.strip_suffix(b"\n").unwrap_or(line))
                .map(|line| if line.len() > MOST_BYTES { Line::TooLong } else { Line::Whole(line.to_vec()) })
                .collect();
            prop_assert_eq!(lines_of(bytes), expected);
        }
    }

    #[test]
    fn a_stream_without_an_end_or_a_line_is_read_no_further_than_the_queue_holds() {
        struct Endless(std::sync::Arc<std::sync::atomic::AtomicUsize>, u8);
        impl io::Read for Endless {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                into.fill(self.1);
                self.0.fetch_add(into.len(), std::sync::atomic::Ordering::Relaxed);
                Ok(into.len())
            }
        }
        let read = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let mut lines =
            Lines::of(Endless(std::sync::Arc::clone(&read), b'\n'), Bell::default()).expect("a thread");
        let first = loop {
            if let Ok(line) = lines.take() {
                break line;
            }
            std::thread::yield_now();
        };
        assert_eq!(first, Line::Whole(Vec::new()));
        // the thread waits for room: one buffer was read, whatever the time
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(read.load(std::sync::atomic::Ordering::Relaxed) <= 2 * 8192);
    }

    #[test]
    fn a_line_is_looked_at_and_stays_unless_it_is_the_word() {
        let mut lines = Lines::of(io::Cursor::new(b"show ports\n cancel \nlast".to_vec()), Bell::default())
            .expect("a thread");
        let mut next = |is_cancel: bool| loop {
            if lines.take_if(b"cancel") {
                assert!(is_cancel);
                return Ok(Line::Whole(b"cancel".to_vec()));
            }
            match lines.take() {
                Err(TryRecvError::Empty) => std::thread::yield_now(),
                taken => return taken,
            }
        };
        assert_eq!(next(false), Ok(Line::Whole(b"show ports".to_vec())));
        assert_eq!(next(true), Ok(Line::Whole(b"cancel".to_vec())));
        assert_eq!(next(false), Ok(Line::Whole(b"last".to_vec())));
        assert_eq!(next(false), Err(TryRecvError::Disconnected));
    }
}
