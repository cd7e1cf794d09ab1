//! Pools of mbufs.

use std::ffi::CString;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::error::Error;
use super::{Eal, SocketId, raw_socket};

/// Bytes of packet that one mbuf holds (DPDK's default): longer packets arrive as chains.
pub const DATA_ROOM: u16 = 2048;

/// A pool of mbufs. Freed when its last owner goes, unless mbufs are still out: then it is left to the end of the process.
pub struct Mempool {
    raw: *mut dpdk_sys::rte_mempool,
    count: u32,
}

// SAFETY: a mempool is made for use from any lcore; per-lcore caches are indexed by the calling lcore, and the shared ring is
// multi-producer, multi-consumer (the default ops).
unsafe impl Send for Mempool {}
// SAFETY: as above.
unsafe impl Sync for Mempool {}

impl Mempool {
    /// Creates a pool of `count` mbufs with [`DATA_ROOM`] bytes each plus headroom.
    ///
    /// The per-lcore cache is as large as DPDK and the pool allow (512): measured on `net_null`, anything well above the burst is
    /// as good, and a cache of 250 costs half the rate at bursts of 128.
    ///
    /// # Errors
    /// If there is not enough memory.
    pub fn create(_eal: &Eal, name: &str, count: u32, socket: SocketId) -> Result<Arc<Self>, Error> {
        let what = format!("mempool {name}");
        let c_name =
            CString::new(name).map_err(|_| Error::refused(&what, "rte_pktmbuf_pool_create", "the name contains a NUL byte"))?;
        let cache = dpdk_sys::RTE_MEMPOOL_CACHE_MAX_SIZE.min(count / 3);
        let room = DATA_ROOM + dpdk_sys::RTE_PKTMBUF_HEADROOM as u16;
        // SAFETY: the name is NUL-terminated and copied; the other arguments are plain numbers that DPDK checks.
        let raw = unsafe { dpdk_sys::rte_pktmbuf_pool_create(c_name.as_ptr(), count, cache, 0, room, raw_socket(socket)) };
        if raw.is_null() {
            // SAFETY: EAL is running; it only reads what EAL was started with.
            let pages = if unsafe { dpdk_sys::rte_eal_has_hugepages() } != 0 { Pages::Huge } else { Pages::Ordinary };
            let mib = mebibytes(count, pages);
            let error = Error::from_errno(what, "rte_pktmbuf_pool_create");
            return Err(
                error.remedy(format!("{count} mbufs need about {mib} MiB; lower `set mempool`, or reserve more huge pages"))
            );
        }
        Ok(Arc::new(Self { raw, count }))
    }

    pub(super) fn raw(&self) -> *mut dpdk_sys::rte_mempool {
        self.raw
    }

    /// Mbufs in the pool, in use or not.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Mbufs that are with a driver, a queue or a worker.
    pub fn in_use(&self) -> u32 {
        // SAFETY: the pool is alive as long as `self`.
        unsafe { dpdk_sys::rte_mempool_in_use_count(self.raw) }
    }
}

/// Pools whose last owner went while mbufs were out.
static LEFT: AtomicU32 = AtomicU32::new(0);

/// Pools of this process that were left to its end, since mbufs were out when their last owner went.
pub fn left_behind() -> u32 {
    LEFT.load(Ordering::Relaxed)
}

impl Drop for Mempool {
    fn drop(&mut self) {
        if self.in_use() == 0 {
            // SAFETY: this is the last owner and every mbuf is back, so nothing points into the pool.
            unsafe { dpdk_sys::rte_mempool_free(self.raw) };
        } else {
            LEFT.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The kind of pages that pools are made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pages {
    Huge,
    Ordinary,
}

/// Memory that `count` mbufs take, in MiB, rounded up: data, headroom, mbuf and object header. On ordinary pages no mbuf crosses
/// from one into the next, which need not be its neighbour for a device: of 4 KiB each holds one mbuf.
/// # Source
/// DPDK 22.11: `rte_mempool_op_calc_mem_size_helper` in lib/mempool/rte_mempool_ops_default.c.
pub fn mebibytes(count: u32, pages: Pages) -> u32 {
    const OBJECT_BYTES: u64 = DATA_ROOM as u64 + 128 + 128 + 64;
    let bytes = match pages {
        Pages::Huge => u64::from(count) * OBJECT_BYTES,
        Pages::Ordinary => {
            let page = page_bytes();
            u64::from(count).div_ceil(page / OBJECT_BYTES) * page
        }
    };
    u32::try_from(bytes.div_ceil(1 << 20)).unwrap_or(u32::MAX)
}

/// 4 KiB or more, on every machine that DPDK runs on.
fn page_bytes() -> u64 {
    // SAFETY: it only reads a constant of the system.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(bytes).map_or(4096, |bytes| bytes.max(4096))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_mbuf_takes_whole_pages_of_the_ordinary_kind() {
        // 2368 bytes each
        assert_eq!(mebibytes(4096, Pages::Huge), 10);
        if page_bytes() == 4096 {
            assert_eq!(mebibytes(4096, Pages::Ordinary), 16);
        }
    }
}
