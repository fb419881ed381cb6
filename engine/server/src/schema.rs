//! `tillstream schema`: the tables of a cluster.

use std::fs;
use std::sync::Arc;

use anyhow::Context;
use jiff::Timestamp;
use till_scylla::migrate::{Earlier, Migration};
use till_scylla::schema::{self, OLDEST, SchemaRequest, State, Status, VERSION};
use till_scylla::{Cql, Credentials, ScyllaConfig};

use crate::args::{ApplyArgs, ClusterArgs, MigrateArgs, SchemaCommand, SchemaStatusArgs};
use crate::output::Tenths;
use crate::rebuild::shared as rebuild;
use crate::{Found, Usage, output};

/// Makes the tables, or says what is there.
///
/// # Errors
/// [`Usage`] for a wrong address or name; [`Found`] when `status` found what this program cannot work with; others say what
/// kept the cluster from answering, or which wish it cannot meet.
pub(crate) fn run(command: &SchemaCommand) -> anyhow::Result<()> {
    match command {
        SchemaCommand::Apply(args) => apply(args),
        SchemaCommand::Status(args) => status(args),
        SchemaCommand::Migrate(args) => migrate(args),
    }
}

fn apply(args: &ApplyArgs) -> anyhow::Result<()> {
    let cql = connect(&args.cluster)?;
    let request = SchemaRequest {
        replication: args.replication,
        slots: args.slots,
    };
    note(&schema::apply(&cql, request)?, args.json)
}

fn status(args: &SchemaStatusArgs) -> anyhow::Result<()> {
    let status = schema::status(&connect(&args.cluster)?)?;
    note(&status, args.json)?;
    match status.is_usable() {
        true => Ok(()),
        false => Err(Found.into()),
    }
}

// The records first, then all that is made of them.
fn migrate(args: &MigrateArgs) -> anyhow::Result<()> {
    let from = ClusterArgs {
        keyspace: args.from.clone(),
        ..args.cluster.clone()
    };
    let from = Earlier::open(Arc::new(connect(&from)?))?;
    let migration = Migration::begin(from, &Arc::new(connect(&args.cluster)?))?;
    let store = Arc::clone(migration.store());
    let mut tenths = Tenths::default();
    let copied = migration.copy(&mut |done, of| tenths.note("of the slots copied", done, of))?;
    output::note(format!(
        "{} of {} copied from keyspace {}, which is as it was",
        output::counted(copied.records, "record"),
        output::counted(copied.slots, "slot"),
        args.from
    ));
    let is_whole = rebuild::make(store.as_ref(), args.scratch.clone(), args.json)?;
    migration.end()?;
    if is_whole { Ok(()) } else { Err(Found.into()) }
}

/// Connects to the cluster that the command line names.
///
/// # Errors
/// [`Usage`] for a wrong address or name; others say what kept the cluster from answering.
pub(crate) fn connect(args: &ClusterArgs) -> anyhow::Result<Cql> {
    let hosts = args.scylla.iter().map(String::as_str);
    let mut config = ScyllaConfig::new(hosts, &args.keyspace).map_err(|e| Usage(e.to_string()))?;
    config.ca_file.clone_from(&args.ca);
    config.datacenter.clone_from(&args.datacenter);
    if let (Some(user), Some(file)) = (&args.user, &args.password_file) {
        let password = fs::read_to_string(file);
        let password = password.with_context(|| format!("password file {}", file.display()))?;
        let password = password.trim_end_matches(['\r', '\n']).to_owned();
        config.credentials = Some(Credentials::new(user.clone(), password));
    }
    Ok(Cql::connect(&config)?)
}

fn note(status: &Status, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return output::json(&json(status));
    }
    words(status).iter().try_for_each(output::line)
}

fn json(status: &Status) -> serde_json::Value {
    serde_json::json!({
        "keyspace": status.keyspace,
        "state": status.state().name(),
        "usable": status.is_usable(),
        "version": status.version,
        "min_reader": status.min_reader,
        "program_version": VERSION,
        "applied_at": applied_at(status),
        "replication": status.replication,
        "slots": status.slots,
        "slots_missing": status.slots_missing,
        "copied_from": status.copied_from,
        "tables_missing": status.missing,
        "server": status.server.dialect.name(),
        "server_version": status.server.version,
        "datacenter": status.datacenter,
        "nodes": status.nodes,
    })
}

fn applied_at(status: &Status) -> Option<String> {
    let at = Timestamp::from_millisecond(status.applied_at_ms?).ok()?;
    Some(at.to_string())
}

fn words(status: &Status) -> Vec<String> {
    let mut lines = vec![format!(
        "{} {}, data centre {} with {} node{}",
        status.server.dialect.name(),
        status.server.version,
        status.datacenter,
        status.nodes,
        if status.nodes == 1 { "" } else { "s" },
    )];
    let version = status.version.unwrap_or(0);
    let keyspace = &status.keyspace;
    lines.push(match status.state() {
        State::Current => format!("keyspace {keyspace}: schema version {version}, complete"),
        State::Older if version < OLDEST => format!(
            "keyspace {keyspace}: schema version {version} of an earlier release; apply version {VERSION} to a new keyspace with as \
             many slots, and copy this one into it: `tillstream schema migrate --from {keyspace}`"
        ),
        State::Older => format!(
            "keyspace {keyspace}: schema version {version}; this program needs {VERSION}: run `tillstream schema apply`"
        ),
        State::Newer => format!(
            "keyspace {keyspace}: schema version {version}, for programs that know {} or later; this program knows {VERSION}",
            status.min_reader.unwrap_or(version)
        ),
        State::Foreign => {
            format!("keyspace {keyspace} has tables of something else, and none of Tillstream's")
        }
        State::Absent | State::Incomplete => format!(
            "keyspace {keyspace} is not ready ({}): run `tillstream schema apply`",
            status.lack()
        ),
    });
    if let Some(from) = &status.copied_from {
        lines.push(format!(
            "not all of keyspace {from} is copied yet: run `tillstream schema migrate --from {from}` until it succeeds"
        ));
    }
    if let (Some(copies), Some(slots)) = (status.replication, status.slots) {
        let at = applied_at(status).map_or_else(String::new, |at| format!(", applied at {at}"));
        lines.push(match copies {
            1 => format!("one copy of every row, {slots} slots{at}"),
            many => format!("{many} copies of every row, {slots} slots{at}"),
        });
    }
    lines
}
