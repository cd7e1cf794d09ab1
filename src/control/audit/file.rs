//! The file of an audit log: it is appended to, each write is on the disk before it is said to be done, and whatever became of the file
//! in the meantime is told by a `gap` record.
//! # Source
//! open(2) (O_APPEND, O_NONBLOCK), fdatasync(2), flock(2), stat(2).

use std::fs::{self, File, Metadata, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::chain::{Head, MOST_LINE_BYTES, seal, sha256, unseal};

/// Only its owner may read what others did.
const MODE: u32 = 0o600;

/// An audit log that is written.
pub(super) struct AuditFile {
    path: PathBuf,
    open: Option<Open>,
    head: Head,
    /// The chain was read or begun.
    is_begun: bool,
    /// Records that could not be written, and that nobody was told of yet.
    pub lost: u64,
    /// This is what the next `gap` record tells beside those.
    gap: Map<String, Value>,
    /// The last record of the broker before, as far as that is known.
    expected: Option<Head>,
    /// The last record of the broker before, where the log does not have it, and nobody was told of that yet.
    pub missing: Option<Head>,
}

struct Open {
    file: File,
    /// Device and inode.
    target: (u64, u64),
    /// Bytes of whole records.
    len: u64,
}

impl AuditFile {
    pub(super) fn at(path: &Path) -> Self {
        let (path, gap) = (path.to_owned(), Map::new());
        let head = Head::default();
        Self { path, open: None, head, is_begun: false, lost: 0, gap, expected: None, missing: None }
    }

    /// The log is to have this record, or one behind it, as its last when it is opened for the first time.
    pub(super) fn expect(&mut self, head: Option<Head>) {
        self.expected = head;
    }

    pub(super) fn head(&self) -> &Head {
        &self.head
    }

    /// Appends records; `common` are the members of a `gap` record, where one has to be written before them. They are on the disk
    /// afterwards.
    ///
    /// # Errors
    /// Not all of them are: as if none was.
    pub(super) fn append(
        &mut self,
        common: impl Fn() -> Map<String, Value>,
        records: Vec<Map<String, Value>>,
    ) -> io::Result<()> {
        let count = records.len() as u64;
        let written = self.look().and_then(|()| self.write(common, records));
        if written.is_err() {
            self.lost += count;
        }
        written
    }

    fn write(
        &mut self,
        common: impl Fn() -> Map<String, Value>,
        records: Vec<Map<String, Value>>,
    ) -> io::Result<()> {
        let Some(open) = &mut self.open else { return Err(io::ErrorKind::NotFound.into()) };
        let mut head = self.head.clone();
        let mut text = String::new();
        if self.lost > 0 || !self.gap.is_empty() {
            let mut members = common();
            members.insert("kind".to_owned(), json!("gap"));
            let reason = self.gap.get("reason").cloned().unwrap_or(json!("the log could not be written"));
            members.insert("reason".to_owned(), reason);
            members.insert("lost".to_owned(), json!(self.lost));
            members.extend(
                self.gap.iter().filter(|(key, _)| *key != "reason").map(|(k, v)| (k.clone(), v.clone())),
            );
            text += &seal(members, &mut head);
        }
        for record in records {
            text += &seal(record, &mut head);
        }
        let written = open.file.write_all(text.as_bytes()).and_then(|()| open.file.sync_data());
        if let Err(error) = written {
            // half a record is none; where it cannot be taken away, it is found when the file is read again
            let is_mended = open.file.set_len(open.len).and_then(|()| open.file.sync_data()).is_ok();
            if !is_mended {
                self.open = None;
                self.is_begun = false;
            }
            return Err(error);
        }
        open.len += text.len() as u64;
        (self.head, self.lost) = (head, 0);
        self.gap = Map::new();
        Ok(())
    }

    /// Makes sure that what is open is what the path leads to.
    fn look(&mut self) -> io::Result<()> {
        if let Some(open) = &self.open {
            let own = open.file.metadata()?;
            let is_there = fs::metadata(&self.path).is_ok_and(|there| target(&there) == open.target);
            let reason = if own.nlink() == 0 {
                Some("the file was deleted")
            } else if !is_there {
                Some("the file was moved")
            } else if own.len() < open.len {
                Some("the file was cut")
            } else if own.len() > open.len {
                Some("something else has written to the file")
            } else {
                None
            };
            let Some(reason) = reason else { return Ok(()) };
            self.open = None;
            self.tell(reason);
        }
        self.reopen()
    }

    /// Looks for the last record of the broker before. If it is not in the file, the chain goes on from that record all the same:
    /// verification finds the hole, too.
    fn look_for_expected(&mut self, heads: &[Head]) {
        if self.is_begun {
            return;
        }
        if let Some(expected) = self.expected.take().filter(|expected| !has(heads, expected)) {
            self.tell("the log does not have its last record: its end was cut, or the file was moved");
            self.gap.insert("record".to_owned(), json!(expected.to_string()));
            self.head = expected.clone();
            self.missing = Some(expected);
            self.is_begun = true;
        }
    }

    fn tell(&mut self, reason: &str) {
        self.gap.entry("reason").or_insert_with(|| json!(reason));
    }

    fn reopen(&mut self) -> io::Result<()> {
        let mut file = File::options()
            .read(true)
            .append(true)
            .create(true)
            .mode(MODE)
            // a pipe that nobody reads is not waited for
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(&self.path)?;
        let there = file.metadata()?;
        if !there.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(io::Error::other("another process writes to it")),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let Tail { mut heads, mut rest, len } = read_tail(&mut file, there.len())?;
        if len == 0 {
            // a file is there after a crash if its folder is on the disk
            let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        }
        let mut len = len;
        if !rest.is_empty() {
            file.write_all(b"\n")?;
            len += 1;
        }
        // of a whole record the end of the line alone may be missing
        if let Some(record) = unseal(&rest).filter(|record| record.is_whole) {
            heads.insert(0, record.head);
            rest.clear();
        }
        if !rest.is_empty() {
            self.tell("a record was not written to its end");
            self.gap.insert("torn_bytes".to_owned(), json!(rest.len()));
            self.gap.insert("torn_sha256".to_owned(), json!(sha256(&[&rest])));
        }
        self.look_for_expected(&heads);
        match heads.into_iter().next() {
            // the chain of this file goes on; one that was begun goes on wherever it is written
            Some(head) if !self.is_begun => self.head = head,
            None if !self.is_begun && len > 0 && rest.is_empty() => self.tell("the file had no record"),
            Some(head) if self.is_begun && head != self.head => {
                self.tell("the file was replaced");
            }
            _ => {}
        }
        self.is_begun = true;
        self.open = Some(Open { file, target: target(&there), len });
        Ok(())
    }
}

/// Returns whether a log whose last records are `heads`, the newest first, has one.
fn has(heads: &[Head], expected: &Head) -> bool {
    let is_before = heads.last().is_some_and(|oldest| oldest.seq > expected.seq);
    is_before || heads.contains(expected)
}

fn target(there: &Metadata) -> (u64, u64) {
    (there.dev(), there.ino())
}

/// The end of a log.
struct Tail {
    /// Whole records, the newest first.
    heads: Vec<Head>,
    /// This is what stands behind the last end of a line.
    rest: Vec<u8>,
    len: u64,
}

fn read_tail(file: &mut File, len: u64) -> io::Result<Tail> {
    // a torn line and a whole record before it
    let most = 4 * MOST_LINE_BYTES as u64;
    file.seek(SeekFrom::Start(len.saturating_sub(most)))?;
    let mut bytes = Vec::new();
    Read::by_ref(file).take(most).read_to_end(&mut bytes)?;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let rest = bytes.split_off(whole);
    let records = bytes.split(|byte| *byte == b'\n').rev();
    let whole = records.filter_map(unseal).filter(|record| record.is_whole);
    Ok(Tail { heads: whole.map(|record| record.head).collect(), rest, len })
}

#[cfg(test)]
mod tests {
    use super::super::chain::{Bad, Verifier};
    use super::*;

    fn record(command: &str) -> Map<String, Value> {
        Map::from_iter([("kind".to_owned(), json!("change")), ("command".to_owned(), json!(command))])
    }

    fn write(log: &mut AuditFile, command: &str) -> io::Result<()> {
        log.append(Map::new, vec![record(command)])
    }

    /// The records and the gaps of files, oldest first.
    fn verify(files: &[&Path]) -> Result<(u64, Vec<String>), Bad> {
        let mut verifier = Verifier::new(None);
        for path in files {
            let text = fs::read(path).expect("a file");
            verifier.file(&path.display().to_string(), &*text).expect("memory")?;
        }
        let last = verifier.end()?.map_or(0, |(_, head)| head.seq);
        Ok((last, verifier.gaps.into_iter().map(|(_, what)| what).collect()))
    }

    #[test]
    fn the_chain_goes_on_over_restarts_and_rotation() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, older) = (folder.path().join("audit.jsonl"), folder.path().join("audit.jsonl.1"));
        let mut log = AuditFile::at(&path);
        for n in 0..3 {
            write(&mut log, &n.to_string()).expect("a record");
        }
        assert_eq!(fs::metadata(&path).expect("a file").mode() & 0o777, 0o600);
        let second = write(&mut AuditFile::at(&path), "x").expect_err("a second writer");
        assert!(second.to_string().contains("another process writes"), "{second}");
        drop(log);
        let mut log = AuditFile::at(&path);
        write(&mut log, "after a restart").expect("a record");
        assert_eq!(verify(&[&path]), Ok((4, Vec::new())));
        fs::rename(&path, &older).expect("a rotation");
        write(&mut log, "after a rotation").expect("a record");
        let gap = "the file was moved; records lost: 0".to_owned();
        assert_eq!(verify(&[&older, &path]), Ok((6, vec![gap])));
        assert!(verify(&[&path, &older]).is_err());
    }

    #[test]
    fn a_file_that_was_deleted_cut_or_replaced_is_told_of() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.jsonl");
        let mut log = AuditFile::at(&path);
        write(&mut log, "1").expect("a record");
        write(&mut log, "2").expect("a record");
        fs::remove_file(&path).expect("a file");
        write(&mut log, "3").expect("a record");
        assert_eq!(verify(&[&path]), Ok((4, vec!["the file was deleted; records lost: 0".to_owned()])));
        // with the last record gone, the gap that follows does not fit what is left
        let text = fs::read_to_string(&path).expect("a file");
        let cut = text.lines().next().expect("a line").len() as u64 + 1;
        File::options().write(true).open(&path).expect("a file").set_len(cut).expect("it is cut");
        write(&mut log, "4").expect("a record");
        assert_eq!(verify(&[&path]).expect_err("a cut").line, Some(2));
        // another log in its place
        let other = folder.path().join("other");
        write(&mut AuditFile::at(&other), "forged").expect("a record");
        fs::rename(&other, &path).expect("a file");
        write(&mut log, "5").expect("a record");
        assert_eq!(verify(&[&path]).expect_err("another log").line, Some(2));
    }

    #[test]
    fn a_log_without_the_record_that_was_its_last_is_told_of() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.jsonl");
        let mut log = AuditFile::at(&path);
        for n in 0..5 {
            write(&mut log, &n.to_string()).expect("a record");
        }
        let (last, whole) = (log.head().clone(), fs::read_to_string(&path).expect("a file"));
        drop(log);
        let lines: Vec<&str> = whole.split_inclusive('\n').collect();
        let first = unseal(lines[0].trim_end().as_bytes()).expect("a record").head;
        // the last record may be behind the one that is known: it was written, and the broker ended
        for (left, expected, is_missing) in
            [(5, &last, false), (5, &first, false), (4, &last, true), (1, &last, true), (0, &last, true)]
        {
            fs::write(&path, lines[..left].concat()).expect("a file");
            let mut log = AuditFile::at(&path);
            log.expect(Some(expected.clone()));
            write(&mut log, "after").expect("a record");
            assert_eq!(log.missing.take().as_ref(), is_missing.then_some(expected), "{left}");
            write(&mut log, "later").expect("a record");
            assert!(log.missing.is_none());
            let found = verify(&[&path]);
            match (is_missing, left) {
                (false, _) => assert_eq!(found, Ok((7, Vec::new()))),
                // a chain that begins later is that of a file that was rotated
                (true, 0) => assert_eq!(found.map(|(last, gaps)| (last, gaps.len())), Ok((8, 1))),
                (true, _) => assert_eq!(found.expect_err("a hole").line, Some(left as u64 + 1)),
            }
        }
    }

    #[test]
    fn a_torn_last_line_is_told_of_wherever_it_was_torn() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.jsonl");
        let mut log = AuditFile::at(&path);
        write(&mut log, "1").expect("a record");
        let first = fs::metadata(&path).expect("a file").len();
        write(&mut log, "2").expect("a record");
        drop(log);
        let whole = fs::read(&path).expect("a file");
        for len in usize::try_from(first).expect("small")..whole.len() {
            fs::write(&path, &whole[..len]).expect("a file");
            let mut log = AuditFile::at(&path);
            write(&mut log, "3").expect("a record");
            write(&mut log, "4").expect("a record");
            // the end of the line alone was missing
            if len == whole.len() - 1 {
                assert_eq!(verify(&[&path]), Ok((4, Vec::new())));
                continue;
            }
            let is_torn = len as u64 > first;
            let gaps =
                vec!["a record was not written to its end; records lost: 0".to_owned(); is_torn.into()];
            assert_eq!(verify(&[&path]), Ok((3 + u64::from(is_torn), gaps)), "{len}");
        }
    }

    #[test]
    fn what_cannot_be_written_is_counted() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("missing/audit.jsonl");
        let mut log = AuditFile::at(&path);
        assert!(write(&mut log, "1").is_err() && write(&mut log, "2").is_err());
        fs::create_dir(folder.path().join("missing")).expect("a folder");
        write(&mut log, "3").expect("a record");
        assert_eq!(
            verify(&[&path]),
            Ok((2, vec!["the log could not be written; records lost: 2".to_owned()]))
        );
        // no pipe is waited for
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo(1)");
        assert!(made.success() && write(&mut AuditFile::at(&pipe), "1").is_err());
    }
}
