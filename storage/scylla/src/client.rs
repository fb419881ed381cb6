//! A connected cluster, for asynchronous callers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use scylla::client::execution_profile::{ExecutionProfile, ExecutionProfileHandle};
use scylla::client::session::Session;
use scylla::policies::load_balancing::{DefaultPolicy, LoadBalancingPolicy};
use scylla::policies::retry::{FallthroughRetryPolicy, RetryPolicy};
use scylla::statement::prepared::PreparedStatement;
use scylla::statement::{Consistency, SerialConsistency};

use crate::config::Keyspace;
use crate::error::CqlError;
use crate::retry::Patient;
use crate::server::Server;

/// Time for a plain write, with everything that is sent again.
const INGEST_TIMEOUT: Duration = Duration::from_secs(3);
/// Time for a conditional statement; after it the outcome is unknown and has to be read.
const LWT_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for a page of a read.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// What a statement is for: it decides time, consistency, and whether the driver may send it again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// A plain, idempotent write: 3 s, a local quorum, sent to another node when one fails.
    Ingest,
    /// A conditional statement: 2 s, local serial, never sent again by the driver.
    Lwt,
    /// A read: 30 s a page, a local quorum.
    Read,
}

/// Execution profiles by purpose.
pub(crate) struct Profiles {
    ingest: ExecutionProfileHandle,
    lwt: ExecutionProfileHandle,
    read: ExecutionProfileHandle,
}

impl Profiles {
    /// Profiles that stay within a data centre.
    pub(crate) fn of(datacenter: &str) -> Self {
        let nearby = DefaultPolicy::builder()
            .prefer_datacenter(datacenter.to_owned())
            .token_aware(true)
            .permit_dc_failover(false)
            .build();
        let patient: Arc<dyn RetryPolicy> = Arc::new(Patient);
        let once: Arc<dyn RetryPolicy> = Arc::new(FallthroughRetryPolicy);
        Self {
            ingest: profile(INGEST_TIMEOUT, Arc::clone(&patient), Arc::clone(&nearby)),
            lwt: profile(LWT_TIMEOUT, once, Arc::clone(&nearby)),
            read: profile(READ_TIMEOUT, patient, nearby),
        }
    }
}

fn profile(
    timeout: Duration,
    retry: Arc<dyn RetryPolicy>,
    nearby: Arc<dyn LoadBalancingPolicy>,
) -> ExecutionProfileHandle {
    ExecutionProfile::builder()
        .consistency(Consistency::LocalQuorum)
        .serial_consistency(Some(SerialConsistency::LocalSerial))
        .request_timeout(Some(timeout))
        .retry_policy(retry)
        .load_balancing_policy(nearby)
        .build()
        .into_handle()
}

/// A connected cluster. Asynchronous callers use it inside [`Cql::wait`](crate::Cql::wait).
pub struct Client {
    pub(crate) session: Session,
    pub(crate) keyspace: Keyspace,
    pub(crate) server: Server,
    pub(crate) datacenter: String,
    pub(crate) profiles: Profiles,
}

impl Client {
    /// The driver's session.
    pub const fn session(&self) -> &Session {
        &self.session
    }

    /// Where the tables are.
    pub const fn keyspace(&self) -> &Keyspace {
        &self.keyspace
    }

    /// What answers.
    pub const fn server(&self) -> &Server {
        &self.server
    }

    /// The data centre that is written to and read from.
    pub fn datacenter(&self) -> &str {
        &self.datacenter
    }

    /// A table with its keyspace, as it stands in a statement.
    pub fn table(&self, name: &str) -> String {
        format!("{}.{name}", self.keyspace.quoted())
    }

    /// The profile of a purpose, for batches.
    pub const fn profile(&self, purpose: Purpose) -> &ExecutionProfileHandle {
        match purpose {
            Purpose::Ingest => &self.profiles.ingest,
            Purpose::Lwt => &self.profiles.lwt,
            Purpose::Read => &self.profiles.read,
        }
    }

    /// Prepares a statement for its purpose. Prepare once and keep it: a clone is cheap.
    ///
    /// # Errors
    /// [`CqlError::Statement`], for instance when the table is not there.
    pub async fn prepare(
        &self,
        purpose: Purpose,
        what: &'static str,
        cql: &str,
    ) -> Result<PreparedStatement, CqlError> {
        let prepared = self.session.prepare(cql).await;
        let mut prepared = prepared.map_err(|error| CqlError::statement(what, error))?;
        prepared.set_execution_profile_handle(Some(self.profile(purpose).clone()));
        prepared.set_is_idempotent(purpose != Purpose::Lwt);
        Ok(prepared)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("keyspace", &self.keyspace)
            .field("server", &self.server)
            .field("datacenter", &self.datacenter)
            .finish_non_exhaustive()
    }
}
