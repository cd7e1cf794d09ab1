//! This process: who runs it, its environment, and its end without ceremony; the names of users and groups.
//! # Source
//! getuid(2), _exit(2), environ(7), capget(2), getpwuid_r(3), getpwnam_r(3), getgrgid_r(3), getgrnam_r(3).

use std::ffi::{CStr, CString, OsString, c_char, c_int};
use std::io;
use std::mem::MaybeUninit;

use rustix::thread::CapabilitySet;

/// Returns the number of the user who runs this process.
pub fn own_uid() -> u32 {
    rustix::process::getuid().as_raw()
}

/// A right that the kernel asks for (capabilities(7)).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Right {
    /// `CAP_NET_RAW`: packet sockets.
    NetRaw,
    /// `CAP_NET_ADMIN`: interfaces are made and set.
    NetAdmin,
    /// `CAP_BPF`: programs of XDP are loaded. `CAP_SYS_ADMIN`, which older kernels ask for, has it too.
    Bpf,
}

impl Right {
    pub const ALL: [Right; 3] = [Right::NetRaw, Right::NetAdmin, Right::Bpf];

    /// Gives its name in capabilities(7).
    pub fn word(self) -> &'static str {
        match self {
            Right::NetRaw => "CAP_NET_RAW",
            Right::NetAdmin => "CAP_NET_ADMIN",
            Right::Bpf => "CAP_BPF",
        }
    }

    /// Gives the numbers of the capabilities that have it: one of them is enough.
    /// # Source
    /// linux/capability.h.
    pub fn bits(self) -> &'static [u32] {
        match self {
            Right::NetRaw => &[13],
            Right::NetAdmin => &[12],
            Right::Bpf => &[39, 21],
        }
    }
}

/// Returns whether the calling thread has a right; also where the kernel does not say.
pub fn has_right(right: Right) -> bool {
    let has = |effective: CapabilitySet| right.bits().iter().any(|bit| effective.bits() & 1 << bit != 0);
    rustix::thread::capabilities(None).map_or(true, |sets| has(sets.effective))
}

/// Returns the number of the group that files of this process get.
pub fn own_gid() -> u32 {
    rustix::process::getegid().as_raw()
}

/// Takes variables out of the environment, so that programs which this process starts do not have them. Where other threads run, they
/// are read and stay.
pub fn take_variables<const N: usize>(names: [&str; N]) -> [Option<OsString>; N] {
    let values = names.map(std::env::var_os);
    if std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1) {
        for name in names {
            // SAFETY: this thread is the only one of the process, as the kernel lists them, and starts none meanwhile: nobody reads or
            // writes the environment at the same time.
            unsafe { std::env::remove_var(name) };
        }
    }
    values
}

/// Returns the CPU time of all threads of this process.
pub fn cpu_time() -> std::time::Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let (seconds, ns) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    std::time::Duration::new(seconds.unwrap_or(0), ns.unwrap_or(0))
}

/// Ends the process at once: no destructor runs, no lock is waited for. For a process whose threads are stuck.
pub fn end_at_once(status: u8) -> ! {
    // SAFETY: _exit(2) takes any number and touches no memory of this process.
    unsafe { libc::_exit(i32::from(status)) }
}

/// Returns the name of a user, or his number where he has none.
pub fn user_name(uid: u32) -> String {
    let name = entry_of(
        |entry: *mut libc::passwd, buffer, len, found| {
            // SAFETY: `entry`, the `len` bytes at `buffer` and `found` are valid for writing, as `entry_of` makes them.
            unsafe { libc::getpwuid_r(uid, entry, buffer, len, found) }
        },
        // SAFETY: the name of an entry that was found is a string that ends with NUL, in a buffer that `entry_of` keeps meanwhile.
        |entry| unsafe { text_of(entry.pw_name) },
    );
    name.ok().flatten().unwrap_or_else(|| uid.to_string())
}

/// Returns the name of a group, or its number where it has none.
pub fn group_name(gid: u32) -> String {
    let name = entry_of(
        |entry: *mut libc::group, buffer, len, found| {
            // SAFETY: as above.
            unsafe { libc::getgrgid_r(gid, entry, buffer, len, found) }
        },
        // SAFETY: as above.
        |entry| unsafe { text_of(entry.gr_name) },
    );
    name.ok().flatten().unwrap_or_else(|| gid.to_string())
}

/// Returns the number of the user of this name; `None` where there is none.
///
/// # Errors
/// If the database of users cannot be asked.
pub fn user_id(name: &str) -> io::Result<Option<u32>> {
    let Ok(name) = CString::new(name) else { return Ok(None) };
    entry_of(
        |entry: *mut libc::passwd, buffer, len, found| {
            // SAFETY: `name` ends with NUL; the others are valid for writing, as `entry_of` makes them.
            unsafe { libc::getpwnam_r(name.as_ptr(), entry, buffer, len, found) }
        },
        |entry| entry.pw_uid,
    )
}

/// Returns the number of the group of this name; `None` where there is none.
///
/// # Errors
/// If the database of groups cannot be asked.
pub fn group_id(name: &str) -> io::Result<Option<u32>> {
    let Ok(name) = CString::new(name) else { return Ok(None) };
    entry_of(
        |entry: *mut libc::group, buffer, len, found| {
            // SAFETY: as above.
            unsafe { libc::getgrnam_r(name.as_ptr(), entry, buffer, len, found) }
        },
        |entry| entry.gr_gid,
    )
}

/// Copies a string.
///
/// # Safety
/// `text` points to a string that ends with NUL.
unsafe fn text_of(text: *const c_char) -> String {
    // SAFETY: as the caller says.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// Asks for an entry of a database, with a buffer that grows until the entry has room, and takes what `part` takes of it. Strings of the
/// entry live until `part` returns.
fn entry_of<T, P>(
    ask: impl Fn(*mut T, *mut c_char, usize, *mut *mut T) -> c_int,
    part: impl Fn(&T) -> P,
) -> io::Result<Option<P>> {
    let mut buffer: Vec<c_char> = vec![0; 1024];
    loop {
        let mut entry = MaybeUninit::uninit();
        let mut found = std::ptr::null_mut();
        match ask(entry.as_mut_ptr(), buffer.as_mut_ptr(), buffer.len(), &raw mut found) {
            // a group may have very many members
            libc::ERANGE if buffer.len() < 1 << 24 => buffer.resize(buffer.len() * 2, 0),
            libc::EINTR => {}
            0 if !found.is_null() => {
                // SAFETY: the call has found an entry, so it has filled `entry`.
                let entry = unsafe { entry.assume_init_ref() };
                let part = part(entry);
                drop(buffer);
                return Ok(Some(part));
            }
            // getpwnam_r(3), notes: these are how systems say that there is none
            0 | libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM => return Ok(None),
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_getent() {
        let ask = |database: &str, id: &str| {
            let output =
                std::process::Command::new("getent").args([database, id]).output().expect("getent(1)");
            String::from_utf8_lossy(&output.stdout).split(':').next().unwrap_or_default().to_owned()
        };
        assert_eq!(user_name(0), ask("passwd", "0"));
        assert_eq!(group_name(1), ask("group", "1"));
        assert_eq!(
            (user_name(3_999_999_999), group_name(3_999_999_999)),
            ("3999999999".to_owned(), "3999999999".to_owned())
        );
        let number = |database: &str, name: &str| {
            let output =
                std::process::Command::new("getent").args([database, name]).output().expect("getent(1)");
            String::from_utf8_lossy(&output.stdout).split(':').nth(2).and_then(|id| id.parse().ok())
        };
        for name in ["root", "daemon", "nobody", "nogroup", "tapline-nobody", "a\0b"] {
            let user = number("passwd", &name.replace('\0', ""));
            let group = number("group", &name.replace('\0', ""));
            assert_eq!((user_id(name).ok(), group_id(name).ok()), (Some(user), Some(group)), "{name}");
        }
        assert_eq!(user_id("root").ok(), Some(Some(0)));
    }
}
