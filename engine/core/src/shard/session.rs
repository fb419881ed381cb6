//! The start of a session: who a terminal is, and where it goes on.

use bytes::Bytes;
use thiserror::Error;
use till_protocol::code::Reason;
use till_protocol::id::{Epoch, Seq, StoreId, TerminalId};
use till_protocol::time::{DeviceTime, Timestamp};

use super::Shard;
use crate::event::CLOCK_SUSPECT_AFTER_US;
use crate::record::{Record, RecordHead, RecordKind};
use crate::row::{Rows, RowsError};
use crate::store::{RegisterError, Registration, StoreActor};

/// How far an epoch that a device states may lie above the newest one that is known. Devices state what they were granted;
/// a number from nowhere would leave none above it for all who come later.
const EPOCH_AHEAD_MAX: u32 = 1 << 20;

/// What a device says of itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Hello<'a> {
    /// The terminal that it speaks for.
    pub terminal: TerminalId,
    /// Its epoch; 0 asks for a new one.
    pub epoch: u32,
    /// Its clock.
    pub clock: DeviceTime,
    /// ISO 4217 number of its currency; 0 = not stated.
    pub currency: u16,
    /// IANA name of its time zone; empty = not stated.
    pub zone: &'a str,
}

/// Where a terminal goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HandshakeState {
    /// The epoch that is spoken of: the one named in the Hello, or the new one.
    pub epoch: Epoch,
    /// The newest epoch that has events; 0 when none has.
    pub latest_epoch: u32,
    /// The sequence number that comes next in `epoch`; [`Seq::MAX`] in one of which it is forgotten, so that the device
    /// takes none of its events for new that it can't find here.
    pub next_seq: u64,
    /// Digest of the event before it; 0 when there is none or it could not be read.
    pub digest: u64,
    /// Events of this terminal were refused, in whatever life: a device that sends again may not have heard of it.
    pub has_refusals: bool,
    /// The epoch is over: a newer one has events. Take a new one.
    pub is_closed: bool,
    /// The device's clock is more than a day off.
    pub clock_suspect: bool,
}

/// A session that does not start.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum HelloError {
    /// It is not allowed; the device is told why.
    #[error("session refused: {0}")]
    Refused(Reason),
    /// Rows could not be read; the device may try again.
    #[error(transparent)]
    Rows(#[from] RowsError),
}

impl Shard {
    /// Accepts a terminal of a registered store. An epoch that is granted becomes real with its first durable event; two
    /// devices that ask for the same terminal are never granted the same one.
    ///
    /// # Errors
    /// [`HelloError::Refused`] with [`Reason::UnregisteredStore`] for a store that is not registered (register it, then
    /// accept again), [`Reason::CurrencyMismatch`] and [`Reason::ZoneMismatch`] where the device states others than the
    /// store has, [`Reason::BadHello`] for an epoch out of range or far above all that are known.
    pub fn hello(
        &mut self,
        now: Timestamp,
        hello: &Hello<'_>,
        rows: &dyn Rows,
    ) -> Result<HandshakeState, HelloError> {
        let store = hello.terminal.store();
        let Some(actor) = self.actors.store(store, rows)? else {
            return Err(HelloError::Refused(Reason::UnregisteredStore));
        };
        if hello.currency != 0 && hello.currency != actor.row.currency {
            return Err(HelloError::Refused(Reason::CurrencyMismatch));
        }
        if !hello.zone.is_empty() && hello.zone != actor.row.zone {
            let spelled = crate::zone::Zone::new(hello.zone)
                .map_err(|_| HelloError::Refused(Reason::UnknownZone))?;
            if spelled.name() != actor.row.zone {
                return Err(HelloError::Refused(Reason::ZoneMismatch));
            }
        }
        let terminal = self.actors.terminal(hello.terminal, rows)?;
        let latest_epoch = terminal.row.latest_epoch();
        let newest = latest_epoch.max(terminal.granted);
        let number = match hello.epoch {
            0 => newest.saturating_add(1),
            stated => stated,
        };
        let epoch = Epoch::new(number).map_err(|_| HelloError::Refused(Reason::BadHello))?;
        if newest.saturating_add(EPOCH_AHEAD_MAX) < number {
            return Err(HelloError::Refused(Reason::BadHello));
        }
        terminal.collided.clear();
        if hello.epoch == 0 {
            terminal.granted = number;
        }
        let known = terminal.row.epoch(number);
        let next_unknown = match terminal.row.has_forgotten(number) {
            true => Seq::MAX.get(),
            false => 1,
        };
        let ahead_us = hello.clock.us().saturating_sub(now.us());
        Ok(HandshakeState {
            epoch,
            latest_epoch,
            next_seq: known.map_or(next_unknown, |progress| progress.next_seq),
            digest: known.map_or(0, |progress| progress.digest),
            has_refusals: terminal.row.refused > 0,
            is_closed: number < latest_epoch,
            clock_suspect: ahead_us.saturating_abs() > CLOCK_SUSPECT_AFTER_US,
        })
    }

    /// Registers a store with its currency and time zone, for good. `None`: it is registered so already.
    ///
    /// # Errors
    /// [`RegisterError`] where it is registered otherwise, or the currency or zone does not exist.
    pub fn register_store(
        &mut self,
        now: Timestamp,
        store: StoreId,
        currency: u16,
        zone: &str,
        rows: &dyn Rows,
    ) -> Result<Option<Record>, RegisterError> {
        let registration = Registration::new(currency, zone)?;
        if let Some(actor) = self.actors.store(store, rows)? {
            actor.compare(store, currency, &registration.zone)?;
            return Ok(None);
        }
        let head = RecordHead {
            kind: RecordKind::StoreRegistered,
            family: 0,
            version: 0,
            terminal: u64::from(store.get()) << 32,
            epoch: 0,
            first_seq: 0,
            count: 0,
            skip: 0,
            received_at_us: now.us(),
            digest: 0,
        };
        let payload = Bytes::from(registration.encode());
        self.insert_store(store, StoreActor::registered(&head, registration, 0)?);
        Ok(Some(Record {
            head,
            payload,
            verdicts: Vec::new(),
        }))
    }

    /// Takes a store in that has been registered.
    pub(super) fn insert_store(&mut self, store: StoreId, actor: StoreActor) {
        self.actors.stores.insert(store.get(), actor);
        self.touch_store(store.get());
    }
}
