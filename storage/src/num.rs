//! Conversions between the widths of lengths, and little-endian fields.

/// A length as u64. Every length of this platform fits.
pub(crate) fn wide(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// A count of bytes as usize; a count that does not fit becomes `usize::MAX`, which no buffer has.
pub(crate) fn size(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

/// A u32 as usize.
pub(crate) fn size32(length: u32) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

/// A length as u32; a length that does not fit becomes `u32::MAX`, which no limit allows.
pub(crate) fn narrow(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// The u16 at a place; 0 beyond the end.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    chunk(bytes, at).map_or(0, u16::from_le_bytes)
}

/// The u32 at a place; 0 beyond the end.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    chunk(bytes, at).map_or(0, u32::from_le_bytes)
}

/// The u64 at a place; 0 beyond the end.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    chunk(bytes, at).map_or(0, u64::from_le_bytes)
}

/// The i64 at a place; 0 beyond the end.
pub(crate) fn i64_at(bytes: &[u8], at: usize) -> i64 {
    chunk(bytes, at).map_or(0, i64::from_le_bytes)
}

fn chunk<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}
