//! Whose records a journal holds, and whether it says what their stores are registered with.

use std::collections::BTreeMap;

use till_core::{RecordHead, RecordKind};
use till_protocol::id::StoreId;

use super::Lsn;
use super::format::{ENTRY_PREFIX_BYTES, Entries, GROUP_HEADER_BYTES};
use super::scan::Group;
use crate::num::wide;

/// The stores that have records, and their registrations.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Owners(BTreeMap<StoreId, Owner>);

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Owner {
    // Registrations are not counted.
    records: u64,
    first: Option<Lsn>,
    registered: Option<Lsn>,
}

impl Owners {
    /// Takes in a group that is whole.
    pub(crate) fn add(&mut self, group: &Group) {
        let from = group.head.lsn.plus(GROUP_HEADER_BYTES);
        let mut entries = Entries::new(&group.body);
        while let Some((at, prefix, entry)) = entries.step() {
            if prefix.is_hole() {
                continue;
            }
            let head = entry.get(ENTRY_PREFIX_BYTES..).map(RecordHead::decode);
            if let Some(Ok(head)) = head {
                self.add_record(from.plus(wide(at)), &head);
            }
        }
    }

    /// Takes in one record.
    pub(crate) fn add_record(&mut self, at: Lsn, head: &RecordHead) {
        let number = u32::try_from(head.terminal >> 32).unwrap_or(0);
        let Ok(store) = StoreId::new(number) else {
            return;
        };
        let owner = self.0.entry(store).or_default();
        if head.kind == RecordKind::StoreRegistered {
            owner.registered.get_or_insert(at);
        } else {
            owner.records += 1;
            owner.first.get_or_insert(at);
        }
    }

    /// Takes in what was found behind everything that was taken in before.
    pub(crate) fn append(&mut self, later: &Self) {
        for (store, more) in &later.0 {
            let owner = self.0.entry(*store).or_default();
            owner.records += more.records;
            owner.first = owner.first.or(more.first);
            owner.registered = owner.registered.or(more.registered);
        }
    }

    /// Stores with records that no registration comes before, and how many records they have.
    pub(crate) fn orphans(&self) -> Vec<(StoreId, u64)> {
        let is_orphan = |owner: &Owner| match (owner.first, owner.registered) {
            (Some(first), Some(registered)) => first < registered,
            (Some(_), None) => true,
            (None, _) => false,
        };
        let owners = self.0.iter().filter(|(_, owner)| is_orphan(owner));
        owners
            .map(|(store, owner)| (*store, owner.records))
            .collect()
    }

    /// Stores with records that are registered nowhere, and how many records they have.
    pub(crate) fn unregistered(&self) -> BTreeMap<StoreId, u64> {
        let owners = self.0.iter();
        let owners = owners.filter(|(_, owner)| owner.registered.is_none());
        owners
            .map(|(store, owner)| (*store, owner.records))
            .collect()
    }

    /// Stores whose registration is there.
    pub(crate) fn registered(&self) -> impl Iterator<Item = StoreId> {
        let owners = self.0.iter();
        owners.filter_map(|(store, owner)| owner.registered.map(|_| *store))
    }
}
