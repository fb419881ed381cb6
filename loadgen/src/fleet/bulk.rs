//! Transactions in bulk: what a chain does beyond the rate at which each event can be made by hand.
//!
//! Frames are made once and sent many times with new times and numbers. Their goods are never counted, so that what they
//! come to is a sum that no order of arrival changes.

use std::sync::Mutex;

use anyhow::Result;

use super::locked;
use crate::bench::template::{Template, naming};
use crate::oracle::{StoreBook, within_an_hour};
use crate::workload::{Catalogue, Dice, Event};

/// Events per second of the whole chain that are made one by one.
pub(super) const BY_HAND_MAX: u64 = 40_000;
const FRAME_EVENTS: u32 = 256;
const PAIRS: usize = 32;

/// Frames that are sent over and over.
#[derive(Debug)]
pub(super) struct Bulk {
    /// Sales at even, movements at odd places.
    templates: Vec<Template>,
    /// How often each store sent each.
    sent: Vec<Mutex<Vec<u64>>>,
    catalogue: Catalogue,
}

impl Bulk {
    /// Bulk transactions of so many stores.
    pub(super) fn new(seed: u64, stores: u32, skus: u32) -> Result<Self> {
        let catalogue = Catalogue::bulk(seed, skus);
        let mut dice = Dice::new(seed ^ 0xb01d);
        let mut templates = Vec::new();
        for _ in 0..PAIRS {
            templates.push(Template::sales(&mut dice, &catalogue, FRAME_EVENTS)?);
            templates.push(Template::moves(&mut dice, &catalogue, FRAME_EVENTS)?);
        }
        let sent = (0..stores)
            .map(|_| Mutex::new(vec![0; templates.len()]))
            .collect();
        Ok(Self {
            templates,
            sent,
            catalogue,
        })
    }

    /// Events in each frame.
    pub(super) fn frame_events() -> u64 {
        u64::from(FRAME_EVENTS)
    }

    /// Events that name all goods; one terminal says them before any frame is sent.
    pub(super) fn names(&self, at_us: i64) -> Vec<Event> {
        naming(&self.catalogue, at_us)
    }

    /// A frame of a store: 2 of 5 hold sales. `turn` counts the store's frames.
    ///
    /// # Errors
    /// Fails when it is no valid frame, which its own making excludes.
    pub(super) fn frame(
        &self,
        (store, turn): (u32, usize),
        (first_seq, at_us): (u64, i64),
        book: Option<&mut StoreBook>,
    ) -> Result<Option<bytes::Bytes>> {
        let is_move = !matches!(turn % 5, 0 | 2);
        let place = turn / 2 % PAIRS * 2 + usize::from(is_move);
        let Some(template) = self.templates.get(place) else {
            return Ok(None);
        };
        let counts = usize::try_from(store.saturating_sub(1))
            .ok()
            .and_then(|at| self.sent.get(at));
        if let Some(count) = counts
            .map(locked)
            .as_mut()
            .and_then(|counts| counts.get_mut(place))
        {
            *count += 1;
        }
        let at_us = within_an_hour(at_us, i64::from(FRAME_EVENTS));
        if let Some(book) = book {
            book.sold(at_us, &template.sums);
        }
        template.frame(first_seq, at_us, first_seq).map(Some)
    }

    /// Adds what all frames of a store did to its stock.
    pub(super) fn quiesce(&self, store: u32, book: &mut StoreBook) {
        let counts = usize::try_from(store.saturating_sub(1))
            .ok()
            .and_then(|at| self.sent.get(at));
        let Some(counts) = counts.map(locked) else {
            return;
        };
        for (template, times) in self.templates.iter().zip(counts.iter()) {
            for (sku, quantity) in template.moved.iter().filter(|_| *times > 0) {
                let level = book.stock.entry(*sku).or_default();
                level.moved_before_counts(quantity * i128::from(*times));
            }
        }
    }
}
