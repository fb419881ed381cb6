//! `tillstream rebuild`: every derived row again, from what is kept of the events.

mod folder; // of one engine: from base and journal
pub(crate) mod shared; // of a chain: from the log of its slots

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
