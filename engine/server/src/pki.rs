//! `tillstream pki`: the identities of an own authority.

use jiff::Timestamp;
use till_gateway::Authority;

use crate::args::{DirArgs, IssueArgs, PkiCommand, RevokeArgs};
use crate::{output, table};

/// Makes an identity, takes one back, or shows what was taken back.
///
/// # Errors
/// When the folder has no authority of its own, or a file cannot be read or written.
pub(crate) fn run(command: &PkiCommand) -> anyhow::Result<()> {
    match command {
        PkiCommand::Issue(args) => issue(args),
        PkiCommand::Revoke(args) => revoke(args),
        PkiCommand::List(args) => list(args),
    }
}

fn issue(args: &IssueArgs) -> anyhow::Result<()> {
    let authority = Authority::open(&args.dir.data)?;
    let seconds = u32::try_from(args.valid.as_secs())?;
    let issued = authority.issue(&args.names, seconds, &args.out)?;
    let ends = Timestamp::from_second(issued.ends_s)?;
    if args.dir.json {
        let file = args.out.display().to_string();
        return output::json(&serde_json::json!({
            "identity": file, "serial": issued.serial, "ends": ends.to_string(),
        }));
    }
    output::line(format!(
        "{}: serial {}, counts until {ends}",
        args.out.display(),
        issued.serial
    ))
}

fn revoke(args: &RevokeArgs) -> anyhow::Result<()> {
    let authority = Authority::open(&args.dir.data)?;
    let serial = match (&args.serial, &args.identity) {
        (Some(serial), _) => serial.clone(),
        (None, Some(file)) => authority.serial(file)?,
        // clap asks for one of them.
        (None, None) => String::new(),
    };
    let is_news = authority.revoke(&serial)?;
    if args.dir.json {
        return output::json(&serde_json::json!({ "serial": serial, "revoked": is_news }));
    }
    output::line(if is_news {
        format!("revoked {serial}; an engine on this folder closes its connections within seconds")
    } else {
        format!("{serial} was revoked before")
    })
}

fn list(args: &DirArgs) -> anyhow::Result<()> {
    let revoked = Authority::open(&args.data)?.revoked()?;
    let rows = revoked.iter().map(|one| {
        let since = Timestamp::from_second(one.since_s)?;
        Ok(serde_json::json!({ "serial": one.serial, "since": since.to_string() }))
    });
    let rows: Vec<_> = rows.collect::<anyhow::Result<_>>()?;
    if args.json {
        return output::json(&serde_json::json!({ "rows": rows }));
    }
    table::lines(&rows).iter().try_for_each(output::line)
}
