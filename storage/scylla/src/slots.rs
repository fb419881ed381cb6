//! Slots and heartbeats: what the protocol of `till_storage::cluster` asks of a store, in CQL.

use std::fmt::Write as _;
use std::time::Duration;

use scylla::statement::Consistency;
use scylla::statement::prepared::PreparedStatement;
use till_storage::cluster::{Change, Conditional, Decided, NodeId, NodeRow, Seal, SlotRow};
use uuid::Uuid;

use crate::client::{Client, Purpose};
use crate::constraints::ConstraintStatements;
use crate::error::CqlError;
use crate::handoff::HandoffStatements;

/// The one partition of all nodes: there are a few dozen at most.
const NODES: i32 = 0;
/// The setting with the chain's key.
const CHAIN_KEY: &str = "chain_key";

/// The statements, prepared.
#[derive(Debug)]
pub(crate) struct Slots {
    all: PreparedStatement,
    one: PreparedStatement,
    acquire: PreparedStatement,
    commit: PreparedStatement,
    release: PreparedStatement,
    nodes: PreparedStatement,
    heartbeat: PreparedStatement,
    set: PreparedStatement,
    setting: PreparedStatement,
    pub(crate) handoff: HandoffStatements,
    pub(crate) constraints: ConstraintStatements,
}

type SlotColumns = (
    i32,
    i64,
    Option<Uuid>,
    Option<String>,
    i64,
    i64,
    Option<Vec<u8>>,
);
type NodeColumns = (Uuid, String, i64, i64, i64, bool, Option<i64>, Option<i64>);

impl Slots {
    /// Prepares the statements.
    ///
    /// # Errors
    /// [`CqlError::Statement`], for instance when the tables are not there.
    pub(crate) async fn prepare(client: &Client) -> Result<Self, CqlError> {
        let slots = client.table("slots");
        let nodes = client.table("nodes");
        let settings = client.table("settings");
        let columns = "slot, epoch, owner, address, flush, applied, seal";
        let read = |cql: String| async move { client.prepare(Purpose::Read, "slots", &cql).await };
        let change = |cql: String| async move { client.prepare(Purpose::Lwt, "slots", &cql).await };
        let write =
            |cql: String| async move { client.prepare(Purpose::Ingest, "slots", &cql).await };
        let mut one = read(format!("SELECT {columns} FROM {slots} WHERE slot = ?")).await?;
        // Ends what is still being decided, so that what is read is what holds.
        one.set_consistency(Consistency::LocalSerial);
        let mut setting = read(format!("SELECT value FROM {settings} WHERE name = ?")).await?;
        setting.set_consistency(Consistency::LocalSerial);
        Ok(Self {
            handoff: HandoffStatements::prepare(client).await?,
            constraints: ConstraintStatements::prepare(client).await?,
            setting,
            set: change(format!(
                "INSERT INTO {settings} (name, value) VALUES (?, ?) IF NOT EXISTS"
            ))
            .await?,
            all: read(format!("SELECT {columns} FROM {slots}")).await?,
            one,
            acquire: change(format!(
                "UPDATE {slots} SET owner = ?, address = ?, epoch = ? WHERE slot = ? IF epoch = ?"
            ))
            .await?,
            commit: change(format!(
                "UPDATE {slots} SET flush = ?, applied = ?, seal = ? WHERE slot = ? IF epoch = ? AND flush = ?"
            ))
            .await?,
            release: change(format!(
                "UPDATE {slots} SET owner = null, address = '', epoch = ?, applied = ? WHERE slot = ? IF epoch = ?"
            ))
            .await?,
            nodes: read(format!(
                "SELECT node, address, heartbeat, lease_ms, started_us, is_leaving, lag_ms, moves FROM {nodes} WHERE part = ?"
            ))
            .await?,
            heartbeat: write(format!(
                "INSERT INTO {nodes} (part, node, address, heartbeat, lease_ms, started_us, is_leaving, lag_ms, moves) \
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?"
            ))
            .await?,
        })
    }

    /// The key that all nodes share: the one that is there, or the one proposed.
    pub(crate) async fn chain_key(
        &self,
        client: &Client,
        proposed: [u8; 32],
    ) -> Result<[u8; 32], CqlError> {
        let text = proposed.iter().fold(String::new(), |mut text, byte| {
            // Writing to a String cannot fail.
            let _written = write!(text, "{byte:02x}");
            text
        });
        let key = self.settled(client, CHAIN_KEY, Some(text)).await?;
        let key = key.map(|text| key_of(&text)).transpose()?;
        key.ok_or_else(|| CqlError::answer("settings", "the chain's key is not there"))
    }

    /// The key that all nodes share, if one has set it.
    pub(crate) async fn known_chain_key(
        &self,
        client: &Client,
    ) -> Result<Option<[u8; 32]>, CqlError> {
        let key = self.settled(client, CHAIN_KEY, None).await?;
        key.map(|text| key_of(&text)).transpose()
    }

    /// What a setting has for good: what is there, or else what is proposed.
    pub(crate) async fn settled(
        &self,
        client: &Client,
        name: &str,
        proposed: Option<String>,
    ) -> Result<Option<String>, CqlError> {
        if let Some(text) = proposed {
            let set = client
                .session()
                .execute_unpaged(&self.set, (name, text))
                .await;
            // Whatever became of it, what is there tells.
            if let Err(error) = set {
                tracing::debug!(%error, name, "a setting may not have been written");
            }
        }
        let found = rows_of::<(String,)>(client, "settings", &self.setting, (name,)).await?;
        Ok(found.into_iter().next().map(|(text,)| text))
    }

    /// The rows of all slots, by slot.
    pub(crate) async fn all(&self, client: &Client) -> Result<Vec<SlotRow>, CqlError> {
        let mut rows: Vec<SlotRow> = Vec::new();
        for row in rows_of::<SlotColumns>(client, "slots", &self.all, ()).await? {
            rows.push(slot_row(row)?);
        }
        rows.sort_unstable_by_key(|row| row.slot);
        Ok(rows)
    }

    /// The row of a slot, after everything that was decided of it.
    pub(crate) async fn one(&self, client: &Client, slot: u32) -> Result<SlotRow, CqlError> {
        let key = (int(slot)?,);
        let mut rows = rows_of::<SlotColumns>(client, "slots", &self.one, key).await?;
        let missing = || CqlError::answer("slots", format!("there is no slot {slot}"));
        slot_row(rows.pop().ok_or_else(missing)?)
    }

    /// Changes a slot's row, if its condition holds. An error leaves open whether it happened.
    pub(crate) async fn decide(
        &self,
        client: &Client,
        constraint: &Conditional,
    ) -> Result<Decided, CqlError> {
        let slot = int(constraint.slot)?;
        let epoch = bigint(constraint.epoch)?;
        let session = client.session();
        let answer = match &constraint.change {
            Change::Acquire { owner, address } => {
                let owner = Uuid::from_bytes(owner.to_bytes());
                let values = (owner, address.as_str(), epoch + 1, slot, epoch);
                session.execute_unpaged(&self.acquire, values).await
            }
            Change::Commit {
                after,
                applied,
                seal,
            } => {
                let (after, applied) = (bigint(*after)?, applied.cast_signed());
                let seal = seal.encode();
                let values = (after + 1, applied, seal.as_slice(), slot, epoch, after);
                session.execute_unpaged(&self.commit, values).await
            }
            Change::Release { applied } => {
                let values = (epoch + 1, applied.cast_signed(), slot, epoch);
                session.execute_unpaged(&self.release, values).await
            }
        };
        let answer = answer.map_err(|error| CqlError::statement("slots", error))?;
        let rows = answer
            .into_rows_result()
            .map_err(|error| CqlError::answer("slots", error))?;
        // ScyllaDB answers with the row as well, Cassandra with the columns of the condition: the first column is common.
        let row = rows
            .single_row::<scylla::value::Row>()
            .map_err(|error| CqlError::answer("slots", error))?;
        let applied = row
            .columns
            .first()
            .and_then(|column| column.as_ref()?.as_boolean());
        match applied {
            Some(true) => Ok(Decided::Applied),
            Some(false) => Ok(Decided::Refused(None)),
            None => Err(CqlError::answer("slots", "no [applied] in the answer")),
        }
    }

    /// The heartbeats of all nodes.
    pub(crate) async fn nodes(&self, client: &Client) -> Result<Vec<NodeRow>, CqlError> {
        let rows = rows_of::<NodeColumns>(client, "nodes", &self.nodes, (NODES,)).await?;
        let rows = rows.into_iter().map(
            |(node, address, heartbeat, lease_ms, started_us, is_leaving, lag_ms, moves)| {
                Ok(NodeRow {
                    node: NodeId::from_bytes(node.into_bytes()),
                    address,
                    heartbeat: unsigned("nodes", heartbeat)?,
                    lease: Duration::from_millis(unsigned("nodes", lease_ms)?),
                    started_us,
                    is_leaving,
                    lag: Duration::from_millis(unsigned("nodes", lag_ms.unwrap_or(0))?),
                    moves: unsigned("nodes", moves.unwrap_or(0))?,
                })
            },
        );
        rows.collect()
    }

    /// Writes a heartbeat.
    pub(crate) async fn heartbeat(&self, client: &Client, row: &NodeRow) -> Result<(), CqlError> {
        let lease_ms = i64::try_from(row.lease.as_millis()).unwrap_or(i64::MAX);
        let heartbeat = bigint(row.heartbeat)?;
        let lag_ms = i64::try_from(row.lag.as_millis()).unwrap_or(i64::MAX);
        let values = (
            NODES,
            Uuid::from_bytes(row.node.to_bytes()),
            row.address.as_str(),
            heartbeat,
            lease_ms,
            row.started_us,
            row.is_leaving,
            lag_ms,
            bigint(row.moves)?,
            heartbeat,
        );
        let done = client
            .session()
            .execute_unpaged(&self.heartbeat, values)
            .await;
        done.map_err(|error| CqlError::statement("nodes", error))?;
        Ok(())
    }
}

// All rows of an answer, page by page.
pub(crate) async fn rows_of<R>(
    client: &Client,
    what: &'static str,
    statement: &PreparedStatement,
    values: impl scylla::serialize::row::SerializeRow,
) -> Result<Vec<R>, CqlError>
where
    R: for<'f, 'm> scylla::deserialize::row::DeserializeRow<'f, 'm> + 'static,
{
    use futures::TryStreamExt as _;
    let pager = client
        .session()
        .execute_iter(statement.clone(), values)
        .await;
    let pager = pager.map_err(|error| CqlError::answer(what, error))?;
    let rows = pager
        .rows_stream::<R>()
        .map_err(|error| CqlError::answer(what, error))?;
    let rows = rows.try_collect::<Vec<R>>().await;
    rows.map_err(|error| CqlError::answer(what, error))
}

fn slot_row(columns: SlotColumns) -> Result<SlotRow, CqlError> {
    let (slot, epoch, owner, address, flush, applied, seal) = columns;
    let flush = unsigned("slots", flush)?;
    let seal = match seal {
        Some(seal) if flush > 0 => Seal::decode(&seal)
            .ok_or_else(|| CqlError::answer("slots", format!("the seal of slot {slot} is none")))?,
        _ => Seal::default(),
    };
    Ok(SlotRow {
        slot: u32::try_from(slot).map_err(|error| CqlError::answer("slots", error))?,
        epoch: unsigned("slots", epoch)?,
        owner: owner.map(|owner| NodeId::from_bytes(owner.into_bytes())),
        address: address.unwrap_or_default(),
        flush,
        seal,
        // -1: unmade.
        applied: applied.cast_unsigned(),
    })
}

// 64 hexadecimal digits.
pub(crate) fn key_of(text: &str) -> Result<[u8; 32], CqlError> {
    let odd = || CqlError::answer("settings", "what stands for the chain's key is none");
    unhex(text).ok_or_else(odd)
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut key = [0_u8; 32];
    if text.len() != 64 {
        return None;
    }
    for (at, byte) in key.iter_mut().enumerate() {
        let digits = text.get(2 * at..2 * at + 2)?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(key)
}

pub(crate) fn int(number: u32) -> Result<i32, CqlError> {
    i32::try_from(number).map_err(|error| CqlError::answer("slots", error))
}

pub(crate) fn bigint(number: u64) -> Result<i64, CqlError> {
    i64::try_from(number).map_err(|error| CqlError::answer("slots", error))
}

pub(crate) fn unsigned(what: &'static str, number: i64) -> Result<u64, CqlError> {
    u64::try_from(number).map_err(|error| CqlError::answer(what, error))
}
