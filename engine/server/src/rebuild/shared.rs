//! The facts and rows of a chain, from the committed log of its slots.

use std::path::PathBuf;
use std::{fs, process};

use anyhow::{Context, bail};
use serde_json::json;
use till_embedded::{EmbeddedConfig, EmbeddedViews};
use till_storage::cluster::{Maintenance, NodeRow, RebuildStep, Rebuilt, SharedStore, rebuild};
use till_storage::views::{StoreError, WriteViews};

use super::left_json;
use crate::args::{ClusterArgs, RebuildArgs};
use crate::output::{Tenths, counted};
use crate::shards::fleet;
use crate::shared::Keyspace;
use crate::{Found, output};

pub(super) fn run(cluster: &ClusterArgs, args: &RebuildArgs) -> anyhow::Result<()> {
    let store = Keyspace::open(cluster)?.into_store();
    must_rest(store.as_ref())?;
    let is_whole = make(store.as_ref(), args.scratch.clone(), args.json)?;
    if is_whole { Ok(()) } else { Err(Found.into()) }
}

/// Makes all facts and rows, and says what came of it. Gives whether every record is in a row.
///
/// # Errors
/// What kept them from being made.
pub(crate) fn make(
    store: &dyn Maintenance,
    scratch: Option<PathBuf>,
    in_json: bool,
) -> anyhow::Result<bool> {
    let scratch = Scratch::new(scratch)?;
    let mut tenths = Tenths::default();
    let rebuilt = rebuild(store, &mut |slot| scratch.of_slot(slot), &mut |step| {
        let (what, done, of) = match step {
            RebuildStep::Read(done, of) => ("of the log read", done, of),
            RebuildStep::Made(done, of) => ("of the slots rebuilt", done, of),
        };
        tenths.note(what, done, of);
    })?;
    let is_whole = rebuilt.left_out.is_empty() && rebuilt.unapplied.is_empty();
    match in_json {
        true => output::json(&as_json(&rebuilt, is_whole))?,
        false => words(&rebuilt)?,
    }
    Ok(is_whole)
}

// Engines that show a heartbeat would write rows meanwhile.
fn must_rest(store: &dyn SharedStore) -> anyhow::Result<()> {
    let nodes = store.nodes()?;
    let silent = fleet::silent(store, &nodes)?;
    let lives = |node: &&NodeRow| !silent.contains(&node.node);
    let alive: Vec<&str> = nodes
        .iter()
        .filter(lives)
        .map(|node| node.address.as_str())
        .collect();
    if !alive.is_empty() {
        bail!(
            "{} of this chain {}: {}; stop every one of them first",
            counted(alive.len(), "engine"),
            if alive.len() == 1 { "runs" } else { "run" },
            alive.join(", ")
        );
    }
    Ok(())
}

/// The folder in which the rows of one slot after another are made.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(dir: Option<PathBuf>) -> anyhow::Result<Self> {
        let dir = dir.unwrap_or_else(std::env::temp_dir);
        let dir = dir.join(format!("tillstream-rows-{}", process::id()));
        fs::create_dir_all(&dir).with_context(|| format!("folder {}", dir.display()))?;
        Ok(Self(dir))
    }

    pub(crate) fn of_slot(&self, slot: u32) -> Result<Box<dyn WriteViews>, StoreError> {
        let failed = |cause: String| StoreError::Failed {
            table: "scratch",
            cause,
        };
        // That of the slot before is not needed any more.
        fs::remove_dir_all(&self.0).map_err(|error| failed(error.to_string()))?;
        let dir = self.0.join(slot.to_string());
        fs::create_dir_all(&dir).map_err(|error| failed(error.to_string()))?;
        let rows = EmbeddedViews::open(EmbeddedConfig::new(dir));
        Ok(Box::new(rows.map_err(|error| failed(error.to_string()))?))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left of it is in a folder for temporary files.
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::debug!(%error, "the scratch folder stays");
        }
    }
}

fn as_json(rebuilt: &Rebuilt, is_whole: bool) -> serde_json::Value {
    let left_out = rebuilt.left_out.iter();
    let left_out = left_out.map(|(store, records)| (*store, *records));
    let (waiting, unapplied) = left_json(left_out, &rebuilt.unapplied);
    json!({
        "rebuilt": true,
        "slots": rebuilt.slots,
        "records": rebuilt.records,
        "rows": rebuilt.rows,
        "complete": is_whole,
        "waiting": waiting,
        "unapplied": unapplied,
    })
}

fn words(rebuilt: &Rebuilt) -> anyhow::Result<()> {
    output::line(format!(
        "{} rebuilt from {} of {}",
        counted(rebuilt.rows, "row"),
        counted(rebuilt.records, "record"),
        counted(rebuilt.slots, "slot"),
    ))?;
    for (store, records) in &rebuilt.left_out {
        let records = counted(*records, "record");
        output::line(format!(
            "not in the rows: {records} of store {store}, whose registration is lost"
        ))?;
    }
    for one in &rebuilt.unapplied {
        output::line(format!("not in the rows: {one}"))?;
    }
    Ok(())
}
