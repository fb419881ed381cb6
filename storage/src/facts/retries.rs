//! Retries: records that make one quarantined event effective. They are few; what they are found by stays in memory.

use std::collections::BTreeMap;

use till_core::Record;
use till_core::event::for_each;
use till_protocol::view::View;

use crate::index::keys::{verified_of, with_receipt};
use crate::index::{hour_of, receipt_hash};
use crate::journal::Lsn;

/// What the event of a retry is found by.
#[derive(Clone, Copy, Debug)]
pub(super) struct RetryKeys {
    store: u32,
    hour: i32,
    receipt: Option<u32>,
}

/// The retries of a journal, by place.
#[derive(Debug, Default)]
pub(super) struct Retries(BTreeMap<Lsn, RetryKeys>);

impl Retries {
    /// Takes a retry in.
    pub(super) fn note(&mut self, lsn: Lsn, keys: RetryKeys) {
        self.0.insert(lsn, keys);
    }

    /// What a retry is found by. One of a waiting line is left out: its event took effect with another record.
    pub(super) fn keys_of(record: &Record) -> Result<Option<RetryKeys>, String> {
        let decided = record.verdicts.first();
        let Some(verdict) = decided.filter(|verdict| verdict.waiting_line().is_none()) else {
            return Ok(None);
        };
        let Some(verified) = verified_of(record).transpose()? else {
            return Ok(None);
        };
        let view = verified.view();
        let mut hour = None;
        let done: Result<(), std::convert::Infallible> = for_each(&view, |index, event| {
            if index == verdict.index {
                hour = Some(hour_of(event.at_us()));
            }
            Ok(())
        });
        if let Err(never) = done {
            match never {}
        }
        let receipt = match &view {
            View::Sale(sales) => sales
                .events()
                .find(|event| event.index == verdict.index)
                .and_then(|event| with_receipt(&event, |text| receipt_hash(text.as_bytes()))),
            View::Stock(_) | View::Sensor(_) | View::Device(_) => None,
        };
        let store = u32::try_from(record.head.terminal >> 32).unwrap_or(u32::MAX);
        Ok(hour.map(|hour| RetryKeys {
            store,
            hour,
            receipt,
        }))
    }

    /// Forgets what lies in segments that were dropped.
    pub(super) fn drop_before(&mut self, lsn: Lsn) {
        self.0 = self.0.split_off(&lsn);
    }

    /// Retries of events of a store in hours from `from` to `to`, both included.
    pub(super) fn of_hours(&self, store: u32, from: i32, to: i32) -> Vec<Lsn> {
        self.all(|keys| keys.store == store && (from..=to).contains(&keys.hour))
    }

    /// Retries of events with a receipt of this hash.
    pub(super) fn of_receipt(&self, hash: u32) -> Vec<Lsn> {
        self.all(|keys| keys.receipt == Some(hash))
    }

    fn all(&self, wanted: impl Fn(&RetryKeys) -> bool) -> Vec<Lsn> {
        let found = self.0.iter().filter(|(_, keys)| wanted(keys));
        found.map(|(lsn, _)| *lsn).collect()
    }
}
