//! The surroundings that planning goes by besides the text: the time, time zones, random bytes, files, users and groups, and the kernel's interfaces.
//!
//! Parser and planner read none of these by themselves, so that a plan of the same text and the same surroundings is the same plan,
//! and a caller from outside reads no file by it that it may not name. The product takes [`Surroundings::system`] afresh for each plan.

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::tz::{self, TimeZone, TimeZoneDatabase};
use tapline_datapath::copies::edit::anonymize::{KEY_LEN, Key};
use tapline_dpdk::clock;
use tapline_kernel::{interface, process, storage};
use tapline_lang::files::{Files, Folder, InMemory, NoFiles, Stream, Target, Unreadable};

/// The surroundings that a plan is made in. Clones are the same surroundings.
#[derive(Clone)]
pub struct Surroundings {
    /// The time, in nanoseconds since the Unix epoch.
    pub now_ns: u64,
    pub zones: Zones,
    pub random: Random,
    pub files: Arc<dyn Files>,
    /// Gives the hardware type (`ARPHRD_…`) of the kernel's interface that has this name, if one does.
    pub hardware_type: fn(&str) -> Option<u16>,
    /// Gives the names of the kernel's interfaces; none where they are not known.
    pub interfaces: fn() -> Vec<String>,
    pub names: Names,
}

/// Finds the number of a name; `None` where there is no such name, an error where that cannot be known.
pub type FindId = fn(&str) -> std::io::Result<Option<u32>>;

/// The users and groups of a machine.
#[derive(Clone, Copy)]
pub struct Names {
    pub user: FindId,
    pub group: FindId,
    /// Gives the number of the group that this process makes files for, the control socket among them.
    pub own_group: fn() -> u32,
    pub group_name: fn(u32) -> String,
}

impl Surroundings {
    /// Those of this machine at this moment; all its files may be named.
    pub fn system() -> Self {
        Self {
            now_ns: clock::now_ns(),
            zones: Zones { local: TimeZone::system(), named: tz::db().clone() },
            random: Random::drawn(),
            files: Arc::new(System),
            hardware_type: interface::hardware_type,
            interfaces: interface::names,
            names: Names {
                user: process::user_id,
                group: process::group_id,
                own_group: process::own_gid,
                group_name: process::group_name,
            },
        }
    }

    /// The same on every machine and at any time, with no file, no interface and no user but root: 2026-01-01 in UTC. Its random bytes are known to
    /// everybody, so no plan of it is to run: for tests and benches.
    pub fn fixed() -> Self {
        Self {
            now_ns: 1_767_225_600_000_000_000,
            zones: Zones { local: TimeZone::UTC, named: tz::db().clone() },
            random: Random::known([0x5a; KEY_LEN]),
            files: Arc::new(InMemory::default()),
            hardware_type: |_| None,
            interfaces: Vec::new,
            names: Names {
                user: |name| Ok((name == "root").then_some(0)),
                group: |name| Ok((name == "root").then_some(0)),
                own_group: || 0,
                group_name: |id| id.to_string(),
            },
        }
    }
}

/// Time zones: that of schedules that name none, and those that have names.
#[derive(Clone)]
pub struct Zones {
    pub local: TimeZone,
    pub named: TimeZoneDatabase,
}

/// Bytes that nobody can guess, drawn once: all that a plan chooses at random is made of them.
#[derive(Clone)]
pub struct Random(Result<Key, String>);

impl Random {
    /// Draws them from the kernel's generator.
    fn drawn() -> Self {
        let drawn = File::open("/dev/urandom").and_then(Key::drawn);
        Self(drawn.map_err(|error| format!("/dev/urandom cannot be read: {error}")))
    }

    /// Bytes that are known, and so no secret.
    pub fn known(bytes: [u8; KEY_LEN]) -> Self {
        Self(Ok(Key::new(bytes)))
    }

    /// The key of `anonymize ip` where a plan names none.
    ///
    /// # Errors
    /// The reason why there are no random bytes.
    pub fn key(&self) -> Result<Key, &str> {
        match &self.0 {
            Ok(key) => Ok(key.clone()),
            Err(error) => Err(error),
        }
    }
}

// keys are shown nowhere
impl fmt::Debug for Random {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Random")
    }
}

/// The files of the system.
#[derive(Clone, Copy, Debug)]
pub struct System;

/// Links that lead to links: the kernel's limit.
const MOST_LINKS: usize = 40;

/// Opens a regular file, and waits for nothing: what a pipe has is not for us, and one that nobody writes would be waited for.
fn open_regular(path: &Path) -> Result<File, Unreadable> {
    // a pipe is not even opened: who writes to it would find a reader, and then lose it
    if fs::metadata(path)?.file_type().is_fifo() {
        return Err(Unreadable::NotRegular);
    }
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let there = file.metadata()?;
    if there.is_dir() {
        Err(Unreadable::System("is a directory".to_owned()))
    } else if there.is_file() {
        Ok(file)
    } else {
        Err(Unreadable::NotRegular)
    }
}

/// As [`Files::target`], for what is open.
pub fn target_of_open(there: &Metadata) -> Option<Target> {
    let kind = there.file_type();
    let has_bytes = kind.is_file() || kind.is_fifo() || kind.is_block_device();
    has_bytes.then(|| Target::Present { device: there.dev(), inode: there.ino() })
}

/// Returns whether nothing is there, by what the system answers.
fn is_not_found(answer: std::io::Result<Metadata>) -> bool {
    answer.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

impl Files for System {
    fn open(&self, path: &Path) -> Result<Stream, Unreadable> {
        Ok(Box::new(open_regular(path)?))
    }

    fn open_pipeline(&self, path: &Path) -> Result<Stream, Unreadable> {
        Ok(Box::new(File::open(path)?))
    }

    fn target(&self, path: &Path) -> Option<Target> {
        let mut path = path.to_owned();
        for _ in 0..MOST_LINKS {
            if let Ok(there) = fs::metadata(&path) {
                return target_of_open(&there);
            }
            let folder = folder_of(&path)?;
            if let Ok(aim) = fs::read_link(&path) {
                path = folder.join(aim);
                continue;
            }
            let there = fs::metadata(folder).ok()?;
            let name = path.file_name()?.to_owned();
            return Some(Target::Missing { device: there.dev(), inode: there.ino(), name });
        }
        None
    }

    fn is_missing(&self, path: &Path) -> bool {
        is_not_found(fs::metadata(path))
    }

    fn is_free(&self, path: &Path) -> bool {
        is_not_found(fs::symlink_metadata(path))
    }

    fn may_be_shown(&self, path: &Path) -> bool {
        let is_pipeline = || {
            let own = path.canonicalize();
            own.is_ok_and(|own| own.extension().is_some_and(|extension| extension == "pipe"))
        };
        let is_open = |there: Metadata| !there.is_file() || there.permissions().mode() & 0o004 != 0;
        is_pipeline() || path.metadata().is_ok_and(is_open)
    }

    fn folder(&self, path: &Path) -> Result<Folder, Unreadable> {
        let handle = File::options().read(true).custom_flags(libc::O_DIRECTORY).open(path)?;
        storage::check_writable(path)?;
        let there = handle.metadata()?;
        Ok(Folder {
            target: Target::Present { device: there.dev(), inode: there.ino() },
            total_bytes: storage::room(&handle).ok().map(|room| room.total_bytes),
        })
    }

    fn mode(&self, path: &Path) -> Option<u32> {
        let there = fs::metadata(path).ok().filter(Metadata::is_file)?;
        Some(there.permissions().mode() & 0o7777)
    }

    fn permit(&self, _: &Path) -> Result<(), Unreadable> {
        Ok(())
    }
}

/// The folder that a path names something in.
fn folder_of(path: &Path) -> Option<&Path> {
    Some(match path.parent()? {
        beside if beside.as_os_str().is_empty() => Path::new("."),
        folder => folder,
    })
}

/// The system's files of one folder and of those in it, by where links lead to. Of all others nothing is said, not even whether they
/// are there.
#[derive(Clone, Debug)]
pub struct Confined {
    /// Canonical.
    root: PathBuf,
}

impl Confined {
    /// Confines to the folder at `root`.
    ///
    /// # Errors
    /// There is no such folder.
    pub fn to(root: &Path) -> std::io::Result<Self> {
        let root = root.canonicalize()?;
        if root.is_dir() { Ok(Self { root }) } else { Err(std::io::ErrorKind::NotADirectory.into()) }
    }

    /// Confines to the folder in which the file at `path` is, after links.
    ///
    /// # Errors
    /// There is no such file.
    pub fn beside(path: &Path) -> std::io::Result<Self> {
        let path = path.canonicalize()?;
        Self::to(folder_of(&path).unwrap_or(Path::new("/")))
    }

    /// Gives the canonical path of what `path` leads to, or of what would be made there.
    ///
    /// # Errors
    /// It is outside.
    fn inside(&self, path: &Path) -> Result<PathBuf, Unreadable> {
        let outside = || Unreadable::Outside(self.root.clone());
        // the kernel takes no longer one
        if path.as_os_str().len() >= libc::PATH_MAX as usize {
            return Err(outside());
        }
        let mut path = path.to_owned();
        for _ in 0..MOST_LINKS {
            // a path in a folder that is not there leads out of it by `..` once somebody makes the folder
            let place = match path.canonicalize() {
                Ok(there) => there,
                Err(_) => {
                    let folder = folder_of(&path).ok_or_else(outside)?;
                    if let Ok(aim) = fs::read_link(&path) {
                        path = folder.join(aim);
                        continue;
                    }
                    let name = path.file_name().ok_or_else(outside)?;
                    match folder.canonicalize() {
                        Ok(folder) => folder.join(name),
                        Err(_) => self.inside(folder)?.join(name),
                    }
                }
            };
            return if place.starts_with(&self.root) { Ok(place) } else { Err(outside()) };
        }
        Err(outside())
    }
}

impl Files for Confined {
    fn open(&self, path: &Path) -> Result<Stream, Unreadable> {
        let file = open_regular(&self.inside(path)?)?;
        // a link that was put in the way since leads to another file than was judged
        let opened = fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file)))?;
        if opened.starts_with(&self.root) {
            Ok(Box::new(file))
        } else {
            Err(Unreadable::Outside(self.root.clone()))
        }
    }

    fn target(&self, path: &Path) -> Option<Target> {
        System.target(&self.inside(path).ok()?)
    }

    fn is_missing(&self, path: &Path) -> bool {
        self.inside(path).is_ok_and(|path| System.is_missing(&path))
    }

    fn is_free(&self, path: &Path) -> bool {
        self.inside(path).is_ok() && System.is_free(path)
    }

    fn may_be_shown(&self, path: &Path) -> bool {
        self.inside(path).is_ok_and(|path| System.may_be_shown(&path))
    }

    fn folder(&self, path: &Path) -> Result<Folder, Unreadable> {
        System.folder(&self.inside(path)?)
    }

    fn mode(&self, path: &Path) -> Option<u32> {
        System.mode(&self.inside(path).ok()?)
    }

    fn permit(&self, path: &Path) -> Result<(), Unreadable> {
        self.inside(path).map(|_| ())
    }
}

/// The files that a caller from outside may name: those of one folder, and those that a running plan names already.
#[derive(Clone, Debug)]
pub struct Lent {
    folder: Option<Confined>,
    named: Arc<HashSet<PathBuf>>,
}

impl Lent {
    /// Lends the files in `folder`, if there is one, and `named` ones, by the names that they have there.
    pub fn new(folder: Option<Confined>, named: Arc<HashSet<PathBuf>>) -> Self {
        Self { folder, named }
    }

    fn of(&self, path: &Path) -> &dyn Files {
        match &self.folder {
            _ if self.named.contains(path) => &System,
            Some(folder) => folder,
            None => &NoFiles,
        }
    }
}

impl Files for Lent {
    fn open(&self, path: &Path) -> Result<Stream, Unreadable> {
        self.of(path).open(path)
    }

    fn target(&self, path: &Path) -> Option<Target> {
        self.of(path).target(path)
    }

    fn is_missing(&self, path: &Path) -> bool {
        self.of(path).is_missing(path)
    }

    fn is_free(&self, path: &Path) -> bool {
        self.of(path).is_free(path)
    }

    fn mode(&self, path: &Path) -> Option<u32> {
        self.of(path).mode(path)
    }

    fn may_be_shown(&self, path: &Path) -> bool {
        self.of(path).may_be_shown(path)
    }

    fn folder(&self, path: &Path) -> Result<Folder, Unreadable> {
        self.of(path).folder(path)
    }

    fn permit(&self, path: &Path) -> Result<(), Unreadable> {
        self.of(path).permit(path)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn pipe_at(path: &Path) {
        let made = std::process::Command::new("mkfifo").arg(path).status().expect("mkfifo(1)");
        assert!(made.success());
    }

    #[test]
    fn a_file_is_read_up_to_its_bound_and_what_never_ends_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("list");
        fs::write(&path, [7; 100]).expect("a file");
        assert_eq!(System.read(&path, 100), Ok(vec![7; 100]));
        assert_eq!(System.read(&path, 99), Err(Unreadable::TooLong(99)));
        let zero = Path::new("/dev/zero");
        assert_eq!(System.read_pipeline(zero, 2 << 20), Err(Unreadable::TooLong(2 << 20)));
        assert_eq!(System.read(zero, 2 << 20), Err(Unreadable::NotRegular));
        let is_folder = System.read(folder.path(), 100).expect_err("a folder").to_string();
        assert_eq!(is_folder, "is a directory");
        assert_eq!(System.read(&folder.path().join("nothing"), 100), Err(Unreadable::Missing));
    }

    #[test]
    fn a_pipe_that_nobody_writes_is_not_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pipe");
        pipe_at(&path);
        let files: [&dyn Files; 2] = [&System, &Confined::to(folder.path()).expect("a folder")];
        for files in files {
            assert_eq!(files.read(&path, 100), Err(Unreadable::NotRegular));
        }
    }

    #[test]
    fn a_private_file_is_shown_by_its_own_name_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, mode: u32| {
            let path = folder.path().join(name);
            fs::write(&path, "x").expect("a file");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a file of our own");
            path
        };
        let (secret, private) = (file("shadow", 0o640), file("private.pipe", 0o600));
        let is_shown = |path: &Path| System.may_be_shown(path);
        assert!(!is_shown(&secret) && is_shown(&private) && is_shown(&file("rules.txt", 0o644)));
        let link = folder.path().join("link.pipe");
        symlink(&secret, &link).expect("a link");
        assert!(!is_shown(&link), "a link makes no pipeline file of another");
        assert!(!is_shown(&folder.path().join("nothing")));
    }

    #[test]
    fn paths_are_of_one_file_by_whatever_way_they_lead_to_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let target = |name: &str| System.target(&at(name));
        fs::create_dir(at("inner")).expect("a folder of our own");
        symlink("inner", at("way")).expect("a link");
        for (present, file) in [(true, "there"), (false, "yet")] {
            if present {
                fs::write(at(file), "x").expect("a file");
            }
            let (link, chain) = (format!("{file}-link"), format!("{file}-chain"));
            symlink(at(file), at(&link)).expect("a link");
            symlink(&link, at(&chain)).expect("a link");
            let one = target(file).expect("a file");
            assert_eq!(matches!(one, Target::Present { .. }), present);
            for way in [
                file.to_owned(),
                link,
                chain,
                format!("./{file}"),
                format!("inner/../{file}"),
                format!("way/../{file}"),
            ] {
                assert_eq!(target(&way).as_ref(), Some(&one), "{way}");
            }
            assert_ne!(target(&format!("inner/{file}")), Some(one), "of another folder");
        }
        fs::hard_link(at("there"), at("hard")).expect("a link");
        assert_eq!(target("hard"), target("there"));
        symlink("round", at("round")).expect("a link");
        for lost in ["/dev/null", "/dev/full", "/", "no/such/folder", "round"] {
            assert_eq!(target(lost), None, "{lost}");
        }
    }

    #[test]
    fn a_caller_that_is_confined_reaches_its_folder_and_nothing_else() {
        let world = tempfile::tempdir().expect("a folder");
        let at = |name: &str| world.path().join(name);
        fs::create_dir_all(at("own/inner")).expect("folders of our own");
        fs::create_dir(at("own-not")).expect("a folder of our own");
        for file in ["own/list", "own/inner/list", "own-not/list", "secret"] {
            fs::write(at(file), file).expect("a file");
        }
        symlink(at("secret"), at("own/out")).expect("a link");
        symlink("../own-not", at("own/way-out")).expect("a link");
        symlink(at("own/inner"), at("own/way-in")).expect("a link");
        symlink(at("secret-yet"), at("own/out-yet")).expect("a link");
        symlink(at("own"), at("own-link")).expect("a link");
        let files = Confined::to(&at("own-link")).expect("a folder");
        let outside = Unreadable::Outside(at("own").canonicalize().expect("a folder"));

        for file in
            ["own/list", "own/way-in/list", "own/inner/../list", "own-not/../own/list", "own-link/list"]
        {
            assert!(files.read(&at(file), 100).is_ok() && files.target(&at(file)).is_some(), "{file}");
        }
        for made in ["own/new", "own/inner/new", "own/no/such/folder"] {
            assert_eq!(files.permit(&at(made)), Ok(()), "{made}");
            assert!(files.is_free(&at(made)), "{made}");
        }
        let outer = [
            "own-not/list",
            "secret",
            "own/out",
            "own/way-out/list",
            "own/../secret",
            "own/out-yet",
            "new",
            "no/new",
        ];
        for path in outer.map(at).into_iter().chain(["/etc/shadow", "/", "", "/no/such"].map(PathBuf::from))
        {
            assert_eq!(files.permit(&path), Err(outside.clone()), "{path:?}");
            assert_eq!(files.read(&path, 100), Err(outside.clone()), "{path:?}");
            assert_eq!(files.target(&path), None, "{path:?}");
            assert!(
                !files.may_be_shown(&path) && !files.is_missing(&path) && !files.is_free(&path),
                "{path:?}"
            );
        }
        assert!(Confined::to(&at("secret")).is_err() && Confined::to(&at("nothing")).is_err());
    }
}
