//! The name of a text of commands: its SHA-256, by which histories, receipts and the audit know a plan.
//!
//! The text is that of [`tapline_lang::text`], which has one spelling for each command: blanks, comments, variables and included files
//! make no other name.

use sha2::{Digest, Sha256};

/// Returns the SHA-256 of a text (FIPS 180-4) in 64 lower-case hexadecimal digits, as `sha256sum` prints it.
pub fn plan_hash(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_standard() {
        // NIST's examples of SHA-256: one block and two
        assert_eq!(plan_hash("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(
            plan_hash("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
        );
    }
}
