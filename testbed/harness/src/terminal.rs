//! Types at a terminal: a program on a pseudo terminal that Python's `pty` module makes, and what it has shown there.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Ctrl-C, as a terminal sends it.
pub const CTRL_C: &str = "\x03";
/// Ctrl-D.
pub const CTRL_D: &str = "\x04";
/// Ctrl-U: the line is erased up to the cursor.
pub const CTRL_U: &str = "\x15";
/// The key with an arrow up.
pub const UP: &str = "\x1b[A";
/// The key with an arrow to the left.
pub const LEFT: &str = "\x1b[D";

/// Runs its arguments on a pseudo terminal of 80 columns, and passes on what is typed and shown.
const SPAWN: &str = "
import fcntl, os, pty, struct, sys, termios
def read(fd):
    return os.read(fd, 65536)
def shown(fd):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 80, 0, 0))
    return read(fd)
status = pty.spawn(sys.argv[1:], shown, read)
sys.exit(os.waitstatus_to_exitcode(status))
";

/// Something that is expected takes no longer than this.
const LONGEST: Duration = Duration::from_secs(90);

/// A program on a terminal.
pub struct Terminal {
    child: Child,
    keys: ChildStdin,
    shown: Arc<Mutex<Vec<u8>>>,
    /// What was waited for up to here has been seen.
    seen: usize,
}

impl Terminal {
    /// Starts a command on a terminal of its own.
    pub fn start(command: &Command) -> Self {
        let mut python = Command::new("python3");
        python.args(["-c", SPAWN]).arg(command.get_program()).args(command.get_args());
        python.env("TERM", "xterm").stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(folder) = command.get_current_dir() {
            python.current_dir(folder);
        }
        python.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut child = python.spawn().expect("python3");
        let keys = child.stdin.take().expect("a pipe");
        let mut output = child.stdout.take().expect("a pipe");
        let shown = Arc::new(Mutex::new(Vec::new()));
        let theirs = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                theirs.lock().unwrap_or_else(PoisonError::into_inner).extend(&bytes[..count]);
            }
        });
        Self { child, keys, shown, seen: 0 }
    }

    /// Presses keys.
    pub fn keys(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("an open pipe");
        self.keys.flush().expect("an open pipe");
    }

    /// All that was shown so far, with its control sequences.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// Waits until `text` is shown behind what was waited for before.
    pub fn until(&mut self, text: &str) {
        let begun = Instant::now();
        loop {
            let shown = self.shown();
            if let Some(at) = shown[self.seen..].find(text) {
                self.seen += at + text.len();
                return;
            }
            assert!(begun.elapsed() < LONGEST, "{text:?} is not shown but:\n{shown:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Presses keys, and waits until `text` is shown.
    pub fn type_until(&mut self, keys: &str, text: &str) {
        self.keys(keys);
        self.until(text);
    }

    /// Waits for the end of the program: its exit status, and all that was shown.
    pub fn end(mut self) -> (Option<i32>, String) {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child of this process") {
                // the reader takes what is left in the pipe
                std::thread::sleep(Duration::from_millis(100));
                return (status.code(), self.shown());
            }
            assert!(begun.elapsed() < LONGEST, "it does not end but shows:\n{:?}", self.shown());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // the program ends with its terminal
        let _ = self.child.kill();
    }
}
