//! Pieces of text on their way to a stream that may take none: a pipe that nobody reads, a disk that hangs.
//!
//! A thread writes them, and whoever has something to say waits for nobody. The pieces that wait have a bound in bytes; what comes beyond
//! it is left out, counted, and told of by the writer when there is room again.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The most bytes that wait for standard output, standard error or a file.
pub const MOST_BYTES: usize = 4 << 20;
/// How long a stream's writer keeps its pieces behind those of another.
const ORDER_LIMIT: Duration = Duration::from_millis(100);

/// A stream that is written by a thread of its own.
#[derive(Clone)]
pub struct Outlet(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// The most bytes that wait to be written.
    most_bytes: usize,
    state: Mutex<State>,
    changed: Condvar,
}

/// A piece, and how many of another stream's pieces were there before it.
struct Piece {
    bytes: Vec<u8>,
    behind: Option<(Outlet, u64)>,
}

#[derive(Default)]
struct State {
    pieces: VecDeque<Piece>,
    /// Pieces that were taken in, and those that were written, of all time.
    taken: u64,
    written: u64,
    /// The bytes of all pieces, the one that is being written included.
    bytes: usize,
    /// Pieces that found no room, since the writer last told of them.
    left_out: u64,
    /// All of them.
    all_left_out: u64,
    failure: Option<io::Error>,
    is_failure_told: bool,
    /// Nothing comes any more.
    is_closed: bool,
}

/// Returns how long the end of a program waits for a stream. A pipe or a terminal may have a reader who stands still; a regular file
/// takes what it is given as soon as its writer has a CPU.
pub fn patience(is_regular: bool) -> Duration {
    Duration::from_secs(if is_regular { 20 } else { 2 })
}

/// The fate of an outlet's pieces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delivery {
    /// All were written.
    Whole,
    /// Some found no room, or still wait.
    Partial { left_out: u64, waiting_bytes: usize },
    /// The stream failed.
    Failed,
}

impl Outlet {
    /// Begins to write to what `open` opens, which may take its time; at most `most_bytes` wait. `tell_left_out` makes a piece that says
    /// how many were left out.
    ///
    /// # Errors
    /// If there is no further thread.
    pub fn to<W: Write>(
        most_bytes: usize,
        open: impl FnOnce() -> io::Result<W> + Send + 'static,
        tell_left_out: fn(u64) -> Option<String>,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared { most_bytes, ..Shared::default() });
        let theirs = Arc::clone(&shared);
        std::thread::Builder::new().name("outlet".to_owned()).spawn(move || {
            if let Err(error) = theirs.write_to(open, tell_left_out) {
                let mut state = theirs.lock();
                state.failure = Some(error);
                (state.pieces, state.bytes) = (VecDeque::new(), 0);
                theirs.changed.notify_all();
            }
        })?;
        Ok(Self(shared))
    }

    /// Adds a piece. Returns whether it found room; one that did not is counted.
    pub fn push(&self, piece: impl Into<Vec<u8>>) -> bool {
        self.add(piece.into(), None)
    }

    /// Adds a piece behind those that `other` has by now, so that a terminal shows both in their order. Where `other` is stuck, its
    /// order is given up after a tenth of a second.
    pub fn push_behind(&self, other: &Self, piece: impl Into<Vec<u8>>) -> bool {
        let taken = other.0.lock().taken;
        self.add(piece.into(), Some((other.clone(), taken)))
    }

    fn add(&self, piece: Vec<u8>, behind: Option<(Self, u64)>) -> bool {
        let mut state = self.0.lock();
        if state.failure.is_some() {
            return false;
        }
        // a piece larger than the bound is written alone
        if state.bytes > 0 && state.bytes + piece.len() > self.0.most_bytes {
            state.left_out += 1;
            state.all_left_out += 1;
            return false;
        }
        state.bytes += piece.len();
        state.taken += 1;
        state.pieces.push_back(Piece { bytes: piece, behind });
        self.0.changed.notify_all();
        true
    }

    /// Ends the writer when it has written what waits.
    pub fn close(&self) {
        self.0.lock().is_closed = true;
        self.0.changed.notify_all();
    }

    /// Returns whether nothing waits to be written.
    pub fn is_empty(&self) -> bool {
        self.0.lock().bytes == 0
    }

    /// Returns whether half of the room is free: what asks for much output may go on.
    pub fn has_room(&self) -> bool {
        self.0.lock().bytes < self.0.most_bytes / 2
    }

    /// Returns whether the stream has failed: nobody reads any more.
    pub fn has_failed(&self) -> bool {
        self.0.lock().failure.is_some()
    }

    /// Takes the failure of the stream, once.
    pub fn failure(&self) -> Option<String> {
        let mut state = self.0.lock();
        let failure = state.failure.as_ref()?.to_string();
        let was_told = std::mem::replace(&mut state.is_failure_told, true);
        (!was_told).then_some(failure)
    }

    /// Waits until everything is written, at most `limit`.
    pub fn flush(&self, limit: Duration) -> Delivery {
        match *self.0.wait(limit, |state| state.bytes == 0) {
            State { failure: Some(_), .. } => Delivery::Failed,
            State { bytes: 0, all_left_out: 0, .. } => Delivery::Whole,
            State { bytes, all_left_out, .. } => {
                Delivery::Partial { left_out: all_left_out, waiting_bytes: bytes }
            }
        }
    }
}

impl Shared {
    /// The state is whole between any two statements, so a panic elsewhere spoils nothing.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the state is as it should be, the stream has failed, or `limit` has passed.
    fn wait(&self, limit: Duration, is_met: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let deadline = Instant::now() + limit;
        let mut state = self.lock();
        loop {
            let rest = deadline.saturating_duration_since(Instant::now());
            if is_met(&state) || state.failure.is_some() || rest.is_zero() {
                return state;
            }
            (state, _) = self.changed.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn write_to<W: Write>(
        &self,
        open: impl FnOnce() -> io::Result<W>,
        tell_left_out: fn(u64) -> Option<String>,
    ) -> io::Result<()> {
        let mut stream = open()?;
        // what the other stream had written when it was last waited for in vain
        let mut stuck_at = None;
        loop {
            let Some((Piece { bytes, behind }, left_out)) = self.next() else { return Ok(()) };
            if let Some((other, count)) = behind {
                let is_met = |state: &State| state.written >= count || stuck_at == Some(state.written);
                let other = other.0.wait(ORDER_LIMIT, is_met);
                // one that moves on is waited for again
                stuck_at = (other.written < count).then_some(other.written);
            }
            if let Some(word) = Some(left_out).filter(|&count| count > 0).and_then(tell_left_out) {
                stream.write_all(word.as_bytes())?;
            }
            stream.write_all(&bytes)?;
            stream.flush()?;
            let mut state = self.lock();
            state.bytes -= bytes.len();
            state.written += 1;
            self.changed.notify_all();
        }
    }

    /// Waits for the next piece, and takes the count of those that were left out before it; `None` when nothing comes any more.
    fn next(&self) -> Option<(Piece, u64)> {
        let mut state = self.lock();
        loop {
            if let Some(piece) = state.pieces.pop_front() {
                return Some((piece, std::mem::take(&mut state.left_out)));
            }
            if state.is_closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    const LONG: Duration = Duration::from_secs(30);

    /// A stream that takes a piece when it is told to.
    struct Gated(Receiver<()>, Sender<Vec<u8>>);

    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            self.1.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gated() -> (Outlet, Sender<()>, Receiver<Vec<u8>>) {
        let (gate, opened) = channel();
        let (written, seen) = channel();
        let outlet = Outlet::to(
            MOST_BYTES,
            move || Ok(Gated(opened, written)),
            |count| Some(format!("{count} left out\n")),
        );
        (outlet.expect("a thread"), gate, seen)
    }

    #[test]
    fn what_nobody_takes_is_bounded_counted_and_told_of() {
        let (outlet, gate, seen) = gated();
        let piece = vec![b'x'; 1 << 20];
        let taken = (0..10).filter(|_| outlet.push(piece.clone())).count();
        assert_eq!(taken, 4);
        assert!(!outlet.has_room());
        assert_eq!(outlet.flush(Duration::ZERO), Delivery::Partial { left_out: 6, waiting_bytes: 4 << 20 });
        (0..9).for_each(|_| gate.send(()).expect("the writer"));
        assert!(matches!(outlet.flush(LONG), Delivery::Partial { left_out: 6, waiting_bytes: 0 }));
        let lens: Vec<usize> = seen.try_iter().map(|bytes| bytes.len()).collect();
        assert_eq!(lens.iter().filter(|&&len| len == 1 << 20).count(), 4);
        assert_eq!(lens.iter().filter(|&&len| len == "6 left out\n".len()).count(), 1);
        assert!(outlet.push("more") && outlet.has_room());
    }

    #[test]
    fn a_stream_that_fails_takes_nothing_more_and_says_so_once() {
        let (outlet, gate, seen) = gated();
        drop((gate, seen));
        assert!(outlet.push("lost"));
        assert_eq!(outlet.flush(LONG), Delivery::Failed);
        assert!(outlet.failure().is_some_and(|failure| failure.contains("broken pipe")));
        assert!(outlet.failure().is_none() && !outlet.push("more"));
    }

    #[test]
    fn a_stream_that_cannot_be_opened_fails_and_one_that_hangs_is_waited_for_no_longer_than_said() {
        let outlet = Outlet::to(MOST_BYTES, || Err::<Vec<u8>, _>(io::ErrorKind::NotFound.into()), |_| None);
        let outlet = outlet.expect("a thread");
        outlet.push("lost");
        assert_eq!(outlet.flush(LONG), Delivery::Failed);
        let (_never, opened) = channel::<()>();
        let outlet = Outlet::to(
            MOST_BYTES,
            move || opened.recv().map(|()| Vec::new()).map_err(|_| io::ErrorKind::NotFound.into()),
            |_| None,
        );
        let outlet = outlet.expect("a thread");
        outlet.push("waits");
        let delivery = outlet.flush(Duration::from_millis(1));
        assert_eq!(delivery, Delivery::Partial { left_out: 0, waiting_bytes: 5 });
    }
}
