//! A loss of power: of what a dead process had not synced, chance keeps some sectors and some names.
//!
//! Bytes are kept or lost by sectors of 512 bytes, each file's length by itself. Names are lost as file systems with a log of
//! their own lose them: from some moment on, but for those whose folder was synced after it.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use rand::RngExt as _;
use rand::rngs::SmallRng;

use crate::shim::{Shim, native};

const SECTOR: u64 = 512;
const SECTOR_BYTES: usize = 512;
/// Bytes before the paths of a record.
const HEAD: usize = 48;
const MAGIC: u32 = 0x4c4c_4954;

/// What a loss of power took.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Lost {
    /// Sectors that went back to what was synced.
    pub sectors: u64,
    /// Sectors that were not synced and stayed all the same.
    pub sectors_kept: u64,
    /// Names that went back.
    pub names: u64,
    /// Names that were not synced and stayed all the same.
    pub names_kept: u64,
    /// Files whose length went back.
    pub lengths: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Write,
    Sync,
    Made,
    Gone,
    Moved,
    DirSync,
}

#[derive(Clone, Debug)]
struct Record<'a> {
    /// Where it lies in the log.
    at: u64,
    kind: Kind,
    inode: u64,
    offset: u64,
    size: u64,
    path: PathBuf,
    other: PathBuf,
    bytes: &'a [u8],
}

/// How much of what was not synced is lost.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Luck {
    /// All of it.
    Everything,
    /// None of it: what a kill is.
    Nothing,
    /// Each sector with this chance in a hundred.
    Some(u32),
}

impl Luck {
    /// A choice.
    pub fn draw(chance: &mut SmallRng) -> Self {
        match chance.random_range(0..8_u32) {
            0 | 1 => Self::Everything,
            2 => Self::Nothing,
            _ => Self::Some(chance.random_range(5..95)),
        }
    }

    fn loses(self, chance: &mut SmallRng) -> bool {
        match self {
            Self::Everything => true,
            Self::Nothing => false,
            Self::Some(percent) => chance.random_range(0..100) < percent,
        }
    }
}

/// Fails the power of a folder whose process is dead. What is there then counts as synced.
///
/// # Errors
/// When the log cannot be read, or a file not be put back.
pub fn fail(shim: &Shim, luck: Luck, chance: &mut SmallRng) -> Result<Lost> {
    let log = match fs::read(shim.log()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        read => read.context("read the shim's log")?,
    };
    let records = records(&log)?;
    let mut lost = Lost::default();
    let files = files(&[shim.root(), &shim.attic()])?;
    for (inode, writes) in unsynced_writes(&records) {
        // A file that has no name any more, nor one that could come back, is nobody's.
        if let Some(path) = files.get(&inode) {
            put_back(path, &writes, (luck, chance), &mut lost)
                .with_context(|| format!("put {} back", path.display()))?;
        }
    }
    names(shim, &unsynced_names(&records), (luck, chance), &mut lost)?;
    File::create(shim.log())?;
    fs::remove_dir_all(shim.attic())?;
    fs::create_dir(shim.attic())?;
    Ok(lost)
}

fn records(log: &[u8]) -> Result<Vec<Record<'_>>> {
    let mut records = Vec::new();
    let mut rest = log;
    let mut at = 0;
    while rest.len() >= HEAD {
        let word = |from: usize| {
            let bytes = rest.get(from..from + 8).and_then(|b| b.try_into().ok());
            native(bytes.unwrap_or_default())
        };
        let (first, last) = (word(0), word(40));
        ensure!(low(first) == MAGIC, "the shim's log has no record at {at}");
        let kind = match high(first) {
            1 => Kind::Write,
            2 => Kind::Sync,
            3 => Kind::Made,
            4 => Kind::Gone,
            5 => Kind::Moved,
            _ => Kind::DirSync,
        };
        let length = usize::try_from(word(8))?;
        let Some(whole) = rest.get(..length) else {
            // The process died over it: what it tells of had not begun.
            break;
        };
        let path_end = HEAD + usize::try_from(low(last))?;
        let other_end = path_end + usize::try_from(high(last))?;
        let path = |from: usize, to: usize| -> Result<PathBuf> {
            let bytes = whole.get(from..to).context("a path in the shim's log")?;
            Ok(PathBuf::from(String::from_utf8_lossy(bytes).into_owned()))
        };
        records.push(Record {
            at,
            kind,
            inode: word(16),
            offset: word(24),
            size: word(32),
            path: path(HEAD, path_end)?,
            other: path(path_end, other_end)?,
            bytes: whole.get(other_end..).unwrap_or_default(),
        });
        at += word(8);
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(records)
}

/// The half of a word that lies first in memory on machines like ours; the shim writes two `uint32_t` there.
fn low(word: u64) -> u32 {
    let half = if cfg!(target_endian = "little") {
        word & u64::from(u32::MAX)
    } else {
        word >> 32
    };
    u32::try_from(half).unwrap_or(u32::MAX)
}

fn high(word: u64) -> u32 {
    low(word.rotate_left(32))
}

/// By file, in their order: the writes that no sync covers.
fn unsynced_writes<'a, 'b>(records: &'b [Record<'a>]) -> BTreeMap<u64, Vec<&'b Record<'a>>> {
    let mut covered: HashMap<u64, u64> = HashMap::new();
    for sync in records.iter().filter(|one| one.kind == Kind::Sync) {
        let upto = covered.entry(sync.inode).or_default();
        *upto = (*upto).max(sync.offset);
    }
    let mut out: BTreeMap<u64, Vec<&Record<'a>>> = BTreeMap::new();
    for write in records.iter().filter(|one| one.kind == Kind::Write) {
        if write.at >= covered.get(&write.inode).copied().unwrap_or(0) {
            out.entry(write.inode).or_default().push(write);
        }
    }
    out
}

/// In their order: the names that no sync of their folder covers.
fn unsynced_names<'a, 'b>(records: &'b [Record<'a>]) -> Vec<&'b Record<'a>> {
    let mut covered: HashMap<&Path, u64> = HashMap::new();
    for sync in records.iter().filter(|one| one.kind == Kind::DirSync) {
        let upto = covered.entry(&sync.path).or_default();
        *upto = (*upto).max(sync.offset);
    }
    let is_name = |one: &&Record<'a>| matches!(one.kind, Kind::Made | Kind::Gone | Kind::Moved);
    let upto = |path: &Path| path.parent().and_then(|dir| covered.get(dir)).copied();
    records
        .iter()
        .filter(is_name)
        .filter(|one| one.at >= upto(&one.path).unwrap_or(0))
        .collect()
}

/// The files below some folders, by inode.
fn files(folders: &[&Path]) -> Result<HashMap<u64, PathBuf>> {
    let mut out = HashMap::new();
    let mut folders: Vec<PathBuf> = folders.iter().map(|path| path.to_path_buf()).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                out.insert(entry.metadata()?.ino(), entry.path());
            }
        }
    }
    Ok(out)
}

/// Chooses for each sector of a file, and for its length, between what is there and what was synced.
fn put_back(
    path: &Path,
    writes: &[&Record<'_>],
    (luck, chance): (Luck, &mut SmallRng),
    lost: &mut Lost,
) -> Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    let now = file.metadata()?.len();
    let synced = writes.first().map_or(now, |write| write.size);
    let mut sectors: BTreeMap<u64, [u8; SECTOR_BYTES]> = BTreeMap::new();
    // From the last to the first: what stands at the end is what was there before all of them.
    for write in writes.iter().rev() {
        for (place, byte) in (write.offset..).zip(write.bytes) {
            let sector = match sectors.entry(place / SECTOR) {
                std::collections::btree_map::Entry::Occupied(there) => there.into_mut(),
                std::collections::btree_map::Entry::Vacant(room) => {
                    room.insert(read_sector(&file, place / SECTOR)?)
                }
            };
            if let Some(there) = sector.get_mut(usize::try_from(place % SECTOR)?) {
                *there = *byte;
            }
        }
    }
    let mut length = now;
    if synced != now && luck.loses(chance) {
        length = synced;
        lost.lengths += 1;
    }
    file.set_len(length)?;
    for (number, bytes) in sectors {
        let start = number * SECTOR;
        let room = usize::try_from(length.saturating_sub(start).min(SECTOR))?;
        if !luck.loses(chance) {
            lost.sectors_kept += 1;
        } else {
            lost.sectors += 1;
            file.write_all_at(bytes.get(..room).unwrap_or_default(), start)?;
        }
    }
    Ok(())
}

fn read_sector(file: &File, number: u64) -> Result<[u8; SECTOR_BYTES]> {
    let mut bytes = [0; SECTOR_BYTES];
    let mut filled = 0;
    while let Some(room) = bytes.get_mut(filled..).filter(|room| !room.is_empty()) {
        let got = file.read_at(room, number * SECTOR + u64::try_from(filled)?)?;
        if got == 0 {
            break;
        }
        filled += got;
    }
    Ok(bytes)
}

/// Takes names back, from the last to the first that is lost.
fn names(
    shim: &Shim,
    unsynced: &[&Record<'_>],
    (luck, chance): (Luck, &mut SmallRng),
    lost: &mut Lost,
) -> Result<()> {
    let kept = match luck {
        Luck::Everything => 0,
        Luck::Nothing => unsynced.len(),
        Luck::Some(_) => chance.random_range(0..=unsynced.len()),
    };
    lost.names_kept += u64::try_from(kept)?;
    for (number, name) in unsynced.iter().enumerate().skip(kept).rev() {
        let trash = shim.attic().join(format!("trash-{number}"));
        let put = take_back(name, &trash);
        put.with_context(|| format!("take back {:?} {}", name.kind, name.path.display()))?;
        lost.names += 1;
    }
    Ok(())
}

fn take_back(name: &Record<'_>, trash: &Path) -> Result<()> {
    let is_there = |path: &Path| path.symlink_metadata().is_ok();
    // A folder whose own end was synced takes what was in it along.
    if !name.path.parent().is_some_and(is_there) {
        return Ok(());
    }
    match name.kind {
        Kind::Made => {
            let state = name.path.symlink_metadata();
            if state.is_ok_and(|state| state.ino() == name.inode) {
                fs::rename(&name.path, trash)?;
            }
        }
        Kind::Gone if is_there(&name.path) => {}
        Kind::Gone if name.other.as_os_str().is_empty() => fs::create_dir(&name.path)?,
        Kind::Gone => fs::rename(&name.other, &name.path)?,
        Kind::Moved => {
            fs::rename(&name.other, &name.path)?;
            if !name.bytes.is_empty() {
                let replaced = String::from_utf8_lossy(name.bytes).into_owned();
                fs::rename(replaced, &name.other)?;
            }
        }
        Kind::Write | Kind::Sync | Kind::DirSync => {}
    }
    Ok(())
}
