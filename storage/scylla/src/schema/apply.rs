//! Making the tables, and bringing them up to date.

use std::sync::Arc;
use std::time::Duration;

use scylla::policies::load_balancing::{NodeIdentifier, SingleTargetLoadBalancingPolicy};
use scylla::statement::Statement;
use till_storage::cluster::{SLOTS_DEFAULT, SLOTS_MAX};

use super::ask::settle;
use super::error::SchemaError;
use super::state::{self, PART, SLOTS, State, Status};
use super::text::{Variables, statements};
use super::{MIN_READER, OLDEST, VERSION};
use crate::client::Client;
use crate::error::CqlError;
use crate::session::Cql;

/// Time for a table to be made and known to every node.
const TABLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Copies of a keyspace that does not say how many, where there are nodes enough: one node may be lost.
const REPLICATION_DEFAULT: u32 = 3;

/// What a schema should be like. What is not said stays as it is, or is as usual: three copies, or one per node where there are
/// fewer; 256 slots.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SchemaRequest {
    /// Copies of every row.
    pub replication: Option<u32>,
    /// Slots that stores are dealt to. Fixed when the schema is first applied.
    pub slots: Option<u32>,
}

/// Makes the keyspace and its tables, or brings them up to date; says what is there then. Can be repeated, and run at the same
/// time from several places: every statement does nothing where its work is done.
///
/// # Errors
/// [`SchemaError`] says which wish cannot be met. Those are found before anything is changed.
pub fn apply(cql: &Cql, request: SchemaRequest) -> Result<Status, SchemaError> {
    let client = Arc::clone(cql.client());
    cql.wait(async move { apply_on(&client, request).await })
}

async fn apply_on(client: &Client, request: SchemaRequest) -> Result<Status, SchemaError> {
    let before = state::read(client).await?;
    let replication = replication(&before, request)?;
    may_apply(&before, request)?;
    if before.state() == State::Current {
        return Ok(before);
    }
    let variables = Variables {
        keyspace: client.keyspace().clone(),
        datacenter: client.datacenter().to_owned(),
        replication,
        server: client.server().clone(),
    };
    // From the beginning where something is missing: what is there is left alone.
    let from = match before.state() {
        State::Older => before.version.unwrap_or(0),
        _ => 0,
    };
    make(client, statements(from, &variables)).await?;
    let slots = fix_slots(client, request).await?;
    fill_slots(client, slots).await?;
    set_version(client, before.version).await?;
    let after = state::read(client).await?;
    after.usable()?;
    Ok(after)
}

/// How many copies the keyspace has or is to have.
fn replication(before: &Status, request: SchemaRequest) -> Result<u32, SchemaError> {
    if request.replication == Some(0) {
        return Err(SchemaError::NoCopies);
    }
    if let Some(wanted) = request.replication
        && wanted > before.nodes
    {
        return Err(SchemaError::TooFewNodes {
            wanted,
            nodes: before.nodes,
            datacenter: before.datacenter.clone(),
        });
    }
    if !before.exists {
        let usual = REPLICATION_DEFAULT.min(before.nodes).max(1);
        return Ok(request.replication.unwrap_or(usual));
    }
    let fixed = before.replication.unwrap_or(0);
    match request.replication {
        Some(wanted) if wanted != fixed => Err(SchemaError::Replication {
            keyspace: before.keyspace.clone(),
            datacenter: before.datacenter.clone(),
            fixed,
            wanted,
        }),
        _ => Ok(fixed),
    }
}

fn may_apply(before: &Status, request: SchemaRequest) -> Result<(), SchemaError> {
    if let Some(wanted) = request.slots
        && !(1..=SLOTS_MAX).contains(&wanted)
    {
        return Err(SchemaError::SlotsRange {
            wanted,
            max: SLOTS_MAX,
        });
    }
    match before.state() {
        State::Newer => return Err(before.newer()),
        State::Foreign => {
            return Err(SchemaError::Foreign {
                keyspace: before.keyspace.clone(),
            });
        }
        State::Older if before.version.unwrap_or(0) < OLDEST => return Err(before.older()),
        State::Absent | State::Incomplete | State::Older | State::Current => (),
    }
    match before.slots {
        Some(fixed) => same_slots(before.keyspace.clone(), fixed, request),
        None => Ok(()),
    }
}

fn same_slots(keyspace: String, fixed: u32, request: SchemaRequest) -> Result<(), SchemaError> {
    match request.slots {
        Some(wanted) if wanted != fixed => Err(SchemaError::Slots {
            keyspace,
            fixed,
            wanted,
        }),
        _ => Ok(()),
    }
}

/// Runs statements one after another on one node, the same for everybody who applies: a node of Cassandra does them one at a
/// time, while two nodes that make a table at the same time make two tables of one name.
async fn make(client: &Client, statements: Vec<String>) -> Result<(), CqlError> {
    let state = client.session().get_cluster_state();
    let nearby = state.get_nodes_info().iter().filter(|node| {
        node.is_connected() && node.datacenter.as_deref() == Some(client.datacenter())
    });
    let first = nearby.min_by_key(|node| node.host_id);
    let policy = first.map(|node| {
        SingleTargetLoadBalancingPolicy::new(NodeIdentifier::HostId(node.host_id), None)
    });
    for cql in statements {
        let mut statement = Statement::new(cql);
        statement.set_request_timeout(Some(TABLE_TIMEOUT));
        statement.set_load_balancing_policy(policy.clone());
        let made = client.session().query_unpaged(statement, ()).await;
        made.map_err(|error| CqlError::statement("make the tables", error))?;
    }
    Ok(())
}

/// Fixes the number of slots, unless it is.
async fn fix_slots(client: &Client, request: SchemaRequest) -> Result<u32, SchemaError> {
    let table = client.table("settings");
    let set = format!("INSERT INTO {table} (name, value) VALUES (?, ?) IF NOT EXISTS");
    let wanted = request.slots.unwrap_or(SLOTS_DEFAULT).to_string();
    settle(client, "fix the number of slots", &set, (SLOTS, wanted)).await?;
    let keyspace = client.keyspace().name().to_owned();
    let Some(fixed) = state::slots(client).await? else {
        return Err(SchemaError::Missing {
            keyspace,
            what: "no number of slots".to_owned(),
        });
    };
    // Another may have been quicker, with another wish.
    same_slots(keyspace, fixed, request)?;
    Ok(fixed)
}

/// Gives every slot its row, so that later ones only change what is there. Conditional like all that follow: plain and
/// conditional writes of a row must not mix.
async fn fill_slots(client: &Client, slots: u32) -> Result<(), CqlError> {
    let there = state::slot_rows(client).await?;
    let table = client.table("slots");
    let insert = format!(
        "INSERT INTO {table} (slot, epoch, flush, applied) VALUES (?, 0, 0, 0) IF NOT EXISTS"
    );
    let slots = i32::try_from(slots).unwrap_or(i32::MAX);
    for slot in (0..slots).filter(|slot| !there.contains(slot)) {
        settle(client, "give every slot its row", &insert, (slot,)).await?;
    }
    Ok(())
}

/// Says that all is done. Last, so that a version is never said of tables that are not there.
async fn set_version(client: &Client, found: Option<i32>) -> Result<(), CqlError> {
    const WHAT: &str = "note the version";
    let table = client.table("schema_version");
    match found {
        None => {
            let insert = format!(
                "INSERT INTO {table} (part, version, min_reader, applied_at) VALUES (?, ?, ?, toTimestamp(now())) IF NOT EXISTS"
            );
            settle(client, WHAT, &insert, (PART, VERSION, MIN_READER)).await
        }
        Some(found) if found < VERSION => {
            let update = format!(
                "UPDATE {table} SET version = ?, min_reader = ?, applied_at = toTimestamp(now()) WHERE part = ? IF version = ?"
            );
            let values = (VERSION, MIN_READER, PART, found);
            settle(client, WHAT, &update, values).await
        }
        Some(_) => Ok(()),
    }
}
