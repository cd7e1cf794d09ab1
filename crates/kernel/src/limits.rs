//! The limits that the kernel sets to this process: memory, open files, and the size of files.
//!
//! They are asked before EAL is started. When EAL runs out of something it aborts, or its message is about something else.
//! # Source
//! proc(5), getrlimit(2), cgroups(7); Linux, Documentation/admin-guide/cgroup-v2.rst (memory.max, memory.current, memory.stat) and
//! cgroup-v1/memory.rst (memory.limit_in_bytes, memory.usage_in_bytes; memory.stat's `total_` is of the whole subtree).

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// Memory that this process can have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Available {
    pub mib: u64,
    /// The control group's file whose limit it is; `None`: it is all that the machine has.
    pub limit: Option<PathBuf>,
}

impl fmt::Display for Available {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} available", self.mib)?;
        match &self.limit {
            Some(limit) => write!(f, " under the limit of {}", limit.display()),
            None => Ok(()),
        }
    }
}

/// Memory that the kernel can give without swapping and without ending somebody for it; `None` where it does not say.
pub fn available_memory() -> Option<Available> {
    available_under(Path::new("/"))
}

/// As [`available_memory`], of a machine whose files are below `root`.
pub fn available_under(root: &Path) -> Option<Available> {
    let machine = mem_available(root).map(|mib| Available { mib, limit: None });
    let groups = Hierarchy::all(root).into_iter().flat_map(|hierarchy| hierarchy.available());
    machine.into_iter().chain(groups).min_by_key(|available| available.mib)
}

fn mem_available(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let kib =
        text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?.trim().strip_suffix(" kB")?;
    Some(kib.parse::<u64>().ok()? / 1024)
}

/// Control groups that bound memory, from this process's own up to the one at the mount point.
struct Hierarchy {
    files: &'static Files,
    groups: Vec<PathBuf>,
}

/// How a version of control groups names things.
struct Files {
    limit: &'static str,
    usage: &'static str,
    /// In memory.stat: bytes of files that the kernel drops when it needs the memory.
    cached: [&'static str; 2],
}

const V1: Files = Files {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    cached: ["total_inactive_file", "total_active_file"],
};
const V2: Files =
    Files { limit: "memory.max", usage: "memory.current", cached: ["inactive_file", "active_file"] };

impl Hierarchy {
    /// A machine may have both versions mounted, and memory in one of them.
    fn all(root: &Path) -> Vec<Self> {
        let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        let (own, mounts) = (read("proc/self/cgroup"), read("proc/self/mountinfo"));
        let of_line = |line: &str| {
            let mut parts = line.splitn(3, ':');
            let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            let files = match controllers {
                "" => &V2,
                _ if controllers.split(',').any(|controller| controller == "memory") => &V1,
                _ => return None,
            };
            let (mounted, point) =
                mounts.lines().find_map(|line| mount_of(line, std::ptr::eq(files, &V2)))?;
            // of a group outside of what is mounted here, as in a container, only that is seen
            let below = Path::new(path).strip_prefix(mounted).unwrap_or(Path::new(""));
            let point = root.join(point.trim_start_matches('/'));
            let mut groups: Vec<PathBuf> = below.ancestors().map(|group| point.join(group)).collect();
            groups.retain(|group| !group.components().any(|part| part.as_os_str() == ".."));
            Some(Self { files, groups })
        };
        own.lines().filter_map(of_line).collect()
    }

    fn available(&self) -> Vec<Available> {
        self.groups.iter().filter_map(|group| self.files.available(group)).collect()
    }
}

/// Which group is mounted where, if a line of mountinfo is the mount that is looked for.
fn mount_of(line: &str, is_v2: bool) -> Option<(&str, &str)> {
    let (place, kind) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let (mounted, point) = (place.next()?, place.next()?);
    let mut kind = kind.split(' ');
    let (kind, options) = (kind.next()?, kind.nth(1)?);
    let is_wanted = match kind {
        "cgroup2" => is_v2,
        "cgroup" => !is_v2 && options.split(',').any(|option| option == "memory"),
        _ => false,
    };
    is_wanted.then_some((mounted, point))
}

impl Files {
    fn available(&self, group: &Path) -> Option<Available> {
        let number = |name: &str| fs::read_to_string(group.join(name)).ok()?.trim().parse::<u64>().ok();
        // "max" is no number
        let (limit, usage) = (number(self.limit)?, number(self.usage)?);
        let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
        let words = stat.lines().filter_map(|line| line.split_once(' '));
        let cached = words
            .filter(|(name, _)| self.cached.contains(name))
            .filter_map(|(_, bytes)| bytes.parse::<u64>().ok());
        let held = usage.saturating_sub(cached.sum());
        Some(Available { mib: limit.saturating_sub(held) >> 20, limit: Some(group.join(self.limit)) })
    }
}

/// Files that this process has open, and may have open at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Descriptors {
    pub open: u64,
    pub most: u64,
}

impl Descriptors {
    /// Returns whether what failed may have failed for want of one: some are closed again on the way to its error.
    pub fn are_used_up(&self) -> bool {
        self.most.saturating_sub(self.open) < 4
    }

    /// `None` where the kernel does not say.
    pub fn now() -> Option<Self> {
        let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let entries = match fs::read_dir("/proc/self/fd") {
            Ok(entries) => entries,
            Err(error) if error.raw_os_error() == Some(Errno::MFILE.raw_os_error()) => {
                return Some(Self { open: most, most });
            }
            Err(_) => return None,
        };
        let names = entries.flatten().map(|entry| entry.file_name());
        // the limit is one of numbers: those above it are inherited, and take nobody's place
        let numbers =
            names.filter_map(|name| name.to_str()?.parse::<u64>().ok()).filter(|&number| number < most);
        // one of them is the folder that is being read
        Some(Self { open: (numbers.count() as u64).saturating_sub(1), most })
    }
}

impl fmt::Display for Descriptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { open, most } = self;
        write!(
            f,
            "open files: {most} are allowed, and {open} are open; allow more: ulimit -n {}",
            most.max(&512) * 2
        )
    }
}

/// Makes a write beyond the limit of a file's size (`ulimit -f`) fail as one on a full disk does: the kernel's own answer is to end
/// the process by a signal.
/// # Source
/// setrlimit(2), RLIMIT_FSIZE.
pub fn let_writes_fail() {
    // SAFETY: SIGXFSZ may be ignored (signal(7)), and a signal that is ignored runs no code.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A machine of 1000 MiB with these files.
    fn machine(files: &[(&str, String)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder for the test");
        let write = |path: &str, content: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a writable folder");
            fs::write(path, content).expect("a writable folder");
        };
        write("proc/meminfo", "MemTotal:        2048000 kB\nMemAvailable:    1024000 kB\n");
        files.iter().for_each(|(path, content)| write(path, content));
        root
    }

    fn available(files: &[(&str, String)]) -> (u64, Option<String>) {
        let root = machine(files);
        let available = available_under(root.path()).expect("the kernel says");
        let limit = available
            .limit
            .map(|path| path.strip_prefix(root.path()).expect("below the root").display().to_string());
        (available.mib, limit)
    }

    #[test]
    fn without_control_groups_the_machine_has_what_it_says() {
        assert_eq!(available(&[]), (1000, None));
    }

    #[test]
    fn the_tightest_group_of_version_2_on_the_way_up_counts_without_what_it_caches() {
        let files = |inner: &str, outer: &str| {
            [
                ("proc/self/cgroup", "0::/a.slice/b.scope\n".to_owned()),
                (
                    "proc/self/mountinfo",
                    "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n".to_owned(),
                ),
                ("sys/fs/cgroup/a.slice/b.scope/memory.max", format!("{inner}\n")),
                ("sys/fs/cgroup/a.slice/b.scope/memory.current", format!("{}\n", 100 * MIB)),
                (
                    "sys/fs/cgroup/a.slice/b.scope/memory.stat",
                    format!("anon {}\ninactive_file {}\nactive_file {}\n", MIB, 30 * MIB, 20 * MIB),
                ),
                ("sys/fs/cgroup/a.slice/memory.max", format!("{outer}\n")),
                ("sys/fs/cgroup/a.slice/memory.current", format!("{}\n", 120 * MIB)),
            ]
        };
        let inner = "sys/fs/cgroup/a.slice/b.scope/memory.max".to_owned();
        assert_eq!(available(&files(&(150 * MIB).to_string(), "max")), (100, Some(inner.clone())));
        assert_eq!(
            available(&files(&(150 * MIB).to_string(), &(900 * MIB).to_string())),
            (100, Some(inner))
        );
        let outer = Some("sys/fs/cgroup/a.slice/memory.max".to_owned());
        assert_eq!(available(&files("max", &(140 * MIB).to_string())), (20, outer.clone()));
        // a limit that was lowered below what is used leaves nothing
        assert_eq!(available(&files("max", &(90 * MIB).to_string())), (0, outer));
        assert_eq!(available(&files("max", "max")), (1000, None));
    }

    #[test]
    fn a_container_of_version_1_sees_its_own_group_at_the_mount_point() {
        let files = |own: &str, mounted: &str| {
            [
                ("proc/self/cgroup", format!("5:cpu,cpuacct:/x\n4:memory:{own}\n0::/\n")),
                (
                    "proc/self/mountinfo",
                    format!(
                        "31 23 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n40 23 0:29 {mounted} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
                    ),
                ),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", format!("{}\n", 150 * MIB)),
                ("sys/fs/cgroup/memory/memory.usage_in_bytes", format!("{}\n", 60 * MIB)),
                ("sys/fs/cgroup/memory/memory.stat", format!("total_inactive_file {}\n", 10 * MIB)),
                ("sys/fs/cgroup/memory/deep/memory.limit_in_bytes", "9223372036854771712\n".to_owned()),
                ("sys/fs/cgroup/memory/deep/memory.usage_in_bytes", "0\n".to_owned()),
            ]
        };
        let limit = Some("sys/fs/cgroup/memory/memory.limit_in_bytes".to_owned());
        for (own, mounted) in [
            ("/docker/1f", "/docker/1f"),
            ("/deep", "/"),
            ("/", "/"),
            ("/../../1f", "/"),
            ("/1f", "/docker/1f"),
        ] {
            assert_eq!(available(&files(own, mounted)), (100, limit.clone()), "{own} of {mounted}");
        }
    }

    #[test]
    fn open_files_are_counted_as_they_come() {
        let before = Descriptors::now().expect("procfs");
        // other tests of this process open files too
        let files: Vec<fs::File> =
            (0..200).map(|_| fs::File::open("/proc/self/stat").expect("procfs")).collect();
        let after = Descriptors::now().expect("procfs");
        assert!(
            after.open >= before.open.saturating_sub(100) + files.len() as u64 && after.most == before.most
        );
    }
}
