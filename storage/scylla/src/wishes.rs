//! What operators want of engines, in CQL.

use std::collections::{BTreeMap, BTreeSet};

use scylla::statement::prepared::PreparedStatement;
use till_storage::cluster::{Wish, Wishes};

use crate::client::{Client, Purpose};
use crate::error::CqlError;
use crate::slots::{int, rows_of};

/// The one partition of each table: there are a few rows.
const ALL: i32 = 0;

/// The statements, prepared.
#[derive(Debug)]
pub(crate) struct WishStatements {
    slots: PreparedStatement,
    drained: PreparedStatement,
    place: PreparedStatement,
    unplace: PreparedStatement,
    drain: PreparedStatement,
    undrain: PreparedStatement,
}

impl WishStatements {
    pub(crate) async fn prepare(client: &Client) -> Result<Self, CqlError> {
        let (wishes, drained) = (client.table("wishes"), client.table("drained"));
        let read = |cql: String| async move { client.prepare(Purpose::Read, "wishes", &cql).await };
        let write =
            |cql: String| async move { client.prepare(Purpose::Ingest, "wishes", &cql).await };
        Ok(Self {
            slots: read(format!("SELECT slot, address FROM {wishes} WHERE part = ?")).await?,
            drained: read(format!("SELECT address FROM {drained} WHERE part = ?")).await?,
            place: write(format!(
                "INSERT INTO {wishes} (part, slot, address) VALUES (?, ?, ?)"
            ))
            .await?,
            unplace: write(format!("DELETE FROM {wishes} WHERE part = ? AND slot = ?")).await?,
            drain: write(format!(
                "INSERT INTO {drained} (part, address) VALUES (?, ?)"
            ))
            .await?,
            undrain: write(format!(
                "DELETE FROM {drained} WHERE part = ? AND address = ?"
            ))
            .await?,
        })
    }

    /// All wishes that stand.
    pub(crate) async fn all(&self, client: &Client) -> Result<Wishes, CqlError> {
        let mut slots = BTreeMap::new();
        for (slot, address) in
            rows_of::<(i32, String)>(client, "wishes", &self.slots, (ALL,)).await?
        {
            let slot = u32::try_from(slot).map_err(|error| CqlError::answer("wishes", error))?;
            slots.insert(slot, address);
        }
        let drained = rows_of::<(String,)>(client, "drained", &self.drained, (ALL,)).await?;
        let drained: BTreeSet<String> = drained.into_iter().map(|(address,)| address).collect();
        Ok(Wishes { slots, drained })
    }

    /// Changes them.
    pub(crate) async fn change(&self, client: &Client, wish: &Wish) -> Result<(), CqlError> {
        let session = client.session();
        let done = match wish {
            Wish::Place {
                slot,
                address: Some(address),
            } => {
                let values = (ALL, int(*slot)?, address.as_str());
                session.execute_unpaged(&self.place, values).await
            }
            Wish::Place {
                slot,
                address: None,
            } => {
                let values = (ALL, int(*slot)?);
                session.execute_unpaged(&self.unplace, values).await
            }
            Wish::Drain {
                address,
                is_drained,
            } => {
                let statement = if *is_drained {
                    &self.drain
                } else {
                    &self.undrain
                };
                let values = (ALL, address.as_str());
                session.execute_unpaged(statement, values).await
            }
        };
        done.map_err(|error| CqlError::statement("wishes", error))?;
        Ok(())
    }
}
