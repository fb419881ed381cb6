//! The store that several engines share, as the commands use it.

use std::sync::Arc;

use till_ops::{Answer, Question};
use till_runtime::{CqlConfig, Query, Reply, answer_from};
use till_scylla::ScyllaStore;
use till_storage::cluster::SharedStore as _;

use crate::answer::{Knows, answer};
use crate::args::ClusterArgs;
use crate::schema;

/// A keyspace that is asked without an engine.
#[derive(Debug)]
pub(crate) struct Keyspace(ScyllaStore);

impl Keyspace {
    /// Opens the keyspace that the command line names.
    ///
    /// # Errors
    /// What keeps the store from answering, or what its tables lack.
    pub(crate) fn open(args: &ClusterArgs) -> anyhow::Result<Self> {
        let cql = Arc::new(schema::connect(args)?);
        Ok(Self(ScyllaStore::open(cql)?))
    }

    /// The store itself.
    pub(crate) fn into_store(self) -> ScyllaStore {
        self.0
    }

    /// Answers a question with everything that is committed.
    ///
    /// # Errors
    /// When the store does not answer.
    pub(crate) fn answer(&self, question: &Question) -> anyhow::Result<Answer> {
        Ok(answer(self, question)?)
    }
}

impl Knows for Keyspace {
    fn ask(&self, query: &Query) -> Result<Reply, String> {
        let (views, facts) = (self.0.views(), self.0.facts());
        answer_from(views.as_ref(), facts.as_ref(), query).map_err(|error| error.to_string())
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
    Ok(Arc::new(Keyspace::open(&args)?.0))
}
