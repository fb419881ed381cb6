//! Frames and outboxes for tests.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use rkyv::rancor;
use till_protocol::codec::encode_frame;
use till_protocol::family::{Reference, Text, WHOLE_EVENT, stock, text};
use till_protocol::id::Epoch;

use crate::{MemoryOutbox, Outbox, OutboxError, Standing, Stored, Sync, SyncDone, SyncJob};

/// An outbox on a disk that is full for as long as a test likes. Clones are the same outbox.
#[derive(Clone, Debug, Default)]
pub(crate) struct FullDisk {
    pub(crate) is_full: Arc<AtomicBool>,
    pub(crate) held: Arc<Mutex<MemoryOutbox>>,
    pub(crate) sync: Sync,
}

impl Outbox for FullDisk {
    fn standing(&self) -> Standing {
        self.held.lock().unwrap().standing()
    }
    fn has_room(&self) -> bool {
        true
    }
    fn sync_policy(&self) -> Sync {
        self.sync
    }
    fn survives_crash(&self) -> bool {
        true
    }
    fn append(&mut self, frame: Bytes, count: u32) -> Result<(), OutboxError> {
        if self.is_full.load(Ordering::Relaxed) {
            return Err(OutboxError::Io {
                what: "write",
                path: PathBuf::from("full"),
                source: io::ErrorKind::StorageFull.into(),
            });
        }
        self.held.lock().unwrap().append(frame, count)
    }
    fn frame_of(&mut self, seq: u64) -> Result<Option<Stored>, OutboxError> {
        self.held.lock().unwrap().frame_of(seq)
    }
    fn commit(&mut self, upto: u64) -> Result<(), OutboxError> {
        self.held.lock().unwrap().commit(upto)
    }
    fn begin_epoch(&mut self, epoch: Epoch, from: u64) -> Result<(), OutboxError> {
        self.held.lock().unwrap().begin_epoch(epoch, from)
    }
    fn sync_job(&mut self) -> Result<Option<SyncJob>, OutboxError> {
        Ok(None)
    }
    fn synced(&mut self, _done: SyncDone) -> Result<(), OutboxError> {
        Ok(())
    }
}

/// A frame of `count` movements at `first`; `salt` makes them differ from those of other frames.
pub(crate) fn frame_of_moves(first: u64, count: u32, salt: u64) -> Bytes {
    let mut batch = stock::v1::Batch::default();
    for index in 0..u16::try_from(count).unwrap() {
        batch.moves.push(stock::v1::Move {
            at: i64::try_from(salt).unwrap() * 1_000 + i64::from(index),
            sku: 7,
            unit: 1,
            quantity: 100_000,
            kind: stock::v1::kind::RECEIVED,
            ..stock::v1::Move::default()
        });
        batch.refs.push(Reference {
            event: index,
            kind: 1,
            reserved: 0,
            value: u128::from(salt * 1_000 + u64::from(index)).to_le_bytes(),
        });
        let note = format!("note {salt}/{index}");
        batch.texts.push(Text {
            event: index,
            item: WHOLE_EVENT,
            kind: text::NOTE,
            len: u8::try_from(note.len()).unwrap(),
        });
        batch.text.extend_from_slice(note.as_bytes());
    }
    let payload = rkyv::to_bytes::<rancor::Error>(&batch).unwrap();
    encode_frame(4, 1, count, first, &payload)
}
