//! A view of one packet's bytes, in a shape that generated code can read.
//!
//! Stages above the fence (filter, parse, sample, balance) see packets only as `Frame`s, so that the offline filter, explain, fuzz
//! targets and benches run the same code with no EAL.
#![expect(unsafe_code, reason = "generated code reads a frame's fields where they lie")]

use std::marker::PhantomData;

/// A borrowed packet: `captured_len` contiguous bytes from the Ethernet header on, of `original_len` on the wire.
///
/// The layout is fixed (`repr(C)`, 16 bytes) because filters compiled to native code load these fields.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Frame<'a> {
    data: *const u8,
    captured_len: u32,
    original_len: u32,
    bytes: PhantomData<&'a [u8]>,
}

// SAFETY: a `Frame` is a shared borrow of plain bytes, as `&[u8]` is, which is `Send`.
unsafe impl Send for Frame<'_> {}
// SAFETY: as above; nothing in it is changed through `&self`.
unsafe impl Sync for Frame<'_> {}

impl<'a> Frame<'a> {
    /// Offset of the data pointer, for generated code.
    pub const DATA_OFFSET: usize = std::mem::offset_of!(Frame<'static>, data);
    /// Offset of the captured length (`u32`), for generated code.
    pub const CAPTURED_LEN_OFFSET: usize = std::mem::offset_of!(Frame<'static>, captured_len);
    /// Offset of the original length (`u32`), for generated code.
    pub const ORIGINAL_LEN_OFFSET: usize = std::mem::offset_of!(Frame<'static>, original_len);
    /// Bytes from one `Frame` of a slice to the next, for generated code.
    pub const STRIDE: usize = size_of::<Frame<'static>>();

    /// Views `bytes` as a packet that was `original_len` bytes long on the wire (what pcap filters call `len`).
    ///
    /// # Panics
    /// If `bytes` is longer than `u32::MAX`.
    pub fn new(bytes: &'a [u8], original_len: u32) -> Self {
        let captured_len = u32::try_from(bytes.len()).expect("a frame is shorter than 4 GiB");
        Self { data: bytes.as_ptr(), captured_len, original_len, bytes: PhantomData }
    }

    /// Views `bytes` as a whole packet: its length on the wire is the slice's.
    pub fn whole(bytes: &'a [u8]) -> Self {
        Self::new(bytes, u32::try_from(bytes.len()).expect("a frame is shorter than 4 GiB"))
    }

    /// The bytes that we hold, from the Ethernet header on.
    #[inline(always)]
    pub fn bytes(&self) -> &'a [u8] {
        // SAFETY: `data` and `captured_len` were taken from one live `&'a [u8]` in `new`, the only constructor.
        unsafe { std::slice::from_raw_parts(self.data, self.captured_len as usize) }
    }

    /// Bytes that we hold.
    #[inline(always)]
    pub fn captured_len(&self) -> u32 {
        self.captured_len
    }

    /// Bytes that the packet had on the wire.
    #[inline(always)]
    pub fn original_len(&self) -> u32 {
        self.original_len
    }
}

/// A borrowed packet in two pieces: an Ethernet header that was made up, and the bytes that follow it in the packet.
///
/// The frame inside tunnels and tags is seldom contiguous with an Ethernet header (an MPLS or VLAN tag lies between, an IP packet
/// in GRE or GTP has none), so filters look at `header` followed by `payload`, as if they were joined.
///
/// The layout is fixed (`repr(C)`, 32 bytes) because filters compiled to native code load these fields.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct SplitFrame<'a> {
    payload: *const u8,
    payload_len: u32,
    original_len: u32,
    header: [u8; 14],
    bytes: PhantomData<&'a [u8]>,
}

// SAFETY: a `SplitFrame` is a shared borrow of plain bytes beside 14 bytes of its own, which are `Send`.
unsafe impl Send for SplitFrame<'_> {}
// SAFETY: as above; nothing in it is changed through `&self`.
unsafe impl Sync for SplitFrame<'_> {}

impl<'a> SplitFrame<'a> {
    /// Bytes of the Ethernet header: two addresses and a type.
    pub const HEADER_BYTES: usize = 14;
    /// Offset of the payload's pointer, for generated code.
    pub const PAYLOAD_OFFSET: usize = std::mem::offset_of!(SplitFrame<'static>, payload);
    /// Offset of the payload's length (`u32`), for generated code.
    pub const PAYLOAD_LEN_OFFSET: usize = std::mem::offset_of!(SplitFrame<'static>, payload_len);
    /// Offset of the original length (`u32`), for generated code.
    pub const ORIGINAL_LEN_OFFSET: usize = std::mem::offset_of!(SplitFrame<'static>, original_len);
    /// Offset of the header's bytes, for generated code.
    pub const HEADER_OFFSET: usize = std::mem::offset_of!(SplitFrame<'static>, header);
    /// Bytes from one `SplitFrame` of a slice to the next, for generated code.
    pub const STRIDE: usize = size_of::<SplitFrame<'static>>();
    /// The longest payload: header and payload together have a 32-bit length.
    const MAX_PAYLOAD_BYTES: usize = u32::MAX as usize - Self::HEADER_BYTES;

    /// Views `header` and `payload` as one frame that had `original_len` bytes, header included, on the wire.
    ///
    /// # Panics
    /// If `payload` is longer than `MAX_PAYLOAD_BYTES`.
    pub fn new(header: [u8; 14], payload: &'a [u8], original_len: u32) -> Self {
        assert!(payload.len() <= Self::MAX_PAYLOAD_BYTES, "a frame is shorter than 4 GiB");
        let payload_len = u32::try_from(payload.len()).expect("bounded by the line above");
        Self { payload: payload.as_ptr(), payload_len, original_len, header, bytes: PhantomData }
    }

    /// The Ethernet header.
    #[inline(always)]
    pub fn header(&self) -> &[u8; 14] {
        &self.header
    }

    /// The bytes after the header that we hold.
    #[inline(always)]
    pub fn payload(&self) -> &'a [u8] {
        // SAFETY: `payload` and `payload_len` were taken from one live `&'a [u8]` in `new`, the only constructor.
        unsafe { std::slice::from_raw_parts(self.payload, self.payload_len as usize) }
    }

    /// Bytes that the frame had on the wire, header included.
    #[inline(always)]
    pub fn original_len(&self) -> u32 {
        self.original_len
    }
}
