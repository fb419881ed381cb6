//! An outbox on disk.
//!
//! A folder per terminal holds one generation (`gen-N`) of numbered files; a new epoch is a new generation, written beside
//! the old one and put in its place by one rename. Files only ever grow at their end.

mod generation;
mod open;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use till_protocol::id::{Epoch, TerminalId};

use self::generation::{Entry, Generation, Segment};
use self::open::{lock, make_folder, tidy};
use super::device::{FileLock, FileSystem};
use super::files::Files;
use super::segment::{self, FileHead};
use super::{Outbox, OutboxError, Standing, Stored, Sync, SyncDone, SyncJob};
use crate::frame;

/// Settings of a [`DiskOutbox`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DiskConfig {
    /// When `send` returns.
    pub sync: Sync,
    /// Size at which a file is closed and the next one begun; what is committed is deleted by whole files.
    pub file_bytes: u64,
    /// Most bytes that may wait for their commit. At the bound senders wait.
    pub bytes_max: u64,
}

impl Default for DiskConfig {
    fn default() -> Self {
        Self {
            sync: Sync::Group,
            file_bytes: 4 << 20,
            bytes_max: 1 << 30,
        }
    }
}

/// An outbox that survives a crash of the device at any byte.
#[derive(Debug)]
pub struct DiskOutbox {
    config: DiskConfig,
    files: Files,
    folder: PathBuf,
    terminal: u64,
    /// Held for as long as the outbox is open, so that no second process writes.
    _lock: FileLock,
    epoch: Option<Epoch>,
    committed: u64,
    /// What a synced record says is committed: files below it may go.
    surely_committed: u64,
    /// The oldest file could not be deleted, and that was told.
    is_stuck: bool,
    poisoned: bool,
    generation: Generation,
}

impl DiskOutbox {
    /// Opens the outbox of a terminal in a folder of its own, or makes it.
    ///
    /// What a crash left behind is put right: the torn tail of the last write is cut, a half-made generation removed.
    ///
    /// # Errors
    /// Returns [`OutboxError`] when the folder can't be used, belongs to another terminal or another process, or holds
    /// damage below what was synced.
    pub fn open(
        folder: &Path,
        terminal: TerminalId,
        config: DiskConfig,
    ) -> Result<Self, OutboxError> {
        Self::open_with(Files::default(), folder, terminal.to_u64(), config)
    }

    /// The same on a file system of the device's own.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_on(
        system: Arc<dyn FileSystem>,
        folder: &Path,
        terminal: TerminalId,
        config: DiskConfig,
    ) -> Result<Self, OutboxError> {
        Self::open_with(Files::of(system), folder, terminal.to_u64(), config)
    }

    pub(super) fn open_with(
        files: Files,
        folder: &Path,
        terminal: u64,
        config: DiskConfig,
    ) -> Result<Self, OutboxError> {
        make_folder(&files, folder)?;
        let lock = lock(&files, folder)?;
        let generations = tidy(&files, folder)?;
        let mut this = Self {
            config,
            folder: folder.to_owned(),
            terminal,
            _lock: lock,
            epoch: None,
            committed: 0,
            surely_committed: 0,
            is_stuck: false,
            poisoned: false,
            generation: Generation::empty(1),
            files,
        };
        match generations.last() {
            Some(number) => {
                this.generation.number = *number;
                this.load()?;
            }
            None => this.generation = this.write_generation(1, 0, &[])?,
        }
        Ok(this)
    }

    fn dir(&self) -> PathBuf {
        self.folder.join(name_of(self.generation.number))
    }

    /// Writes a generation beside the current one and puts it in its place by one rename.
    fn write_generation(
        &self,
        number: u64,
        epoch: u32,
        frames: &[Stored],
    ) -> Result<Generation, OutboxError> {
        let dir = self.folder.join(name_of(number));
        let draft = self.folder.join(format!("{}.tmp", name_of(number)));
        self.files.create_dir(&draft)?;
        let mut generation = Generation::empty(number);
        let name = file_name(1);
        let mut bytes = BytesMut::new();
        segment::put_head(
            &mut bytes,
            &FileHead {
                terminal: self.terminal,
                epoch,
                first: 1,
                committed: 0,
            },
        );
        let writer = self.files.create(&draft.join(&name))?;
        let mut len = 0_u64;
        for stored in frames {
            let offset = len + length(&bytes) + length(&[0; segment::HEAD_BYTES]);
            segment::put_frame(&mut bytes, 0, &stored.bytes);
            let bytes_of = frame::length(&stored.bytes);
            generation.push(0, offset, bytes_of, stored.first, stored.count);
            if bytes.len() > 1 << 20 {
                self.files.append(&writer, &draft, &bytes)?;
                len += length(&bytes);
                bytes.clear();
            }
        }
        self.files.append(&writer, &draft, &bytes)?;
        len += length(&bytes);
        self.files.sync(&writer, &draft)?;
        self.files.sync_dir(&draft)?;
        self.files.rename(&draft, &dir)?;
        self.files.sync_dir(&self.folder)?;
        generation.durable = generation.last;
        generation.files.push_back(Segment {
            path: dir.join(name),
            writer,
            last: generation.last,
            len,
            synced: len,
        });
        generation.count_pending(0);
        Ok(generation)
    }

    /// Closes the current file and begins the next one.
    fn rotate(&mut self) -> Result<(), OutboxError> {
        let first = self.generation.last + 1;
        let path = self.dir().join(file_name(first));
        self.sync_now()?;
        let writer = self.files.create(&path)?;
        let mut bytes = BytesMut::new();
        let head = FileHead {
            terminal: self.terminal,
            epoch: self.epoch.map_or(0, Epoch::get),
            first,
            committed: self.committed,
        };
        segment::put_head(&mut bytes, &head);
        self.files.append(&writer, &path, &bytes)?;
        self.files.sync(&writer, &path)?;
        self.files.sync_dir(&self.dir())?;
        self.generation.files.push_back(Segment {
            path,
            writer,
            last: self.generation.last,
            len: length(&bytes),
            synced: length(&bytes),
        });
        Ok(())
    }

    fn sync_now(&mut self) -> Result<(), OutboxError> {
        if let Some(file) = self.generation.files.back_mut() {
            if let Err(error) = self.files.sync(&file.writer, &file.path) {
                self.poisoned = true;
                return Err(error);
            }
            file.synced = file.len;
        }
        self.generation.durable = self.generation.last;
        self.surely_committed = self.committed;
        Ok(())
    }

    /// Deletes files whose events are committed, the oldest first. The file with the committed event itself stays: its digest
    /// is asked for at the next session.
    ///
    /// That they are committed is on disk before: only then does the next start know what is missing as done with.
    fn delete_committed(&mut self) -> Result<(), OutboxError> {
        while let Some(old) = self.generation.files.front() {
            let last = old.last;
            if self.generation.files.len() == 1 || last >= self.committed {
                break;
            }
            if last >= self.surely_committed {
                self.sync_now()?;
                continue;
            }
            let removed = self.files.remove(&old.path);
            let was_stuck = std::mem::replace(&mut self.is_stuck, removed.is_err());
            if let Err(error) = removed {
                if !was_stuck {
                    tracing::warn!(%error, "left a committed outbox file behind; a later commit or start removes it");
                }
                break;
            }
            self.generation.files.pop_front();
            self.generation.forget_front(last);
        }
        Ok(())
    }

    /// Appends a record to the current file; a write that fails half-way is cut off again.
    fn write(
        &mut self,
        put: impl FnOnce(&mut BytesMut, u64) -> Result<(), OutboxError>,
    ) -> Result<u64, OutboxError> {
        self.check()?;
        let Some(file) = self.generation.files.back_mut() else {
            return Err(OutboxError::Poisoned {
                path: self.folder.clone(),
            });
        };
        let mut bytes = BytesMut::new();
        put(&mut bytes, file.synced)?;
        let at = file.len;
        if let Err(error) = self.files.append(&file.writer, &file.path, &bytes) {
            if self.files.truncate(&file.writer, &file.path, at).is_err() {
                self.poisoned = true;
            }
            return Err(error);
        }
        file.len += length(&bytes);
        Ok(at)
    }

    fn check(&self) -> Result<(), OutboxError> {
        if self.poisoned {
            return Err(OutboxError::Poisoned {
                path: self.folder.clone(),
            });
        }
        Ok(())
    }

    fn try_rotate(&mut self) -> Result<(), OutboxError> {
        let full = |file: &Segment| file.len >= self.config.file_bytes;
        if self.generation.files.back().is_some_and(full) {
            let rotated = self.rotate();
            self.poisoned |= rotated.is_err();
            return rotated;
        }
        Ok(())
    }

    fn read(&self, entry: Entry) -> Result<Stored, OutboxError> {
        let missing = || OutboxError::Poisoned {
            path: self.folder.clone(),
        };
        let at = usize::try_from(entry.file).map_err(|_| missing())?;
        let len = usize::try_from(entry.len).map_err(|_| missing())?;
        let file = self.generation.files.get(at).ok_or_else(missing)?;
        let mut bytes = vec![0; len];
        self.files
            .read_at(&file.writer, &file.path, entry.offset, &mut bytes)?;
        Ok(Stored {
            first: entry.first,
            count: entry.count,
            bytes: Bytes::from(bytes),
        })
    }
}

impl Outbox for DiskOutbox {
    fn standing(&self) -> Standing {
        Standing {
            epoch: self.epoch,
            last: self.generation.last,
            durable: self.generation.durable,
            committed: self.committed,
            pending_bytes: self.generation.pending_bytes,
        }
    }

    fn has_room(&self) -> bool {
        self.generation.pending_bytes < self.config.bytes_max
    }

    fn sync_policy(&self) -> Sync {
        self.config.sync
    }

    fn survives_crash(&self) -> bool {
        true
    }

    fn append(&mut self, bytes: Bytes, count: u32) -> Result<(), OutboxError> {
        self.check()?;
        let first = self.generation.last + 1;
        frame::expect_first(&bytes, first, count)?;
        self.try_rotate()?;
        let at = self.write(|into, synced| {
            segment::put_frame(into, synced, &bytes);
            Ok(())
        })?;
        let len = frame::length(&bytes);
        let file = u64::try_from(self.generation.files.len() - 1).unwrap_or(u64::MAX);
        let offset = at + length(&[0; segment::HEAD_BYTES]);
        self.generation.push(file, offset, len, first, count);
        self.generation.pending_bytes += len;
        if let Some(file) = self.generation.files.back_mut() {
            file.last = self.generation.last;
        }
        Ok(())
    }

    fn frame_of(&mut self, seq: u64) -> Result<Option<Stored>, OutboxError> {
        let at = self
            .generation
            .frames
            .partition_point(|entry| entry.last() < seq);
        match self.generation.frames.get(at).copied() {
            Some(entry) if entry.first <= seq => self.read(entry).map(Some),
            _ => Ok(None),
        }
    }

    fn commit(&mut self, upto: u64) -> Result<(), OutboxError> {
        let upto = upto.min(self.generation.last);
        if upto <= self.committed {
            return Ok(());
        }
        self.write(|into, synced| {
            segment::put_committed(into, synced, upto);
            Ok(())
        })?;
        self.generation.leave_backlog(self.committed, upto);
        self.committed = upto;
        self.delete_committed()
    }

    fn begin_epoch(&mut self, epoch: Epoch, from: u64) -> Result<(), OutboxError> {
        self.check()?;
        let (mut frames, mut next) = (Vec::new(), 1);
        for at in 0..self.generation.frames.len() {
            let Some(entry) = self.generation.frames.get(at).copied() else {
                break;
            };
            if entry.last() < from {
                continue;
            }
            let old = self.read(entry)?;
            if let Some(new) = frame::moved(&old, from, next)? {
                next = new.last() + 1;
                frames.push(new);
            }
        }
        let old = self.dir();
        let number = self.generation.number + 1;
        let generation = self.write_generation(number, epoch.get(), &frames);
        let generation = match generation {
            Ok(generation) => generation,
            Err(error) => {
                // Which of the two a restart finds is unknown; only opening again tells.
                self.poisoned = true;
                return Err(error);
            }
        };
        self.generation = generation;
        self.epoch = Some(epoch);
        (self.committed, self.surely_committed) = (0, 0);
        if let Err(error) = self.files.remove_dir(&old) {
            tracing::warn!(%error, "left the old outbox files behind; the next start removes them");
        }
        Ok(())
    }

    fn sync_job(&mut self) -> Result<Option<SyncJob>, OutboxError> {
        self.check()?;
        if self.generation.durable == self.generation.last {
            return Ok(None);
        }
        Ok(self.generation.files.back().map(|file| SyncJob {
            files: self.files.clone(),
            file: Arc::clone(&file.writer),
            path: file.path.clone(),
            generation: self.generation.number,
            upto: self.generation.last,
            len: file.len,
        }))
    }

    fn synced(&mut self, done: SyncDone) -> Result<(), OutboxError> {
        if let Err(error) = done.result {
            // After a failed sync the page cache says what the disk does not.
            self.poisoned = true;
            return Err(error);
        }
        if done.generation == self.generation.number {
            self.generation.durable = self.generation.durable.max(done.upto);
            let same = |file: &&mut Segment| file.path == done.path;
            if let Some(file) = self.generation.files.back_mut().filter(same) {
                file.synced = file.synced.max(done.len);
            }
        }
        Ok(())
    }
}

fn name_of(generation: u64) -> String {
    format!("gen-{generation:010}")
}

fn file_name(first: u64) -> String {
    format!("{first:020}.out")
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
