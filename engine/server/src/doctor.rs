//! `tillstream doctor`: what state a journal is in, and keeping what is whole of a damaged one.

use std::path::Path;

use anyhow::bail;
use till_runtime::{Examined, examine};
use till_storage::rebuild::LostRegistration;

use crate::args::DoctorArgs;
use crate::{Found, output, source};

/// Said of the folder of an engine that shares a store.
const JOURNAL_ALONE: &str = "the journal was checked and nothing else: the folder is that of an engine that shares a store \
                             with others, which has its rows and its stores' registrations";

/// Looks at every byte of the journal; with `--salvage` puts damaged segments aside and keeps the rest.
///
/// # Errors
/// [`Found`] when the journal is damaged and was left so, or when it lacks what its rows still know, which salvage does not
/// bring back; others when it cannot be read.
pub(crate) fn run(args: &DoctorArgs) -> anyhow::Result<()> {
    let dir = args.dir.data.join("journal");
    if !dir.is_dir() {
        bail!(
            "{} holds no data: it has no folder `journal`",
            args.dir.data.display()
        );
    }
    if source::running(&args.dir.data).is_some() {
        bail!(
            "an engine has {} open; stop it first",
            args.dir.data.display()
        );
    }
    let found = examine(&args.dir.data, args.salvage)?;
    if args.dir.json {
        output::json(&json(&found, args.salvage))?;
    } else {
        words(&found, args.salvage, &dir)?;
    }
    if found.is_sound() || (args.salvage && found.starts()) {
        Ok(())
    } else {
        Err(Found.into())
    }
}

fn json(found: &Examined, salvaged: bool) -> serde_json::Value {
    let report = &found.report;
    let wounds: Vec<_> = report
        .wounds
        .iter()
        .map(|wound| {
            serde_json::json!({
                "segment": wound.segment, "offset": wound.offset, "bytes": wound.bytes, "what": wound.what,
            })
        })
        .collect();
    serde_json::json!({
        "sound": found.is_sound(),
        "shared": found.is_shared,
        "salvaged": salvaged && !report.is_sound(),
        "segments": report.segments,
        "groups": report.groups,
        "records": report.records,
        "damaged": wounds,
        "missing": report.missing.iter().map(|(from, to)| [from.get(), to.get()]).collect::<Vec<_>>(),
        "lost": report.lost.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "lost_end": found.lost_end.as_ref().map(|end| serde_json::json!({
            "end": end.end, "rows": end.reach,
            "lost": end.lost.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })),
        "unregistered": found.unregistered.iter().map(|one| serde_json::json!({
            "store": one.store.get(), "records": one.records, "in_rows": one.in_rows,
        })).collect::<Vec<_>>(),
        "torn": report.torn.as_ref().map(|torn| torn.bytes),
        "aside": report.moved.iter().map(|path| path.display().to_string()).collect::<Vec<_>>(),
    })
}

fn words(found: &Examined, salvaged: bool, dir: &Path) -> anyhow::Result<()> {
    let report = &found.report;
    output::line(format!(
        "{}: {}, {}, {}",
        dir.display(),
        output::counted(report.segments, "segment"),
        output::counted(report.groups, "group"),
        output::counted(report.records, "record"),
    ))?;
    if let Some(torn) = &report.torn {
        output::line(format!(
            "the last group was torn by a crash ({} bytes in {}); it was never acknowledged, and the next start cuts it off",
            torn.bytes, torn.segment
        ))?;
    }
    for wound in &report.wounds {
        output::line(format!(
            "damaged: {} bytes at offset {} of {}: {}",
            wound.bytes, wound.offset, wound.segment, wound.what
        ))?;
    }
    for (from, to) in &report.missing {
        output::line(format!("missing: the segment from position {from} to {to}"))?;
    }
    for lost in &report.lost {
        output::line(format!("lost: {lost}"))?;
    }
    for one in &found.unregistered {
        output::line(unregistered(one))?;
    }
    if let Some(end) = &found.lost_end {
        output::line(end.to_string())?;
    }
    if found.is_shared {
        output::line(JOURNAL_ALONE)?;
    }
    if found.is_sound() {
        return output::line("the journal is sound");
    }
    if report.is_sound() {
        return output::line(if salvaged {
            "nothing was changed: no byte is damaged, and salvage cannot bring back what is not there"
        } else {
            "nothing was changed"
        });
    }
    for kept in &report.moved {
        output::line(format!("kept aside, unchanged: {}", kept.display()))?;
    }
    if !salvaged {
        return output::line(
            "nothing was changed. Restore the named segments from a copy, or run `tillstream doctor --salvage` to keep the rest",
        );
    }
    output::line(match found.lost_end.is_some() {
        false => {
            "salvaged: everything that is whole was kept at its place; the engine starts again"
        }
        true => {
            "salvaged: everything that is whole was kept at its place; the engine does not start before the loss of the end is \
             accepted, see above"
        }
    })?;
    if report.lost.is_empty() {
        return output::line("no event is known to be lost with what was moved away");
    }
    output::line(
        "devices that still have the lost events do not send them again by themselves: they were acknowledged",
    )
}

fn unregistered(one: &LostRegistration) -> String {
    let (store, records) = (one.store, one.records);
    let next = match (one.in_rows, records) {
        (true, _) => "the rows still know it, and the next start states it again in the journal",
        (false, 0) => "its next Hello registers it again",
        (false, _) => {
            "nobody knows it any more: a Hello of one of its terminals registers it again and is refused, and the next start \
             applies the records"
        }
    };
    format!(
        "lost: the registration of store {store}, of which the journal holds {records} records; {next}"
    )
}
