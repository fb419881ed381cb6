//! The store that several engines share, as the commands use it.

use std::sync::Arc;

use till_ops::{Answer, Question};
use till_runtime::{CqlConfig, Query, Reply, answer_from};
use till_scylla::ScyllaStore;
use till_storage::cluster::SharedStore as _;

use crate::answer::{Knows, answer};
use crate::args::ClusterArgs;
use crate::schema;
use crate::silence::Silence;

/// A keyspace that is asked without an engine.
#[derive(Debug)]
pub(crate) struct Keyspace {
    store: Arc<ScyllaStore>,
    address: String,
}

impl Keyspace {
    /// Opens the keyspace that the command line names.
    ///
    /// # Errors
    /// What keeps the store from answering, or what its tables lack.
    pub(crate) fn open(args: &ClusterArgs) -> anyhow::Result<Self> {
        let cql = Arc::new(schema::connect(args)?);
        Ok(Self {
            store: Arc::new(ScyllaStore::open(cql)?),
            address: args.scylla.join(","),
        })
    }

    /// The store itself.
    pub(crate) fn into_store(self) -> Arc<ScyllaStore> {
        self.store
    }

    /// Answers a question with everything that is committed.
    ///
    /// # Errors
    /// When the store does not answer.
    pub(crate) fn answer(&self, question: &Question) -> anyhow::Result<Answer> {
        Ok(answer(self, question)?)
    }

    /// The records that engines handed off and that have no place.
    ///
    /// # Errors
    /// When the store does not answer.
    pub(crate) fn stranded(&self) -> anyhow::Result<Vec<serde_json::Value>> {
        let rows = till_runtime::stranded(self.store.as_ref())?;
        let rows = rows.iter().map(serde_json::to_value);
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

impl Knows for Keyspace {
    fn ask(&self, query: &Query) -> Result<Reply, String> {
        let (views, facts, query) = (self.store.views(), self.store.facts(), query.clone());
        let store = Arc::clone(&self.store);
        let ask = move || {
            let answer = answer_from(views.as_ref(), facts.as_ref(), &query);
            answer.map_err(|error| error.to_string())
        };
        let is_there = move || {
            let known = store.known_chain_key();
            known.map(drop).map_err(|error| error.to_string())
        };
        Silence::default().ask(&self.address, ask, is_there)
    }
}

/// Opens the store that a configuration names.
///
/// # Errors
/// What keeps the store from answering, or what its tables lack.
pub(crate) fn of_config(config: &CqlConfig) -> anyhow::Result<Arc<ScyllaStore>> {
    let args = ClusterArgs {
        scylla: config.hosts.clone(),
        keyspace: config.keyspace.clone(),
        datacenter: None,
        user: config.user.clone(),
        password_file: config.password_file.clone(),
        ca: config.ca.clone(),
    };
    Ok(Keyspace::open(&args)?.into_store())
}
