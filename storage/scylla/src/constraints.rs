//! What operators want of engines, in CQL.

use std::collections::{BTreeMap, BTreeSet};

use scylla::statement::prepared::PreparedStatement;
use till_storage::cluster::{Constraint, Constraints};

use crate::client::{Client, Purpose};
use crate::error::CqlError;
use crate::slots::{int, rows_of};

/// The one partition of each table: there are a few rows.
const ALL: i32 = 0;

/// The statements, prepared.
#[derive(Debug)]
pub(crate) struct ConstraintStatements {
    slots: PreparedStatement,
    cordoned: PreparedStatement,
    place: PreparedStatement,
    unplace: PreparedStatement,
    drain: PreparedStatement,
    undrain: PreparedStatement,
}

impl ConstraintStatements {
    pub(crate) async fn prepare(client: &Client) -> Result<Self, CqlError> {
        let (constraints, cordoned) = (client.table("constraints"), client.table("cordoned"));
        let read =
            |cql: String| async move { client.prepare(Purpose::Read, "constraints", &cql).await };
        let write =
            |cql: String| async move { client.prepare(Purpose::Ingest, "constraints", &cql).await };
        Ok(Self {
            slots: read(format!(
                "SELECT slot, address FROM {constraints} WHERE part = ?"
            ))
            .await?,
            cordoned: read(format!("SELECT address FROM {cordoned} WHERE part = ?")).await?,
            place: write(format!(
                "INSERT INTO {constraints} (part, slot, address) VALUES (?, ?, ?)"
            ))
            .await?,
            unplace: write(format!(
                "DELETE FROM {constraints} WHERE part = ? AND slot = ?"
            ))
            .await?,
            drain: write(format!(
                "INSERT INTO {cordoned} (part, address) VALUES (?, ?)"
            ))
            .await?,
            undrain: write(format!(
                "DELETE FROM {cordoned} WHERE part = ? AND address = ?"
            ))
            .await?,
        })
    }

    /// All constraints that stand.
    pub(crate) async fn all(&self, client: &Client) -> Result<Constraints, CqlError> {
        let mut slots = BTreeMap::new();
        for (slot, address) in
            rows_of::<(i32, String)>(client, "constraints", &self.slots, (ALL,)).await?
        {
            let slot =
                u32::try_from(slot).map_err(|error| CqlError::answer("constraints", error))?;
            slots.insert(slot, address);
        }
        let cordoned = rows_of::<(String,)>(client, "cordoned", &self.cordoned, (ALL,)).await?;
        let cordoned: BTreeSet<String> = cordoned.into_iter().map(|(address,)| address).collect();
        Ok(Constraints { slots, cordoned })
    }

    /// Changes them.
    pub(crate) async fn change(
        &self,
        client: &Client,
        constraint: &Constraint,
    ) -> Result<(), CqlError> {
        let session = client.session();
        let done = match constraint {
            Constraint::Place {
                slot,
                address: Some(address),
            } => {
                let values = (ALL, int(*slot)?, address.as_str());
                session.execute_unpaged(&self.place, values).await
            }
            Constraint::Place {
                slot,
                address: None,
            } => {
                let values = (ALL, int(*slot)?);
                session.execute_unpaged(&self.unplace, values).await
            }
            Constraint::Drain {
                address,
                is_cordoned,
            } => {
                let statement = if *is_cordoned {
                    &self.drain
                } else {
                    &self.undrain
                };
                let values = (ALL, address.as_str());
                session.execute_unpaged(statement, values).await
            }
        };
        done.map_err(|error| CqlError::statement("constraints", error))?;
        Ok(())
    }
}
