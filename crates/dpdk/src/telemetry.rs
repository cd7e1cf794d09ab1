//! Commands of DPDK's telemetry socket, which `dpdk-telemetry.py` and Telegraf read.
//!
//! DPDK calls from threads of its own, one a client. What answers reads what was published, and waits for nobody.
//! # Source
//! DPDK Programmer's Guide, Telemetry Library; rte_telemetry.h.

use std::ffi::{CStr, CString, c_char, c_int};
use std::panic::catch_unwind;
use std::sync::OnceLock;

use crate::Error;

/// Entries of an answer: DPDK takes 256 numbers and 512 words, and an answer has 16 KiB.
pub const MOST_ENTRIES: usize = 250;
/// Bytes of a name or a word, with the NUL at its end (RTE_TEL_MAX_STRING_LEN).
const MOST_BYTES: usize = 128;

/// An answer; entries beyond [`MOST_ENTRIES`] are left out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    Numbers(Vec<(String, u64)>),
    Words(Vec<String>),
}

/// A command and what it is for. Both are cut by DPDK where they have 56, or 64, bytes.
pub struct Command {
    pub name: &'static CStr,
    pub help: &'static CStr,
}

/// Answers a command with what stands behind its comma; `None` where there is no such thing.
type Answerer = dyn Fn(&str, &str) -> Option<Answer> + Send + Sync;

static ANSWERER: OnceLock<Box<Answerer>> = OnceLock::new();

/// Has commands be answered, for as long as the process runs. EAL has to be started with telemetry.
///
/// # Errors
/// If DPDK refuses a command, or commands are answered already.
pub fn answer_by(
    commands: &[Command],
    answerer: impl Fn(&str, &str) -> Option<Answer> + Send + Sync + 'static,
) -> Result<(), Error> {
    const CALL: &str = "rte_telemetry_register_cmd";
    if ANSWERER.set(Box::new(answerer)).is_err() {
        return Err(Error::refused("telemetry", CALL, "commands are answered already"));
    }
    for Command { name, help } in commands {
        // SAFETY: both texts are static and end with NUL; `answer` keeps to the contract of the library's callbacks.
        let result =
            unsafe { dpdk_sys::rte_telemetry_register_cmd(name.as_ptr(), Some(answer), help.as_ptr()) };
        if result < 0 {
            return Err(Error::refused(
                "telemetry",
                CALL,
                format!("{} is refused", name.to_string_lossy()),
            ));
        }
    }
    Ok(())
}

/// Is called by DPDK for a command.
unsafe extern "C" fn answer(
    command: *const c_char,
    parameters: *const c_char,
    answer: *mut dpdk_sys::rte_tel_data,
) -> c_int {
    let text = |text: *const c_char| match text.is_null() {
        true => String::new(),
        // SAFETY: DPDK gives strings that end with NUL, and keeps them for as long as the call takes.
        false => unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned(),
    };
    let (command, parameters) = (text(command), text(parameters));
    // a panic may not leave through DPDK
    let found = catch_unwind(|| ANSWERER.get().and_then(|answerer| answerer(&command, &parameters)));
    match found.ok().flatten() {
        // SAFETY: `answer` is DPDK's, valid for as long as the call takes, and nobody else's.
        Some(Answer::Numbers(numbers)) => unsafe { give_numbers(answer, numbers) },
        // SAFETY: as above.
        Some(Answer::Words(words)) => unsafe { give_words(answer, words) },
        None => -libc::EINVAL,
    }
}

/// # Safety
/// `answer` is what DPDK gives a callback, during its call.
unsafe fn give_numbers(answer: *mut dpdk_sys::rte_tel_data, numbers: Vec<(String, u64)>) -> c_int {
    // SAFETY: as the caller says.
    unsafe { dpdk_sys::rte_tel_data_start_dict(answer) };
    for (name, number) in numbers.into_iter().take(MOST_ENTRIES) {
        let Some(name) = plain(&name, key) else { continue };
        // SAFETY: as the caller says; DPDK copies the name.
        unsafe { dpdk_sys::tl_telemetry_add(answer, name.as_ptr(), number) };
    }
    0
}

/// # Safety
/// `answer` is what DPDK gives a callback, during its call.
unsafe fn give_words(answer: *mut dpdk_sys::rte_tel_data, words: Vec<String>) -> c_int {
    // SAFETY: as the caller says.
    unsafe { dpdk_sys::rte_tel_data_start_array(answer, dpdk_sys::rte_tel_value_type_RTE_TEL_STRING_VAL) };
    for word in words.into_iter().take(MOST_ENTRIES) {
        let Some(word) = plain(&word, |letter| letter) else { continue };
        // SAFETY: as the caller says; DPDK copies the word.
        unsafe { dpdk_sys::rte_tel_data_add_array_string(answer, word.as_ptr()) };
    }
    0
}

/// A letter of a name, as DPDK takes names from 23.03 on: others become `_`.
fn key(letter: char) -> char {
    if letter.is_ascii_alphanumeric() || letter == '/' { letter } else { '_' }
}

/// Text as DPDK takes it: short, without NUL, and without what JSON would have to mark, for DPDK does not.
fn plain(text: &str, letter: fn(char) -> char) -> Option<CString> {
    let is_marked = |c: char| c == '"' || c == '\\' || c.is_control();
    let mut text: String = text.chars().map(|c| if is_marked(c) { '_' } else { letter(c) }).collect();
    while text.len() >= MOST_BYTES {
        text.pop();
    }
    CString::new(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_as_dpdk_takes_them() {
        let text = |text: &str, letter| plain(text, letter).map(|text| text.into_string().expect("text"));
        assert_eq!(text("ids-a.b/c_1", key).as_deref(), Some("ids_a_b/c_1"));
        assert_eq!(text("ids-a \"x\"\\\0", |letter| letter).as_deref(), Some("ids-a _x___"));
        assert_eq!(text(&"ä".repeat(100), |letter| letter).map(|text| text.len()), Some(126));
    }
}
