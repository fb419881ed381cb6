//! Whether the engine may be sent events, and if not, why and what to do.

use till_storage::journal::State;

use crate::lifecycle::engine::Engine;

use crate::figures::FlushState;
use crate::figures::ingress::PkiMetrics;
use crate::observe::metrics::read;

/// One thing that must hold for the engine to be ready.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Check {
    /// Short name.
    pub name: &'static str,
    /// Whether it holds.
    pub ok: bool,
    /// What is the case, in one sentence.
    pub reason: String,
    /// What to do about it; empty when there is nothing to do.
    pub hint: &'static str,
}

/// All checks of one moment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Health {
    /// The checks, in the order in which to look at them.
    pub checks: Vec<Check>,
}

impl Health {
    /// Whether every check holds.
    pub fn is_ready(&self) -> bool {
        self.checks.iter().all(|check| check.ok)
    }
}

pub(crate) fn health(engine: &Engine) -> Health {
    let metrics = read(engine);
    let check = |name, ok, good: &str, bad: String, hint| Check {
        name,
        ok,
        reason: if ok { good.to_owned() } else { bad },
        hint: if ok { "" } else { hint },
    };
    let down: Vec<usize> = metrics
        .shards
        .iter()
        .filter(|shard| !shard.is_running)
        .map(|shard| shard.shard)
        .collect();
    let held = metrics.shards.iter().any(|shard| {
        engine
            .slots
            .get(shard.shard)
            .is_some_and(|slot| slot.gate.is_paused())
    });
    let parked: Vec<String> = metrics
        .shards
        .iter()
        .flat_map(|shard| &shard.parked_terminals)
        .map(ToString::to_string)
        .collect();
    let commit = metrics.commit.state;
    let mut health = Health {
        checks: vec![
            check(
                "draining",
                !engine.is_draining(),
                "the engine takes devices in",
                "the engine is about to stop".to_owned(),
                "Wait for its end, or ask another one.",
            ),
            check(
                "journal",
                commit == State::Running,
                "the journal makes records durable",
                why_not(commit),
                "Free some room on the disk of the data folder; it goes on by itself.",
            ),
            check(
                "shards",
                down.is_empty(),
                "every shard runs",
                format!("shards that take no events: {down:?}"),
                "Look at the log; one that stays down starts again with the engine.",
            ),
            stores(engine.waiting.words()),
            terminals(&parked),
            certificates(&metrics.pki),
            rows(metrics.flush.state, held),
        ],
    };
    health.checks.extend(of_cluster(engine));
    health
}

// Whether rows are written. Held: devices wait, as too many are not.
fn rows(flush: FlushState, held: bool) -> Check {
    let ok = flush == FlushState::Running && !held;
    let reason = if ok {
        "rows follow the journal".to_owned()
    } else if held {
        "too many changed rows wait for the disk: devices are held back".to_owned()
    } else {
        format!("rows are not written: {}", flush.name())
    };
    let hint = match flush {
        _ if ok => "",
        FlushState::Unread => "`journal_reads` says why, and what to do.",
        _ => "Look at room and speed of the disk, or at the shared store.",
    };
    Check {
        name: "flush",
        ok,
        reason,
        hint,
    }
}

// What is to be said of an engine that shares a store with others.
fn of_cluster(engine: &Engine) -> Vec<Check> {
    let Some(cluster) = engine.row_backend.cluster() else {
        return Vec::new();
    };
    let (open, wanted) = (cluster.open_slots(), cluster.wanted_slots());
    vec![
        heartbeat(cluster.is_alive()),
        read_back(cluster.unread.words()),
        intake(cluster.intake.words()),
        slots(open, wanted, cluster.store.slots()),
    ]
}

fn heartbeat(is_alive: bool) -> Check {
    let (reason, hint) = if is_alive {
        ("the shared store hears this engine", "")
    } else {
        (
            "the shared store does not hear this engine: others may take its stores; what is journalled waits for it",
            "Look at the shared store and the way to it; it goes on by itself.",
        )
    };
    Check {
        name: "cluster",
        ok: is_alive,
        reason: reason.to_owned(),
        hint,
    }
}

// What is durable and cannot be read back is in no commit, nor is what comes behind it: sums are too small while it lasts.
fn read_back(unread: Option<(String, &'static str)>) -> Check {
    let ok = unread.is_none();
    let (reason, hint) = unread.unwrap_or_else(|| {
        let reason = "what is to be committed is read back from the journal".to_owned();
        (reason, "")
    });
    Check {
        name: "journal_reads",
        ok,
        reason,
        hint,
    }
}

// Devices keep what is not taken: another engine may see the store.
fn intake(pause: Option<String>) -> Check {
    let ok = pause.is_none();
    let (reason, hint) = match pause {
        None => ("frames are taken in".to_owned(), ""),
        Some(cause) => (
            format!(
                "frames that need rows of the shared store are not taken, devices keep them: {cause}"
            ),
            "Look at the shared store and the way to it; it goes on by itself.",
        ),
    };
    Check {
        name: "intake",
        ok,
        reason,
        hint,
    }
}

// While it takes its slots over, devices find others or come again: no reason to send all of them elsewhere.
fn slots(open: usize, wanted: u32, all: u32) -> Check {
    Check {
        name: "slots",
        ok: true,
        reason: format!("{open} of {all} slots are served here, {wanted} should be"),
        hint: "",
    }
}

fn why_not(commit: State) -> String {
    match commit {
        State::Full => {
            "the disk is full: nothing is acknowledged, nothing acknowledged is lost".to_owned()
        }
        other => format!("the journal is {}", other.name()),
    }
}

// What is durable and in no answer is a reason: sums are too small until a person has acted.
fn stores(waiting: Option<String>) -> Check {
    let name = "stores";
    match waiting {
        Some(reason) => Check {
            name,
            ok: false,
            reason,
            hint: "A Hello registers a store again; the next start applies what waits. Or stop the engine, and run `tillstream \
                   rebuild` where old rows still know the store.",
        },
        None => Check {
            name,
            ok: true,
            reason: "every record of the journal has a registered store".to_owned(),
            hint: "",
        },
    }
}

// One till that is kept out is no reason to send all others elsewhere: it is told, and the engine stays ready.
fn terminals(parked: &[String]) -> Check {
    let name = "terminals";
    if parked.is_empty() {
        return Check {
            name,
            ok: true,
            reason: "no terminal is parked".to_owned(),
            hint: "",
        };
    }
    Check {
        name,
        ok: true,
        reason: format!(
            "{} parked, because what they send makes their shard fail: {}",
            parked.len(),
            parked.join(", ")
        ),
        hint: "They keep their events and are let in when the engine starts again; report it, with the log.",
    }
}

// The certificates before serve on: told, and no reason to send every device to engines that read the same file.
fn certificates(pki: &PkiMetrics) -> Check {
    let (reason, hint) = match (&pki.trouble, &pki.overdue) {
        (Some(trouble), _) => (
            format!("certificates and revocation lists are as they were before: {trouble}"),
            "Put the file right; it is read again by itself.",
        ),
        (None, Some(authority)) => (
            format!("the revocation list of {authority} is past its time and stays in force"),
            "Fetch the next list of the authority; it is read by itself.",
        ),
        (None, None) => (
            "certificates and revocation lists are those of the files".to_owned(),
            "",
        ),
    };
    Check {
        name: "certificates",
        ok: true,
        reason,
        hint,
    }
}
