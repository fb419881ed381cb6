//! `tillstream retain`: what is old goes from the log of a chain.

use jiff::Timestamp;
use serde_json::json;
use till_storage::cluster::{RetainRequest, Retained, retain};

use crate::args::RetainArgs;
use crate::output::{self, Tenths, counted};
use crate::rebuild::shared::Scratch;
use crate::shared::Keyspace;

/// Microseconds of a day.
const DAY_US: i64 = 86_400_000_000;

/// Drops records that were received before so many days, and says what came of it.
///
/// # Errors
/// What kept them from being dropped.
pub(crate) fn run(args: &RetainArgs) -> anyhow::Result<()> {
    let store = Keyspace::open(&args.cluster)?.into_store();
    let scratch = Scratch::new(args.scratch.clone())?;
    let now_us = Timestamp::now().as_microsecond();
    let request = RetainRequest {
        before_us: now_us - i64::from(args.days) * DAY_US,
        run: uuid::Uuid::new_v4().into_bytes(),
    };
    let mut tenths = Tenths::default();
    let retained = retain(
        store.as_ref(),
        request,
        &mut |slot| scratch.of_slot(slot),
        &mut |(done, of)| tenths.note("of the slots looked at", done.into(), of.into()),
    )?;
    match args.json {
        true => output::json(&as_json(&retained)),
        false => words(&retained, args.days),
    }
}

fn as_json(retained: &Retained) -> serde_json::Value {
    json!({
        "slots": retained.slots,
        "records": retained.records,
        "base_bytes": retained.base_bytes,
    })
}

fn words(retained: &Retained, days: u32) -> anyhow::Result<()> {
    if retained.records == 0 {
        return output::line(format!(
            "nothing of the log is older than {}",
            counted(days, "day")
        ));
    }
    output::line(format!(
        "{} of {} dropped; {} MB of rows stand in for them",
        counted(retained.records, "record"),
        counted(retained.slots, "slot"),
        retained.base_bytes.div_ceil(1_000_000),
    ))
}
