//! `tillstream rebuild`: every derived row again, from what is kept of the events.

mod folder; // of one engine: from base and journal
pub(crate) mod shared; // of a chain: from the log of its slots

use serde_json::json;
use till_protocol::id::StoreId;
use till_storage::rebuild::Unapplied;

use crate::args::RebuildArgs;

/// Rebuilds the rows of a folder, or of a shared store.
///
/// # Errors
/// When an engine works on them, or what they are made from is damaged; [`Found`](crate::Found) when it holds records that are
/// in no row.
pub(crate) fn run(args: &RebuildArgs) -> anyhow::Result<()> {
    match (&args.data, args.shared.cluster()) {
        (_, Some(cluster)) => shared::run(&cluster, args),
        (Some(data), None) => folder::run(data, args.json),
        (None, None) => {
            Err(crate::Usage("name a folder with --data, or a shared store".to_owned()).into())
        }
    }
}

// What is in no row: records that wait for their store's registration, and those that fit nowhere.
fn left_json(
    left_out: impl Iterator<Item = (StoreId, u64)>,
    unapplied: &[Unapplied],
) -> (Vec<serde_json::Value>, Vec<String>) {
    let waiting =
        left_out.map(|(store, records)| json!({ "store": store.get(), "records": records }));
    let unapplied = unapplied.iter().map(ToString::to_string);
    (waiting.collect(), unapplied.collect())
}
