//! The index as a file: a header, then pages that each carry a checksum.

use std::hash::{BuildHasherDefault, DefaultHasher};
use std::io;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hashbrown::HashMap;

use super::Filter;
use super::build::{Builder, Run};
use super::fault::IndexFault;
use crate::disk::Disk;
use crate::journal::read::FileCache;
use crate::journal::{Lsn, lock};
use crate::num::{i64_at, narrow, size, size32, u32_at, u64_at, wide};
use crate::sync::Mutex;

const MAGIC: [u8; 8] = *b"TILLIDX1";
const VERSION: u32 = 1;
const HEADER: usize = 128;
const PAGE: usize = 4_096;
/// Bytes of a page without its checksum.
const PAGE_BODY: usize = PAGE - 4;

const HOUR: usize = 16;
const RUN_BYTES: usize = 36;
const RECEIPT: usize = 8;

/// The numbers in the header.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Header {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) salt: u64,
    pub(crate) first_at_us: i64,
    pub(crate) last_at_us: i64,
    pub(crate) received_us: i64,
    pub(crate) records: u32,
    hours: u32,
    hour_entries: u32,
    runs: u32,
    run_entries: u32,
    receipts: u32,
    filter: u32,
    retries: u32,
}

// Start of the segment, number of the page.
type PageKey = (u64, u64);
// Any page may make room for another one. Which one it is has to be the same each time that a simulation reads the same.
type Pages = HashMap<PageKey, Arc<[u8]>, BuildHasherDefault<DefaultHasher>>;

/// Pages of indexes that were read last, and the files they are in, shared by all of them.
#[derive(Debug)]
pub(crate) struct PageCache {
    pages: Mutex<Pages>,
    pages_max: usize,
    files: FileCache,
}

/// An index that lies on disk. Its file is open only while it is read.
#[derive(Debug)]
pub(crate) struct IndexFile {
    pub(crate) header: Header,
    disk: Arc<dyn Disk>,
    path: PathBuf,
    memory: Mutex<InMemory>,
}

/// What of an index is in memory while there is room for it.
#[derive(Clone, Debug, Default)]
struct InMemory {
    filter: Option<Arc<Filter>>,
    /// The section of runs.
    runs: Option<Arc<[u8]>>,
}

impl PageCache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            pages: Mutex::default(),
            pages_max: (bytes_max / PAGE).max(16),
            files: FileCache::default(),
        }
    }

    /// Forgets the index of a segment that left, or has another one now.
    pub(crate) fn forget(&self, segment: Lsn) {
        self.files.forget(segment);
        lock(&self.pages).retain(|(start, _), _| *start != segment.get());
    }
}

impl Header {
    fn encode(&self) -> [u8; HEADER] {
        let mut out = [0_u8; HEADER];
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        for (at, field) in [(16, self.start), (24, self.end), (32, self.salt)] {
            out[at..at + 8].copy_from_slice(&field.to_le_bytes());
        }
        let times = [self.first_at_us, self.last_at_us, self.received_us];
        for (at, field) in [40, 48, 56].into_iter().zip(times) {
            out[at..at + 8].copy_from_slice(&field.to_le_bytes());
        }
        for (at, field) in (64..).step_by(4).zip(self.counts()) {
            out[at..at + 4].copy_from_slice(&field.to_le_bytes());
        }
        let crc = crc32c::crc32c(&out[..HEADER - 4]);
        out[HEADER - 4..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    const fn counts(&self) -> [u32; 8] {
        [
            self.records,
            self.hours,
            self.hour_entries,
            self.runs,
            self.run_entries,
            self.receipts,
            self.filter,
            self.retries,
        ]
    }

    fn decode(bytes: &[u8; HEADER]) -> Option<Self> {
        let right = bytes[..8] == MAGIC
            && u32_at(bytes, 8) == VERSION
            && crc32c::crc32c(&bytes[..HEADER - 4]) == u32_at(bytes, HEADER - 4);
        right.then(|| Self {
            start: u64_at(bytes, 16),
            end: u64_at(bytes, 24),
            salt: u64_at(bytes, 32),
            first_at_us: i64_at(bytes, 40),
            last_at_us: i64_at(bytes, 48),
            received_us: i64_at(bytes, 56),
            records: u32_at(bytes, 64),
            hours: u32_at(bytes, 68),
            hour_entries: u32_at(bytes, 72),
            runs: u32_at(bytes, 76),
            run_entries: u32_at(bytes, 80),
            receipts: u32_at(bytes, 84),
            filter: u32_at(bytes, 88),
            retries: u32_at(bytes, 92),
        })
    }

    // Where each section begins in the body: hours, their entries, runs, theirs, receipts, filter, retries, end.
    fn sections(&self) -> [u64; 8] {
        let lengths = [
            wide(HOUR) * u64::from(self.hours),
            4 * u64::from(self.hour_entries),
            wide(RUN_BYTES) * u64::from(self.runs),
            4 * u64::from(self.run_entries),
            wide(RECEIPT) * u64::from(self.receipts),
            u64::from(self.filter),
            4 * u64::from(self.retries),
        ];
        let mut at = 0;
        let mut sections = [0; 8];
        for (section, length) in sections.iter_mut().skip(1).zip(lengths) {
            at += length;
            *section = at;
        }
        sections
    }
}

/// Writes an index: whole under another name, synced, then renamed.
pub(crate) fn write(disk: &dyn Disk, path: &Path, builder: &Builder, salt: u64) -> io::Result<()> {
    let (header, body) = lay_out(builder, salt);
    let mut bytes = Vec::with_capacity(HEADER + body.len() + body.len() / 512 + PAGE);
    bytes.extend_from_slice(&header.encode());
    for page in body.chunks(PAGE_BODY) {
        bytes.extend_from_slice(page);
        bytes.extend_from_slice(&crc32c::crc32c(page).to_le_bytes());
    }
    let before = path.with_extension("idx.new");
    let file = disk.create(&before)?;
    let written = file
        .write_at(&[IoSlice::new(&bytes)], 0)
        .and_then(|()| file.sync())
        .and_then(|()| disk.rename(&before, path));
    if written.is_err() {
        // It will be built again; what is left of this try only takes room.
        drop(file);
        let _gone = disk.remove(&before);
    }
    written
}

fn lay_out(builder: &Builder, salt: u64) -> (Header, Vec<u8>) {
    let mut body = Vec::new();
    let mut entries = Vec::new();
    for ((store, hour), offsets) in &builder.hours {
        body.extend_from_slice(&store.to_le_bytes());
        body.extend_from_slice(&hour.to_le_bytes());
        body.extend_from_slice(&narrow(entries.len()).to_le_bytes());
        body.extend_from_slice(&narrow(offsets.len()).to_le_bytes());
        entries.extend_from_slice(offsets);
    }
    let hour_entries = narrow(entries.len());
    put_all(&mut body, &entries);
    entries.clear();
    for ((terminal, epoch), run) in &builder.terminals {
        body.extend_from_slice(&terminal.to_le_bytes());
        body.extend_from_slice(&epoch.to_le_bytes());
        body.extend_from_slice(&run.first.to_le_bytes());
        body.extend_from_slice(&run.last.to_le_bytes());
        body.extend_from_slice(&narrow(entries.len()).to_le_bytes());
        body.extend_from_slice(&narrow(run.entries.len()).to_le_bytes());
        entries.extend_from_slice(&run.entries);
    }
    let run_entries = narrow(entries.len());
    put_all(&mut body, &entries);
    let (receipts, filter) = builder.sorted_receipts();
    for (hash, offset) in &receipts {
        body.extend_from_slice(&hash.to_le_bytes());
        body.extend_from_slice(&offset.to_le_bytes());
    }
    body.extend_from_slice(filter.bytes());
    put_all(&mut body, &builder.retries);
    let header = Header {
        start: builder.start.get(),
        end: builder.upto.get(),
        salt,
        first_at_us: builder.first_at_us,
        last_at_us: builder.last_at_us,
        received_us: builder.received_us,
        records: builder.records,
        hours: narrow(builder.hours.len()),
        hour_entries,
        runs: narrow(builder.terminals.len()),
        run_entries,
        receipts: narrow(receipts.len()),
        filter: narrow(filter.bytes().len()),
        retries: narrow(builder.retries.len()),
    };
    (header, body)
}

fn put_all(body: &mut Vec<u8>, numbers: &[u32]) {
    for number in numbers {
        body.extend_from_slice(&number.to_le_bytes());
    }
}

impl IndexFile {
    /// Opens the index of a segment, and checks that it is of that segment and whole to its last page.
    pub(crate) fn open(
        disk: &Arc<dyn Disk>,
        path: PathBuf,
        start: Lsn,
        end: Lsn,
        salt: u64,
    ) -> Result<Self, IndexFault> {
        let file = disk.open(&path).map_err(IndexFault::of_opening)?;
        let mut bytes = [0_u8; HEADER];
        let read = file.read_at(&mut bytes, 0).map_err(IndexFault::Unread)?;
        let header = Header::decode(&bytes).filter(|_| read == HEADER);
        let header = header.ok_or(IndexFault::Broken(0))?;
        if (header.start, header.end, header.salt) != (start.get(), end.get(), salt) {
            return Err(IndexFault::Other);
        }
        let body = header.sections()[7];
        let length = wide(HEADER) + body + 4 * body.div_ceil(wide(PAGE_BODY));
        if file.size().map_err(IndexFault::Unread)? != length {
            return Err(IndexFault::Broken(length));
        }
        Ok(Self {
            header,
            disk: Arc::clone(disk),
            path,
            memory: Mutex::default(),
        })
    }

    /// Bytes that the filter takes in memory.
    pub(crate) fn filter_bytes(&self) -> usize {
        size32(self.header.filter)
    }

    /// Bytes that the runs of terminals take in memory.
    pub(crate) fn terminal_bytes(&self) -> usize {
        RUN_BYTES * size32(self.header.runs)
    }

    /// Reads into memory what is to be there and is not, and gives the memory of the rest back; the index answers without it,
    /// with more reads.
    pub(crate) fn keep(
        &self,
        cache: &PageCache,
        filter: bool,
        terminals: bool,
    ) -> Result<(), IndexFault> {
        let [_, _, runs, _, _, filters, ..] = self.header.sections();
        let mut memory = lock(&self.memory).clone();
        memory.filter = match memory.filter.filter(|_| filter) {
            None if filter => {
                let read = self.bytes(cache, filters, self.filter_bytes())?;
                Some(Arc::new(Filter::from_bytes(read)))
            }
            held => held,
        };
        memory.runs = match memory.runs.filter(|_| terminals) {
            None if terminals => Some(self.bytes(cache, runs, self.terminal_bytes())?.into()),
            held => held,
        };
        *lock(&self.memory) = memory;
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn has_filter(&self) -> bool {
        lock(&self.memory).filter.is_some()
    }

    /// Entries with events of a store in hours from `from` to `to`, both included.
    pub(crate) fn store_hours(
        &self,
        cache: &PageCache,
        store: u32,
        from: i32,
        to: i32,
    ) -> Result<Vec<u32>, IndexFault> {
        let [hours, entries, ..] = self.header.sections();
        let key_at = |number| {
            let row = self.bytes(cache, hours + wide(HOUR) * number, HOUR)?;
            let hour = u32_at(&row, 4).cast_signed();
            Ok((u32_at(&row, 0), hour, u32_at(&row, 8), u32_at(&row, 12)))
        };
        let count = u64::from(self.header.hours);
        let mut number = search(count, |number| {
            key_at(number).map(|(one, hour, ..)| (one, hour) < (store, from))
        })?;
        let mut found = Vec::new();
        while number < count {
            let (one, hour, first, length) = key_at(number)?;
            if (one, hour) > (store, to) {
                break;
            }
            found.extend(self.numbers(cache, entries + 4 * u64::from(first), length)?);
            number += 1;
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// The records of one epoch of a terminal; without entries where none of them may lie between two sequence numbers.
    pub(crate) fn terminal(
        &self,
        cache: &PageCache,
        terminal: u64,
        epoch: u32,
        range: (u64, u64),
    ) -> Result<Option<Run>, IndexFault> {
        let [_, _, runs, entries, ..] = self.header.sections();
        let held = lock(&self.memory).runs.clone();
        let row_at = |number| {
            let at = wide(RUN_BYTES) * number;
            let row = held
                .as_ref()
                .map(|held| &held[size(at)..size(at) + RUN_BYTES]);
            row.map_or_else(
                || self.bytes(cache, runs + at, RUN_BYTES),
                |row| Ok(row.to_vec()),
            )
        };
        let count = u64::from(self.header.runs);
        let number = search(count, |number| {
            row_at(number).map(|row| (u64_at(&row, 0), u32_at(&row, 8)) < (terminal, epoch))
        })?;
        if number == count {
            return Ok(None);
        }
        let row = row_at(number)?;
        if (u64_at(&row, 0), u32_at(&row, 8)) != (terminal, epoch) {
            return Ok(None);
        }
        let mut run = Run {
            first: u64_at(&row, 12),
            last: u64_at(&row, 20),
            entries: Vec::new(),
        };
        if run.touches(range) {
            let at = entries + 4 * u64::from(u32_at(&row, 28));
            run.entries = self.numbers(cache, at, u32_at(&row, 32))?;
        }
        Ok(Some(run))
    }

    /// Entries with a receipt of this hash.
    pub(crate) fn receipt(&self, cache: &PageCache, hash: u32) -> Result<Vec<u32>, IndexFault> {
        let filter = lock(&self.memory).filter.clone();
        if filter.is_some_and(|filter| !filter.may_hold(hash)) {
            return Ok(Vec::new());
        }
        let receipts = self.header.sections()[4];
        let row_at = |number| {
            let row = self.bytes(cache, receipts + wide(RECEIPT) * number, RECEIPT)?;
            Ok((u32_at(&row, 0), u32_at(&row, 4)))
        };
        let count = u64::from(self.header.receipts);
        let mut number = search(count, |number| row_at(number).map(|(one, _)| one < hash))?;
        let mut found = Vec::new();
        while number < count {
            let (one, offset) = row_at(number)?;
            if one != hash {
                break;
            }
            found.push(offset);
            number += 1;
        }
        Ok(found)
    }

    /// Entries that are retries.
    pub(crate) fn retries(&self, cache: &PageCache) -> Result<Vec<u32>, IndexFault> {
        let at = self.header.sections()[6];
        self.numbers(cache, at, self.header.retries)
    }

    fn numbers(&self, cache: &PageCache, at: u64, count: u32) -> Result<Vec<u32>, IndexFault> {
        let bytes = self.bytes(cache, at, 4 * size32(count))?;
        let numbers = (0..size32(count)).map(|number| u32_at(&bytes, 4 * number));
        Ok(numbers.collect())
    }

    // Bytes of the body, from pages whose checksum is right.
    fn bytes(&self, cache: &PageCache, at: u64, length: usize) -> Result<Vec<u8>, IndexFault> {
        let mut out = Vec::with_capacity(length);
        while out.len() < length {
            let from = at + wide(out.len());
            let page = self.page(cache, from / wide(PAGE_BODY))?;
            let skip = size(from % wide(PAGE_BODY));
            let rest = page.get(skip..).unwrap_or_default();
            let step = rest.len().min(length - out.len());
            if step == 0 {
                return Err(IndexFault::Broken(from));
            }
            out.extend_from_slice(&rest[..step]);
        }
        Ok(out)
    }

    fn page(&self, cache: &PageCache, number: u64) -> Result<Arc<[u8]>, IndexFault> {
        let key = (self.header.start, number);
        if let Some(page) = lock(&cache.pages).get(&key) {
            return Ok(Arc::clone(page));
        }
        let offset = wide(HEADER) + number * wide(PAGE);
        let mut bytes = [0_u8; PAGE];
        let start = Lsn::new(self.header.start);
        let file = cache.files.get(start, || self.disk.open(&self.path));
        let file = file.map_err(IndexFault::of_opening)?;
        let read = file.read_at(&mut bytes, offset);
        let read = read.map_err(IndexFault::Unread)?;
        let body = read.checked_sub(4).and_then(|body| {
            (crc32c::crc32c(&bytes[..body]) == u32_at(&bytes, body)).then_some(body)
        });
        let body = body.ok_or(IndexFault::Broken(offset))?;
        let page: Arc<[u8]> = Arc::from(&bytes[..body]);
        let mut pages = lock(&cache.pages);
        if pages.len() >= cache.pages_max {
            pages.clear();
        }
        pages.insert(key, Arc::clone(&page));
        Ok(page)
    }
}

// The first number for which `before` is false, of `count` in rising order.
fn search(count: u64, before: impl Fn(u64) -> Result<bool, IndexFault>) -> Result<u64, IndexFault> {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle)? {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}
