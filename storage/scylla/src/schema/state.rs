//! What is there.

use std::collections::{BTreeSet, HashMap};

use scylla::value::CqlTimestamp;

use super::ask::{read as reading, rows, serial_read};
use super::error::SchemaError;
use super::{OLDEST, VERSION, tables};
use crate::client::Client;
use crate::error::CqlError;
use crate::server::Server;

/// The setting that holds the number of slots.
pub(super) const SLOTS: &str = "slots";
/// The setting that names the keyspace which is being copied into this one.
pub(super) const COPIED_FROM: &str = "copied_from";
/// The row of `schema_version` that speaks of the tables.
pub(super) const PART: &str = "tables";

/// Where a keyspace stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// There is no such keyspace, or nothing in it.
    Absent,
    /// It has tables of something else.
    Foreign,
    /// It was begun and not ended, or something was lost.
    Incomplete,
    /// An earlier program made it.
    Older,
    /// All is as this program makes it.
    Current,
    /// A later program made it.
    Newer,
}

impl State {
    /// The state in a word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Foreign => "foreign",
            Self::Incomplete => "incomplete",
            Self::Older => "older",
            Self::Current => "current",
            Self::Newer => "newer",
        }
    }
}

/// What a keyspace holds.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Status {
    /// The keyspace.
    pub keyspace: String,
    /// What answers.
    pub server: Server,
    /// The data centre that is written to and read from.
    pub datacenter: String,
    /// Nodes in that data centre, whether they live or not.
    pub nodes: u32,
    /// Whether the keyspace is there.
    pub exists: bool,
    /// Copies of every row in that data centre; `None` where the keyspace does not say.
    pub replication: Option<u32>,
    /// Version of the schema; `None` where it was never applied to the end.
    pub version: Option<i32>,
    /// What a program has to know to use it.
    pub min_reader: Option<i32>,
    /// When that version was applied, in ms since 1970-01-01 UTC.
    pub applied_at_ms: Option<i64>,
    /// Number of slots; `None` where it is not fixed yet.
    pub slots: Option<u32>,
    /// Rows of `slots` that are not there, of those that should be.
    pub slots_missing: u32,
    /// Tables that are not there, of those that this program knows.
    pub missing: Vec<String>,
    /// The keyspace that is being copied into this one; nobody but the copy uses it meanwhile.
    pub copied_from: Option<String>,
    /// Tables that are there.
    pub(super) present: BTreeSet<String>,
}

impl Status {
    /// Where the keyspace stands.
    pub fn state(&self) -> State {
        let complete = self.missing.is_empty() && self.slots.is_some() && self.slots_missing == 0;
        match self.version {
            _ if self.present.is_empty() => State::Absent,
            _ if !self.present.contains("schema_version") => State::Foreign,
            Some(version) if version > VERSION => State::Newer,
            Some(version) if version < VERSION => State::Older,
            Some(_) if complete => State::Current,
            _ => State::Incomplete,
        }
    }

    /// Whether this program can work with the keyspace as it is.
    pub fn is_usable(&self) -> bool {
        self.usable().is_ok()
    }

    /// The number of slots, if this program can work with the keyspace as it is.
    pub(super) fn usable(&self) -> Result<u32, SchemaError> {
        let readable = self.min_reader.is_some_and(|least| least <= VERSION);
        let keyspace = self.keyspace.clone();
        if let Some(from) = self.copied_from.clone() {
            return Err(SchemaError::Copied { keyspace, from });
        }
        match (self.state(), self.slots) {
            (State::Foreign, _) => Err(SchemaError::Foreign { keyspace }),
            (State::Newer, _) if !readable => Err(self.newer()),
            (State::Older, _) => Err(self.older()),
            (State::Current | State::Newer, Some(slots)) => Ok(slots),
            _ => Err(SchemaError::Missing {
                keyspace,
                what: self.lack(),
            }),
        }
    }

    pub(super) fn newer(&self) -> SchemaError {
        let found = self.version.unwrap_or(0);
        SchemaError::Newer {
            keyspace: self.keyspace.clone(),
            found,
            min_reader: self.min_reader.unwrap_or(found),
            known: VERSION,
        }
    }

    /// What is to be done about a schema of an earlier program.
    pub(super) fn older(&self) -> SchemaError {
        let (keyspace, found) = (self.keyspace.clone(), self.version.unwrap_or(0));
        let known = VERSION;
        match found < OLDEST {
            true => SchemaError::Outdated {
                keyspace,
                found,
                known,
            },
            false => SchemaError::Older {
                keyspace,
                found,
                known,
            },
        }
    }

    /// What is not there, in words; empty where nothing is missing.
    pub fn lack(&self) -> String {
        if !self.exists {
            return "there is no such keyspace".to_owned();
        }
        let mut lack = Vec::new();
        if !self.missing.is_empty() {
            lack.push(format!("no table {}", self.missing.join(", ")));
        }
        if self.slots.is_none() {
            lack.push("no number of slots".to_owned());
        }
        if self.slots_missing > 0 {
            lack.push(format!("{} slots without a row", self.slots_missing));
        }
        if self.version.is_none() {
            lack.push("never applied to the end".to_owned());
        }
        lack.join("; ")
    }
}

/// Looks at everything.
///
/// # Errors
/// [`CqlError`] when the cluster does not answer.
pub(super) async fn read(client: &Client) -> Result<Status, CqlError> {
    let name = client.keyspace().name().to_owned();
    let replication = replication(client, &name).await?;
    let present = present(client, &name).await?;
    let mut status = Status {
        keyspace: name,
        server: client.server().clone(),
        datacenter: client.datacenter().to_owned(),
        nodes: nodes(client),
        exists: replication.is_some(),
        replication: replication.and_then(|map| copies(&map, client.datacenter())),
        version: None,
        min_reader: None,
        applied_at_ms: None,
        slots: None,
        slots_missing: 0,
        missing: Vec::new(),
        copied_from: None,
        present,
    };
    let known = tables().into_iter().map(|table| table.name);
    status.missing = known
        .filter(|table| !status.present.contains(table))
        .collect();
    if status.present.contains("schema_version")
        && let Some((version, min_reader, CqlTimestamp(at))) = version(client).await?
    {
        status.version = Some(version);
        status.min_reader = Some(min_reader);
        status.applied_at_ms = Some(at);
    }
    // A schema that only a later program can read may have other tables of these names.
    if status.min_reader.is_some_and(|least| least > VERSION) {
        return Ok(status);
    }
    if status.present.contains("settings") {
        status.slots = slots(client).await?;
        status.copied_from = setting(client, COPIED_FROM).await?;
    }
    if let Some(slots) = status.slots {
        let there = match status.present.contains("slots") {
            true => slot_rows(client).await?.len(),
            false => 0,
        };
        let there = u32::try_from(there).unwrap_or(u32::MAX);
        status.slots_missing = slots.saturating_sub(there);
    }
    Ok(status)
}

fn nodes(client: &Client) -> u32 {
    let state = client.session().get_cluster_state();
    let nearby = state.get_nodes_info().iter();
    let nearby = nearby.filter(|node| node.datacenter.as_deref() == Some(client.datacenter()));
    u32::try_from(nearby.count()).unwrap_or(u32::MAX)
}

async fn replication(
    client: &Client,
    keyspace: &str,
) -> Result<Option<HashMap<String, String>>, CqlError> {
    const ASK: &str = "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = ?";
    let statement = reading(client, ASK.to_owned());
    let found = rows::<(HashMap<String, String>,)>(client, "keyspace", statement, (keyspace,));
    Ok(found.await?.into_iter().next().map(|(map,)| map))
}

/// Copies in a data centre: a number, or the names of the racks that have one each.
fn copies(replication: &HashMap<String, String>, datacenter: &str) -> Option<u32> {
    let value = replication
        .get(datacenter)
        .or_else(|| replication.get("replication_factor"))?;
    // A transient copy stands behind a slash.
    let number = value.split('/').next().and_then(|full| full.parse().ok());
    number.or_else(|| {
        let racks = value.strip_prefix('[')?.strip_suffix(']')?;
        u32::try_from(
            racks
                .split(',')
                .filter(|rack| !rack.trim().is_empty())
                .count(),
        )
        .ok()
    })
}

async fn present(client: &Client, keyspace: &str) -> Result<BTreeSet<String>, CqlError> {
    const ASK: &str = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?";
    let statement = reading(client, ASK.to_owned());
    let found = rows::<(String,)>(client, "tables", statement, (keyspace,)).await?;
    Ok(found.into_iter().map(|(name,)| name).collect())
}

/// Version, oldest reader and time.
pub(super) async fn version(client: &Client) -> Result<Option<(i32, i32, CqlTimestamp)>, CqlError> {
    let ask = format!(
        "SELECT version, min_reader, applied_at FROM {} WHERE part = ?",
        client.table("schema_version")
    );
    let found = rows(client, "schema_version", serial_read(client, ask), (PART,));
    Ok(found.await?.into_iter().next())
}

/// The number of slots that is fixed.
pub(super) async fn slots(client: &Client) -> Result<Option<u32>, CqlError> {
    let Some(value) = setting(client, SLOTS).await? else {
        return Ok(None);
    };
    let slots = value
        .parse()
        .map_err(|_| CqlError::answer("settings", format!("slots = `{value}`")))?;
    Ok(Some(slots))
}

/// What a setting says.
async fn setting(client: &Client, name: &str) -> Result<Option<String>, CqlError> {
    let table = client.table("settings");
    let ask = format!("SELECT value FROM {table} WHERE name = ?");
    let found = rows::<(String,)>(client, "settings", serial_read(client, ask), (name,));
    Ok(found.await?.into_iter().next().map(|(value,)| value))
}

/// The slots that have a row.
pub(super) async fn slot_rows(client: &Client) -> Result<BTreeSet<i32>, CqlError> {
    let ask = format!("SELECT slot FROM {}", client.table("slots"));
    let found = rows::<(i32,)>(client, "slots", reading(client, ask), ()).await?;
    Ok(found.into_iter().map(|(slot,)| slot).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replication(key: &str, value: &str) -> HashMap<String, String> {
        HashMap::from([(key.to_owned(), value.to_owned())])
    }

    #[test]
    fn copies_are_read_in_every_form_that_servers_have() {
        let cases = [
            ("dc1", "3", Some(3)),
            ("dc1", "3/1", Some(3)),
            ("dc1", "['r1', 'r2']", Some(2)),
            ("dc1", "[]", Some(0)),
            ("replication_factor", "2", Some(2)),
            ("dc2", "3", None),
            ("dc1", "many", None),
        ];
        for (key, value, wanted) in cases {
            assert_eq!(
                copies(&replication(key, value), "dc1"),
                wanted,
                "{key} {value}"
            );
        }
    }
}
