//! The shim between an engine and its disk: made by the C compiler of this machine, steered through a shared file.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

/// Its source.
const SOURCE: &str = include_str!("../shim/shim.c");

/// The words of `struct control` in the source: five that are set, then the counters.
const WORDS_SET: usize = 5;

/// What can go wrong below an engine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// No room for what is written.
    NoRoom,
    /// A write fails.
    Write,
    /// A read fails.
    Read,
    /// A sync fails.
    Sync,
    /// A sync does nothing and says that it did.
    Lie,
}

impl Fault {
    const fn bit(self) -> u64 {
        match self {
            Self::NoRoom => 1,
            Self::Write => 2,
            Self::Read => 4,
            Self::Sync => 8,
            Self::Lie => 16,
        }
    }
}

/// How often calls met something, since the folder was made.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counted {
    /// Calls that found no room.
    pub no_room: u64,
    /// Writes that failed.
    pub write: u64,
    /// Reads that failed.
    pub read: u64,
    /// Syncs that failed.
    pub sync: u64,
    /// Syncs that lied.
    pub lie: u64,
    /// Syncs that were slowed.
    pub slow: u64,
    /// Writes that were seen.
    pub writes: u64,
    /// Syncs that were seen.
    pub syncs: u64,
}

/// A shim for one folder of data.
#[derive(Debug)]
pub struct Shim {
    library: PathBuf,
    root: PathBuf,
    folder: PathBuf,
    control: File,
}

impl Shim {
    /// Compiles the shim and watches `root`. Its own files lie in `folder`, which has to be on the same disk and outside.
    ///
    /// # Errors
    /// When there is no C compiler, or the folder cannot be made.
    pub fn new(root: &Path, folder: &Path, seed: u64) -> Result<Self> {
        fs::create_dir_all(folder.join("attic")).context("make the shim's folder")?;
        let control = File::options()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .open(folder.join("control"))?;
        control.set_len(4_096)?;
        let shim = Self {
            library: compile(folder)?,
            root: root.to_path_buf(),
            folder: folder.to_path_buf(),
            control,
        };
        shim.set(4, seed)?;
        Ok(shim)
    }

    /// Puts the shim below a command.
    pub fn below(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", &self.library)
            .env("TILL_SHIM_ROOT", &self.root)
            .env("TILL_SHIM_LOG", self.log())
            .env("TILL_SHIM_ATTIC", self.attic())
            .env("TILL_SHIM_CONTROL", self.folder.join("control"));
    }

    /// The folder that is watched.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What was not synced, and which syncs there were.
    pub fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Where files lie whose names went.
    pub fn attic(&self) -> PathBuf {
        self.folder.join("attic")
    }

    /// From now on, so many of a thousand calls meet this fault.
    ///
    /// # Errors
    /// When the control cannot be written.
    pub fn fail(&self, fault: Fault, permille: u64) -> Result<()> {
        self.set(1, permille)?;
        self.set(0, fault.bit())
    }

    /// From now on, a sync takes so much longer.
    ///
    /// # Errors
    /// When the control cannot be written.
    pub fn slow(&self, by: Duration) -> Result<()> {
        self.set(2, u64::try_from(by.as_micros()).unwrap_or(u64::MAX))
    }

    /// From now on, the clock of the day is off by so much.
    ///
    /// # Errors
    /// When the control cannot be written.
    pub fn set_clock(&self, off_us: i64) -> Result<()> {
        self.set(3, off_us.cast_unsigned())
    }

    /// Ends all faults. The clock stays where it is.
    ///
    /// # Errors
    /// When the control cannot be written.
    pub fn heal(&self) -> Result<()> {
        self.set(0, 0)?;
        self.set(2, 0)
    }

    /// What was counted so far.
    ///
    /// # Errors
    /// When the control cannot be read.
    pub fn counted(&self) -> Result<Counted> {
        let word = |place: usize| -> Result<u64> {
            let mut bytes = [0; 8];
            self.control
                .read_exact_at(&mut bytes, offset(WORDS_SET + place)?)?;
            Ok(native(bytes))
        };
        Ok(Counted {
            no_room: word(0)?,
            write: word(1)?,
            read: word(2)?,
            sync: word(3)?,
            lie: word(4)?,
            slow: word(5)?,
            writes: word(6)?,
            syncs: word(7)?,
        })
    }

    fn set(&self, place: usize, word: u64) -> Result<()> {
        let bytes = if cfg!(target_endian = "little") {
            word.to_le_bytes()
        } else {
            word.to_be_bytes()
        };
        Ok(self.control.write_all_at(&bytes, offset(place)?)?)
    }
}

fn offset(place: usize) -> Result<u64> {
    Ok(u64::try_from(place * 8)?)
}

/// A number as the shim, on this machine, has it in memory.
pub(crate) const fn native(bytes: [u8; 8]) -> u64 {
    if cfg!(target_endian = "little") {
        u64::from_le_bytes(bytes)
    } else {
        u64::from_be_bytes(bytes)
    }
}

fn compile(folder: &Path) -> Result<PathBuf> {
    let (source, library) = (folder.join("shim.c"), folder.join("shim.so"));
    fs::write(&source, SOURCE)?;
    let output = Command::new("cc")
        .args([
            "-O2",
            "-Wall",
            "-shared",
            "-fPIC",
            "-fvisibility=hidden",
            "-o",
        ])
        .arg(&library)
        .arg(&source)
        .args(["-ldl", "-lpthread"])
        .output()
        .context("start the C compiler (cc), which the shim needs")?;
    ensure!(
        output.status.success(),
        "the shim does not compile:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(library)
}
