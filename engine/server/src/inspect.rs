//! `tillstream inspect journal`: segments and records, as they lie in the folder.

use serde::Serialize;
use till_core::{Outcome, Record, RecordKind};
use till_protocol::code::Reason;
use till_protocol::family::Family;
use till_protocol::id::TerminalId;
use till_runtime::Look;
use till_storage::journal::{Journal, Lsn};

use crate::args::JournalArgs;
use crate::{output, table};

#[derive(Serialize)]
struct RecordLine {
    start: u64,
    end: u64,
    base: Option<u64>,
    /// Bytes behind the end that are no whole group.
    torn: Option<u64>,
    segments: Vec<SegmentRow>,
    records: Vec<RecordRow>,
}

#[derive(Serialize)]
struct SegmentRow {
    file: String,
    start: u64,
    end: u64,
    bytes: u64,
    sealed: bool,
}

#[derive(Serialize)]
struct RecordRow {
    position: u64,
    kind: &'static str,
    terminal: String,
    epoch: u32,
    first_seq: u64,
    events: u32,
    skipped: u32,
    family: String,
    bytes: usize,
    received_at_us: i64,
    verdicts: Vec<String>,
}

/// Lists the journal of a folder that no engine has open. Changes nothing in it: an end that a crash tore is told and stays.
///
/// # Errors
/// Returns an error when an engine has the folder open, or the journal cannot be read.
pub(crate) fn run(args: &JournalArgs) -> anyhow::Result<()> {
    let opened = Look::open(&args.dir.data)?;
    let mut found = look(opened.journal(), Lsn::new(args.from), args.limit)?;
    found.torn = opened.torn().map(|torn| torn.bytes);
    if args.dir.json {
        return output::json(&found);
    }
    let base = found.base.map_or_else(
        || "no base".to_owned(),
        |base| format!("a base stands in for everything before position {base}"),
    );
    output::line(format!(
        "journal from position {} to {}; {base}",
        found.start, found.end
    ))?;
    if let Some(bytes) = found.torn {
        output::line(format!(
            "behind it lie {bytes} bytes of a group that is not whole; `tillstream doctor` says what they are"
        ))?;
    }
    print(&found.segments)?;
    if args.limit == 0 {
        return Ok(());
    }
    if found.records.is_empty() {
        return output::line(format!("no records from position {} on", args.from));
    }
    output::line("")?;
    print(&found.records)
}

fn print(rows: &[impl Serialize]) -> anyhow::Result<()> {
    let rows: Vec<_> = rows
        .iter()
        .map(serde_json::to_value)
        .collect::<Result<_, _>>()?;
    table::lines(&rows).iter().try_for_each(output::line)
}

fn look(journal: &Journal, from: Lsn, limit: usize) -> anyhow::Result<RecordLine> {
    let mut records = Vec::new();
    for record in journal.records(from.max(journal.start())).take(limit) {
        let (position, record) = record?;
        records.push(row(position, &record));
    }
    Ok(RecordLine {
        start: journal.start().get(),
        end: journal.end().get(),
        base: journal.base().map(Lsn::get),
        torn: None,
        segments: journal
            .segments()
            .iter()
            .map(|segment| SegmentRow {
                file: format!("{:020}.till", segment.start.get()),
                start: segment.start.get(),
                end: segment.end.get(),
                bytes: segment.end.since(segment.start),
                sealed: segment.sealed,
            })
            .collect(),
        records,
    })
}

fn row(position: Lsn, record: &Record) -> RecordRow {
    let head = &record.head;
    RecordRow {
        position: position.get(),
        kind: kind(head.kind),
        terminal: match head.kind {
            RecordKind::StoreRegistered => format!("store {}", head.terminal >> 32),
            _ => TerminalId::from_u64(head.terminal)
                .map_or_else(|_| head.terminal.to_string(), |id| id.to_string()),
        },
        epoch: head.epoch,
        first_seq: head.first_seq,
        events: head.count,
        skipped: head.skip,
        family: family(head.family, head.version),
        bytes: record.payload.len(),
        received_at_us: head.received_at_us,
        verdicts: record
            .verdicts
            .iter()
            .map(|verdict| {
                let which = match verdict.index {
                    till_core::Verdict::ALL => "all".to_owned(),
                    index => format!("#{index}"),
                };
                let flags: Vec<_> = till_core::flag::names(verdict.flags).collect();
                let reason = match verdict.reason {
                    0 => String::new(),
                    code => format!(" {}", Reason::from_code(code)),
                };
                format!(
                    "{which} {}{reason} {}",
                    outcome(verdict.outcome),
                    flags.join("+")
                )
                .trim_end()
                .to_owned()
            })
            .collect(),
    }
}

const fn kind(kind: RecordKind) -> &'static str {
    match kind {
        RecordKind::Batch => "batch",
        RecordKind::Tombstones => "tombstones",
        RecordKind::Duplicates => "duplicates",
        RecordKind::StoreRegistered => "store",
        RecordKind::Retry => "retry",
        RecordKind::SkuAlias => "sku alias",
        RecordKind::BaseRow => "base row",
    }
}

const fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Applied => "applied",
        Outcome::Duplicate => "duplicate",
        Outcome::Refused => "refused",
        Outcome::Quarantined => "quarantined",
    }
}

fn family(number: u8, version: u8) -> String {
    match (number, Family::from_u8(number)) {
        (0, _) => "-".to_owned(),
        (_, Some(family)) => format!("{} v{version}", family.name()),
        (_, None) => format!("{number} v{version}"),
    }
}
