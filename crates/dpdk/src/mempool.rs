//! Pools of mbufs.

use std::ffi::CString;
use std::sync::Arc;

use super::error::{Error, or_fault};
use super::{Eal, SocketId, raw_socket};
use tapline_kernel::limits::Descriptors;
use tapline_kernel::machine::page_bytes;

/// Bytes of packet that one mbuf holds (DPDK's default): longer packets arrive as chains.
pub const DATA_ROOM: u16 = 2048;

/// A pool of mbufs. Freed when its last owner goes, unless mbufs are still out: then it is left to EAL, which frees it at its end.
pub struct Mempool {
    pool: Pool,
    count: u32,
    eal: Eal,
}

/// A pool as DPDK has it.
pub(super) struct Pool(*mut dpdk_sys::rte_mempool);

// SAFETY: a mempool is made for use from any lcore; per-lcore caches are indexed by the calling lcore, and the shared ring is
// multi-producer, multi-consumer (the default ops).
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

impl Pool {
    /// Mbufs that are with a driver, a queue or a worker.
    pub(crate) fn in_use(&self) -> u32 {
        // SAFETY: only `free` ends the pool, and takes this value.
        unsafe { dpdk_sys::rte_mempool_in_use_count(self.0) }
    }

    /// # Safety
    /// All mbufs are back, and nobody will take one.
    pub(crate) unsafe fn free(self) {
        // SAFETY: nothing points into the pool.
        unsafe { dpdk_sys::rte_mempool_free(self.0) };
    }
}

impl Mempool {
    /// Creates a pool of `count` mbufs with [`DATA_ROOM`] bytes each plus headroom.
    ///
    /// The per-lcore cache is as large as DPDK and the pool allow (512): measured on `net_null`, anything well above the burst is
    /// as good, and a cache of 250 costs half the rate at bursts of 128.
    ///
    /// # Errors
    /// If there is not enough memory.
    pub fn create(eal: &Eal, name: &str, count: u32, socket: SocketId) -> Result<Arc<Self>, Error> {
        Self::create_cached(eal, name, count, dpdk_sys::RTE_MEMPOOL_CACHE_MAX_SIZE, socket)
    }

    /// The same with a cache of at most `cache` mbufs for each lcore.
    ///
    /// # Errors
    /// If there is not enough memory.
    pub fn create_cached(
        eal: &Eal,
        name: &str,
        count: u32,
        cache: u32,
        socket: SocketId,
    ) -> Result<Arc<Self>, Error> {
        let what = format!("mempool {name}");
        let c_name = CString::new(name).map_err(|_| {
            Error::refused(&what, "rte_pktmbuf_pool_create", "the name contains a NUL byte")
        })?;
        let cache = cache.min(dpdk_sys::RTE_MEMPOOL_CACHE_MAX_SIZE).min(count / 3);
        let room = DATA_ROOM + dpdk_sys::RTE_PKTMBUF_HEADROOM as u16;
        let mut raw = std::ptr::null_mut();
        let result = or_fault("start.mempool", || {
            // SAFETY: the name is NUL-terminated and copied; the other arguments are plain numbers that DPDK checks.
            raw = unsafe {
                dpdk_sys::rte_pktmbuf_pool_create(
                    c_name.as_ptr(),
                    count,
                    cache,
                    0,
                    room,
                    raw_socket(socket),
                )
            };
            if raw.is_null() { -1 } else { 0 }
        });
        if result < 0 {
            // SAFETY: EAL is running; it only reads what EAL was started with.
            let pages = if unsafe { dpdk_sys::rte_eal_has_hugepages() } != 0 {
                Pages::Huge
            } else {
                Pages::Ordinary
            };
            let mib = mebibytes(count, pages);
            let error = Error::from_result(what, "rte_pktmbuf_pool_create", result);
            return Err(error.remedy(format!(
                "{count} mbufs need about {mib} MiB; lower `set mempool`, or {}",
                more(pages, mib)
            )));
        }
        // SAFETY: EAL is running (`eal`); the call changes no byte of its memory.
        unsafe { dpdk_sys::tl_memory_no_dump() };
        Ok(Arc::new(Self { pool: Pool(raw), count, eal: eal.clone() }))
    }

    pub(super) fn raw(&self) -> *mut dpdk_sys::rte_mempool {
        self.pool.0
    }

    /// Mbufs in the pool, in use or not.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Mbufs that are with a driver, a queue or a worker.
    pub fn in_use(&self) -> u32 {
        self.pool.in_use()
    }
}

impl Drop for Mempool {
    fn drop(&mut self) {
        let pool = Pool(self.pool.0);
        if pool.in_use() == 0 {
            // SAFETY: this is the last owner and every mbuf is back.
            unsafe { pool.free() };
        } else {
            self.eal.leave(pool);
        }
    }
}

/// The kind of pages that pools are made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pages {
    Huge,
    Ordinary,
}

/// Gives the remedy for a pool of `mib` MiB that did not get its memory. DPDK keeps a file open for each huge page.
fn more(pages: Pages, mib: u32) -> String {
    const PAGE_MIB: u64 = 2;
    match (pages, Descriptors::now()) {
        (Pages::Huge, Some(Descriptors { open, most }))
            if u64::from(mib) / PAGE_MIB > most.saturating_sub(open) =>
        {
            format!("allow more open files than {most}, one for each huge page (ulimit -n)")
        }
        (Pages::Huge, _) => "reserve more huge pages".to_owned(),
        (Pages::Ordinary, _) => "give EAL more memory, as by -m".to_owned(),
    }
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
