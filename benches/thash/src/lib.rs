//! DPDK's Toeplitz hashes over bursts of IPv4 tuples with ports: source, destination, source port, destination port.

/// The longest burst.
pub const MOST: usize = 64;
const KEY_LEN: usize = 40;

/// The key of Microsoft's verification suite.
pub const MICROSOFT_KEY: [u8; KEY_LEN] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0,
    0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42,
    0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];

#[repr(C, align(4))]
struct Key([u8; KEY_LEN]);

unsafe extern "C" {
    fn tapline_softrss(key: *const u8, tuples: *mut [u32; 3], hashes: *mut u32, count: u32);
    fn tapline_softrss_be(key: *const u8, tuples: *mut [u32; 3], hashes: *mut u32, count: u32);
    fn tapline_convert_key(key: *const u32, converted: *mut u32, len: i32);
    fn tapline_gfni_is_compiled() -> i32;
    fn tapline_gfni_matrices(matrices: *mut u64, key: *const u8, len: i32);
    fn tapline_gfni(matrices: *const u64, tuples: *mut [u8; 12], hashes: *mut u32, count: u32);
}

/// `rte_softrss` and `rte_softrss_be`. Tuples are words in host order.
pub struct SoftRss {
    key: Key,
    converted: Key,
}

impl SoftRss {
    pub fn new(key: [u8; KEY_LEN]) -> Self {
        let (key, mut converted) = (Key(key), Key([0; KEY_LEN]));
        // SAFETY: both are aligned for words and `KEY_LEN` bytes long.
        unsafe {
            tapline_convert_key((&raw const key).cast(), (&raw mut converted).cast(), KEY_LEN as i32)
        };
        Self { key, converted }
    }

    /// Hashes as many tuples as both slices have.
    pub fn hash(&self, tuples: &mut [[u32; 3]], hashes: &mut [u32]) {
        let count = tuples.len().min(hashes.len()) as u32;
        // SAFETY: `count` tuples and hashes are there; the key has the 16 bytes that three words need.
        unsafe { tapline_softrss(self.key.0.as_ptr(), tuples.as_mut_ptr(), hashes.as_mut_ptr(), count) };
    }

    /// The same by the function that wants its key converted.
    pub fn hash_be(&self, tuples: &mut [[u32; 3]], hashes: &mut [u32]) {
        let count = tuples.len().min(hashes.len()) as u32;
        // SAFETY: as above.
        unsafe {
            tapline_softrss_be(self.converted.0.as_ptr(), tuples.as_mut_ptr(), hashes.as_mut_ptr(), count)
        };
    }
}

/// `rte_thash_gfni_bulk`. Tuples are bytes in network order.
pub struct Gfni {
    matrices: [u64; KEY_LEN],
}

impl Gfni {
    /// `None` where the processor lacks the instructions.
    pub fn new(key: [u8; KEY_LEN]) -> Option<Self> {
        // SAFETY: no arguments, no state.
        if !has_instructions() || unsafe { tapline_gfni_is_compiled() } == 0 {
            return None;
        }
        let mut matrices = [0; KEY_LEN];
        // SAFETY: one matrix for each byte of the key (rte_thash_complete_matrix).
        unsafe { tapline_gfni_matrices(matrices.as_mut_ptr(), key.as_ptr(), KEY_LEN as i32) };
        Some(Self { matrices })
    }

    /// Hashes as many tuples as both slices have, at most [`MOST`].
    pub fn hash(&self, tuples: &mut [[u8; 12]], hashes: &mut [u32]) {
        let count = tuples.len().min(hashes.len()).min(MOST) as u32;
        // SAFETY: the processor has GFNI and AVX-512, as `new` saw; `count` tuples and hashes are there.
        unsafe { tapline_gfni(self.matrices.as_ptr(), tuples.as_mut_ptr(), hashes.as_mut_ptr(), count) };
    }
}

#[cfg(target_arch = "x86_64")]
fn has_instructions() -> bool {
    is_x86_feature_detected!("gfni")
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vbmi")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_instructions() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Microsoft's verification suite: 66.9.149.187:2794 to 161.142.100.80:1766.
    #[test]
    fn both_give_the_hash_of_the_rss_specification() {
        let tuple = [66, 9, 149, 187, 161, 142, 100, 80, 0x0a, 0xea, 0x06, 0xe6];
        let words = [0, 4, 8]
            .map(|at| u32::from_be_bytes([tuple[at], tuple[at + 1], tuple[at + 2], tuple[at + 3]]));
        let soft = SoftRss::new(MICROSOFT_KEY);
        let mut hashes = [0; 2];
        soft.hash(&mut [words; 2], &mut hashes);
        assert_eq!(hashes, [0x51cc_c178; 2]);
        soft.hash_be(&mut [words; 2], &mut hashes);
        assert_eq!(hashes, [0x51cc_c178; 2]);
        match Gfni::new(MICROSOFT_KEY) {
            Some(gfni) => {
                let mut hashes = [0; 3];
                gfni.hash(&mut [tuple; 3], &mut hashes);
                assert_eq!(hashes, [0x51cc_c178; 3]);
            }
            None => tapline_skip::skipped("no GFNI"),
        }
    }
}
