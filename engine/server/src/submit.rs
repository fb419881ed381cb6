//! `tillstream submit`: the journal of an engine that will never run again, for the engines that are left.

use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use serde_json::Value;
use till_runtime::Submitted;
use till_storage::cluster::SharedStore;

use crate::args::{ClusterArgs, SubmitArgs};
use crate::shared::Keyspace;
use crate::source::Running;
use crate::{Found, Usage, output};

/// Time between two looks at what still waits.
const LOOK: Duration = Duration::from_millis(200);

/// Hands everything over that is in the journal and in no commit, and waits until it is taken in.
///
/// # Errors
/// [`Usage`] when no store is named; [`Found`] when something was not taken in, in time; others say what kept the journal
/// from being read, or the store from taking it.
pub(crate) fn run(args: &SubmitArgs) -> anyhow::Result<()> {
    let store = Keyspace::open(&target(args)?)?.into_store();
    let done = till_runtime::submit(store.as_ref(), &args.journal)?;
    if let Some(torn) = &done.torn {
        output::note(format!(
            "the last group was torn by a crash ({} bytes in {}) and is left out; it was never acknowledged",
            torn.bytes, torn.segment
        ));
    }
    let waiting = wait(store.as_ref(), &done, args.wait)?;
    if args.json {
        output::json(&json(&done, waiting))?;
    } else {
        output::line(words(&done))?;
    }
    if waiting == 0 {
        return Ok(());
    }
    output::note(format!(
        "{} of {} were not taken in yet; what is handed off stays in the store until the engine that has its slot takes it in: \
         look at `tillstream shards list`",
        waiting,
        output::counted(done.chunks, "chunk"),
    ));
    match args.wait.is_zero() {
        true => Ok(()),
        false => Err(Found.into()),
    }
}

// The store: as named, or as an engine that runs says.
fn target(args: &SubmitArgs) -> anyhow::Result<ClusterArgs> {
    if let Some(cluster) = args.shared.cluster() {
        return Ok(cluster);
    }
    let mut silent = Vec::new();
    for address in &args.addr {
        let engine = Running::at(address);
        match engine.get("/api/v1/status") {
            Ok(text) => return notes(args, address, &text),
            Err(error) => silent.push(format!("{error:#}")),
        }
    }
    if silent.is_empty() {
        let usage = "say where the records go: --scylla HOST:PORT with --keyspace NAME, or --addr URL of an engine that runs";
        return Err(Usage(usage.to_owned()).into());
    }
    bail!(
        "{}; --addr names the admin port of an engine, or give --scylla and --keyspace",
        silent.join("; ")
    )
}

fn notes(args: &SubmitArgs, address: &str, text: &str) -> anyhow::Result<ClusterArgs> {
    let status: Value = serde_json::from_str(text)
        .with_context(|| format!("what answers at {address} is no engine"))?;
    let store = status.pointer("/figures/cluster/store");
    let alone = || anyhow!("the engine at {address} shares no store: it has rows of its own");
    let store = store.filter(|store| store.is_object()).ok_or_else(alone)?;
    let hosts = store.get("hosts").and_then(Value::as_array);
    let hosts = hosts.into_iter().flatten().filter_map(Value::as_str);
    let keyspace = store.get("keyspace").and_then(Value::as_str);
    Ok(ClusterArgs {
        scylla: hosts.map(str::to_owned).collect(),
        keyspace: keyspace.unwrap_or_default().to_owned(),
        datacenter: None,
        user: args.shared.user.clone(),
        password_file: args.shared.password_file.clone(),
        ca: args.shared.ca.clone(),
    })
}

// Pieces that nobody has taken in when the time is over.
fn wait(store: &dyn SharedStore, done: &Submitted, patience: Duration) -> anyhow::Result<usize> {
    let began = Instant::now();
    loop {
        let waiting = store.waiting()?;
        let ours = waiting.iter().filter(|(_, from, _)| *from == done.from);
        let left = ours.count();
        if left == 0 || began.elapsed() >= patience {
            return Ok(left);
        }
        std::thread::sleep(LOOK);
    }
}

fn json(done: &Submitted, waiting: usize) -> Value {
    serde_json::json!({
        "records": done.records,
        "chunks": done.chunks,
        "slots": done.slots,
        "waiting": waiting,
        "from": done.from.to_string(),
        "committed": done.committed,
        "end": done.end,
    })
}

fn words(done: &Submitted) -> String {
    if done.records == 0 {
        return format!(
            "nothing to submit: its engine had seen everything committed up to the end of the journal ({})",
            done.end
        );
    }
    format!(
        "{} of {} handed off, in {}",
        output::counted(done.records, "record"),
        output::counted(u64::try_from(done.slots.len()).unwrap_or(u64::MAX), "slot"),
        output::counted(done.chunks, "chunk"),
    )
}
