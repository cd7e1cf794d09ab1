//! This process: who runs it, and its end without ceremony; the names of users and groups.
//! # Source
//! getuid(2), _exit(2), capget(2), getpwuid_r(3), getgrgid_r(3).

use std::ffi::{CStr, c_char, c_int};
use std::mem::MaybeUninit;

use rustix::thread::CapabilitySet;

/// Returns the number of the user who runs this process.
pub fn own_uid() -> u32 {
    rustix::process::getuid().as_raw()
}

/// A right that the kernel asks for (capabilities(7)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Right {
    /// `CAP_NET_RAW`: packet sockets.
    NetRaw,
    /// `CAP_NET_ADMIN`: interfaces are made and set.
    NetAdmin,
}

/// Returns whether the calling thread has a right; also where the kernel does not say.
pub fn has_right(right: Right) -> bool {
    let right = match right {
        Right::NetRaw => CapabilitySet::NET_RAW,
        Right::NetAdmin => CapabilitySet::NET_ADMIN,
    };
    rustix::thread::capabilities(None).map_or(true, |sets| sets.effective.contains(right))
}

/// Ends the process at once: no destructor runs, no lock is waited for. For a process whose threads are stuck.
pub fn end_at_once(status: u8) -> ! {
    // SAFETY: _exit(2) takes any number and touches no memory of this process.
    unsafe { libc::_exit(i32::from(status)) }
}

/// Returns the name of a user, or his number where he has none.
pub fn user_name(uid: u32) -> String {
    let name = name_of(
        |entry: *mut libc::passwd, buffer, len, found| {
            // SAFETY: `entry`, the `len` bytes at `buffer` and `found` are valid for writing, as `name_of` makes them.
            unsafe { libc::getpwuid_r(uid, entry, buffer, len, found) }
        },
        |entry| entry.pw_name,
    );
    name.unwrap_or_else(|| uid.to_string())
}

/// Returns the name of a group, or its number where it has none.
pub fn group_name(gid: u32) -> String {
    let name = name_of(
        |entry: *mut libc::group, buffer, len, found| {
            // SAFETY: as above.
            unsafe { libc::getgrgid_r(gid, entry, buffer, len, found) }
        },
        |entry| entry.gr_name,
    );
    name.unwrap_or_else(|| gid.to_string())
}

/// Asks for an entry of a database, with a buffer that grows until the entry has room.
fn name_of<T>(
    ask: impl Fn(*mut T, *mut c_char, usize, *mut *mut T) -> c_int,
    name: impl Fn(&T) -> *mut c_char,
) -> Option<String> {
    let mut buffer: Vec<c_char> = vec![0; 1024];
    loop {
        let mut entry = MaybeUninit::uninit();
        let mut found = std::ptr::null_mut();
        match ask(entry.as_mut_ptr(), buffer.as_mut_ptr(), buffer.len(), &raw mut found) {
            libc::ERANGE if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 2, 0),
            0 if !found.is_null() => {
                // SAFETY: the call has found an entry, so it has filled `entry`.
                let entry = unsafe { entry.assume_init_ref() };
                // SAFETY: the entry's name is a string that ends with NUL, in `buffer`, which still lives.
                let name = unsafe { CStr::from_ptr(name(entry)) };
                return Some(name.to_string_lossy().into_owned());
            }
            _ => return None,
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
    }
}
