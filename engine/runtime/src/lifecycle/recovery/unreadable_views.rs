//! Copies of rows that stand aside, and what they know.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use till_core::StoreRow;
use till_protocol::id::StoreId;
use till_storage::views::{StoreError, Views, reach};

use crate::lifecycle::recovery::{RecoveryError, open_rows};

/// What rows know that a journal may have lost.
#[derive(Debug, Default)]
struct Holds {
    reach: u64,
    stores: BTreeMap<StoreId, StoreRow>,
}

impl Holds {
    fn of(views: &dyn Views) -> Result<Self, StoreError> {
        Ok(Self {
            reach: reach(views)?,
            stores: stores_in(views)?,
        })
    }

    // `None`: they cannot be read.
    fn at(dir: &Path) -> Option<Self> {
        let read = open_rows(dir)
            .map_err(|error| error.to_string())
            .and_then(|views| Self::of(&views).map_err(|error| error.to_string()));
        read.inspect_err(|cause| {
            tracing::warn!(rows = %dir.display(), cause, "old rows cannot be read");
        })
        .ok()
    }

    fn covers(&self, other: &Self) -> bool {
        let mut stores = other.stores.keys();
        self.reach >= other.reach && stores.all(|store| self.stores.contains_key(store))
    }
}

// What cannot be read may hold anything: it is replaced by another that cannot be read alone, so that there is one at most.
fn covers(one: Option<&Holds>, other: Option<&Holds>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.covers(other),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

fn stores_in(views: &dyn Views) -> Result<BTreeMap<StoreId, StoreRow>, StoreError> {
    let mut stores = BTreeMap::new();
    views.stores(&mut |store, row| {
        stores.insert(store, row);
        ControlFlow::Continue(())
    })?;
    Ok(stores)
}

/// The stores that the rows in a folder know, and those that only copies of before know. `views` are the rows, where they
/// can be read.
pub(crate) fn stores_known(
    dir: &Path,
    views: Option<&dyn Views>,
) -> Result<BTreeMap<StoreId, StoreRow>, StoreError> {
    let mut stores = match views {
        Some(views) => stores_in(views)?,
        None => BTreeMap::new(),
    };
    for held in copies(dir).iter().filter_map(|copy| Holds::at(copy)) {
        for (store, row) in held.stores {
            stores.entry(store).or_insert(row);
        }
    }
    Ok(stores)
}

/// The copies that stand beside the rows of a folder.
fn copies(dir: &Path) -> Vec<PathBuf> {
    let first = dir.with_extension("aside");
    let (Some(folder), Some(name)) = (first.parent(), first.file_name()) else {
        return Vec::new();
    };
    let name = name.to_string_lossy().into_owned();
    let listed = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = listed
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&name))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

fn free_name(dir: &Path) -> PathBuf {
    let mut name = dir.with_extension("aside");
    let mut number = 1;
    while name.exists() {
        number += 1;
        name = dir.with_extension(format!("aside-{number}"));
    }
    name
}

/// Gives the rows another name, so that new ones can be made. A copy of before is removed where these hold all that it
/// holds; where it holds more, it stays, and these go.
pub(crate) fn move_unreadable(dir: &Path) -> Result<(), RecoveryError> {
    if !dir.exists() {
        return Ok(());
    }
    let these = Holds::at(dir);
    let mut is_held = false;
    for copy in copies(dir) {
        let held = Holds::at(&copy);
        if covers(these.as_ref(), held.as_ref()) {
            remove(&copy)?;
        } else {
            is_held |= covers(held.as_ref(), these.as_ref());
        }
    }
    if is_held {
        return remove(dir);
    }
    let new_name = free_name(dir);
    std::fs::rename(dir, &new_name).map_err(|cause| RecoveryError::Io {
        doing: "moving aside",
        path: dir.to_path_buf(),
        cause,
    })
}

fn remove(dir: &Path) -> Result<(), RecoveryError> {
    std::fs::remove_dir_all(dir).map_err(|cause| RecoveryError::Io {
        doing: "removing",
        path: dir.to_path_buf(),
        cause,
    })
}

#[cfg(test)]
mod tests;
