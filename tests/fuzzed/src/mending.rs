//! Puts checksums right, by the tables of the format's own pages: without them a fuzzer never comes behind the first one.

/// Bytes of a group's header.
const GROUP: usize = 48;
/// Bytes of an entry before its record.
const PREFIX: usize = 16;

/// Makes groups of what lies in `bytes`, which stands at `at` of the log: place, sizes and checksums are put right, all else
/// stays.
pub(crate) fn mend_groups(bytes: &mut [u8], at: u64, salt: u64) {
    let (mut rest, mut at) = (bytes, at);
    while rest.len() >= GROUP {
        let (header, after) = rest.split_at_mut(GROUP);
        let stated = usize::try_from(u32_at(header, 24)).unwrap_or(usize::MAX);
        let (body, after) = after.split_at_mut(stated.min(after.len()));
        let (used, entries, crc) = mend_entries(body);
        put(header, 0, b"TGRP");
        put(header, 6, &1_u16.to_le_bytes());
        put(header, 8, &at.to_le_bytes());
        put(header, 24, &narrow(used).to_le_bytes());
        put(header, 28, &entries.to_le_bytes());
        put(header, 32, &crc.to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), &header[..44]);
        put(header, 44, &crc.to_le_bytes());
        if used < body.len() {
            return;
        }
        at += u64::from(narrow(GROUP + used));
        rest = after;
    }
}

/// Makes entries of what lies in `body`: bytes that they take, how many there are, and the checksum of their prefixes.
pub(crate) fn mend_entries(body: &mut [u8]) -> (usize, u32, u32) {
    let (mut used, mut count, mut crc) = (0, 0_u32, 0);
    while let Some(entry) = body
        .get_mut(used..)
        .filter(|rest| rest.len() >= PREFIX + 56)
    {
        let stated = usize::try_from(u32_at(entry, 0)).unwrap_or(usize::MAX);
        let verdicts = usize::try_from(u32_at(entry, 12)).unwrap_or(usize::MAX);
        let bytes = stated.clamp(PREFIX + 56, entry.len());
        let verdicts = verdicts.min((bytes - PREFIX - 56) / 12);
        let payload = bytes - PREFIX - 56 - verdicts * 12;
        put(entry, 0, &narrow(bytes).to_le_bytes());
        put(entry, 8, &narrow(payload).to_le_bytes());
        put(entry, 12, &narrow(verdicts).to_le_bytes());
        let of_entry = crc32c::crc32c_append(crc32c::crc32c(&entry[..4]), &entry[8..bytes]);
        put(entry, 4, &of_entry.to_le_bytes());
        crc = crc32c::crc32c_append(crc, &entry[..PREFIX]);
        used += bytes;
        count += 1;
    }
    (used, count, crc)
}

/// A number at a place; 0 where the bytes end before it does.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk());
    found.map_or(0, |chunk| u32::from_le_bytes(*chunk))
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(room) = bytes.get_mut(at..at + value.len()) {
        room.copy_from_slice(value);
    }
}

/// A length of something that fits a file.
pub(crate) fn narrow(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
