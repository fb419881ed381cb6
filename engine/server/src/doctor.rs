//! `tillstream doctor`: what state a journal is in, and keeping what is whole of a damaged one.

use std::path::Path;

use anyhow::bail;
use till_runtime::rows_reach;
use till_storage::disk::StdDisk;
use till_storage::doctor::{Report, doctor, salvage};

use crate::args::DoctorArgs;
use crate::{Found, output, source};

/// Looks at every byte of the journal; with `--salvage` puts damaged segments aside and keeps the rest.
///
/// # Errors
/// [`Found`] when the journal is damaged and was left so; others when it cannot be read.
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
    let known = rows_reach(&args.dir.data);
    let report = if args.salvage {
        salvage(&StdDisk, &dir, known)?
    } else {
        doctor(&StdDisk, &dir, known)?
    };
    if args.dir.json {
        output::json(&json(&report, args.salvage))?;
    } else {
        words(&report, args.salvage, &dir)?;
    }
    if report.is_sound() || args.salvage {
        Ok(())
    } else {
        Err(Found.into())
    }
}

fn json(report: &Report, salvaged: bool) -> serde_json::Value {
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
        "sound": report.is_sound(),
        "salvaged": salvaged && !report.is_sound(),
        "segments": report.segments,
        "groups": report.groups,
        "records": report.records,
        "damaged": wounds,
        "missing": report.missing.iter().map(|(from, to)| [from.get(), to.get()]).collect::<Vec<_>>(),
        "lost": report.lost.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "torn": report.torn.as_ref().map(|torn| torn.bytes),
        "aside": report.moved.iter().map(|path| path.display().to_string()).collect::<Vec<_>>(),
    })
}

fn words(report: &Report, salvaged: bool, dir: &Path) -> anyhow::Result<()> {
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
    if report.is_sound() {
        return output::line("the journal is sound");
    }
    for aside in &report.moved {
        output::line(format!("kept aside, unchanged: {}", aside.display()))?;
    }
    if !salvaged {
        return output::line(
            "nothing was changed. Restore the named segments from a copy, or run `tillstream doctor --salvage` to keep the rest",
        );
    }
    output::line(
        "salvaged: everything that is whole was kept at its place; the engine starts again",
    )?;
    if report.lost.is_empty() {
        return output::line("no event is known to be lost with what was set aside");
    }
    output::line(
        "devices that still have the lost events do not send them again by themselves: they were acknowledged",
    )
}
