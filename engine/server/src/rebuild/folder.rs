//! The rows of one engine, from its base and its journal.

use std::path::Path;

use anyhow::bail;
use serde_json::json;

use super::left_json;
use crate::offline::Folder;
use crate::{Found, output, source};

/// Rebuilds the rows, and leaves the old ones aside.
///
/// # Errors
/// When an engine has the folder open, or the journal is damaged; [`Found`] when it holds records that are in no row.
pub(super) fn run(data: &Path, as_json: bool) -> anyhow::Result<()> {
    if source::running(data).is_some() {
        bail!("an engine has {} open; stop it first", data.display());
    }
    let (folder, lost) = Folder::rebuild(data)?;
    let position = folder.journal().end().get();
    let report = folder.report();
    let is_whole = report.left_out.is_empty() && report.unapplied.is_empty();
    if as_json {
        let (waiting, unapplied) = left_json(report.left_out.iter().copied(), &report.unapplied);
        output::json(&json!({
            "rebuilt": true,
            "position": position,
            "complete": is_whole,
            "lost": lost.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "waiting": waiting,
            "unapplied": unapplied,
        }))?;
    } else {
        words(&folder, position)?;
    }
    if is_whole { Ok(()) } else { Err(Found.into()) }
}

fn words(folder: &Folder, position: u64) -> anyhow::Result<()> {
    let report = folder.report();
    output::line(format!(
        "every row was rebuilt from the journal, up to position {position}; the rows before, if there were any, stand aside in rows.aside and can be deleted"
    ))?;
    for (store, records) in &report.left_out {
        output::line(format!(
            "not in the rows: {records} records of store {store}, whose registration is lost; they wait in the journal until a \
             terminal of it has said Hello and the engine was started again"
        ))?;
    }
    for one in &report.unapplied {
        output::line(format!("not in the rows: {one}"))?;
    }
    let records: u64 = report.unapplied.iter().map(|one| one.records).sum();
    if records > 0 {
        output::line(format!(
            "{records} records fit nowhere: other events came under their sequence numbers before them, or a newer epoch of their \
             terminal; they stay in the journal (`tillstream inspect journal --from POSITION`)"
        ))?;
    }
    Ok(())
}
