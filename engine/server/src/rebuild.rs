//! `tillstream rebuild`: every derived row again, from the base and the journal.

use anyhow::bail;

use crate::args::DirArgs;
use crate::offline::Folder;
use crate::{output, source};

/// Moves the rows aside and makes them anew.
///
/// # Errors
/// When an engine has the folder open, or the journal is damaged.
pub(crate) fn run(args: &DirArgs) -> anyhow::Result<()> {
    if source::running(&args.data).is_some() {
        bail!("an engine has {} open; stop it first", args.data.display());
    }
    let folder = Folder::rebuild(&args.data)?;
    let position = folder.journal().end().get();
    if args.json {
        return output::json(&serde_json::json!({ "rebuilt": true, "position": position }));
    }
    output::line(format!(
        "every row was made anew from the journal, up to position {position}; the rows before, if there were any, stand aside in rows.aside and can be deleted"
    ))
}
