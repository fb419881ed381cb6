//! A keyspace of its own for each test.

use std::env;
use std::process;
use std::sync::Arc;
use std::time::Duration;

use scylla::deserialize::row::DeserializeRow;
use scylla::statement::Statement;
use till_scylla::{Cql, CqlError, ScyllaConfig, ScyllaStore, schema};

/// A connected cluster and the name of a keyspace that nobody else uses; the keyspace goes when the test ends.
pub(crate) struct World {
    pub(crate) cql: Cql,
}

impl World {
    /// A world for the test of this name.
    pub(crate) fn new(test: &str) -> Self {
        let keyspace = format!("{test}_{}", process::id());
        let world = Self {
            cql: connect(&keyspace),
        };
        world.run(&format!("DROP KEYSPACE IF EXISTS {keyspace}"));
        world
    }

    /// Another connection to the same keyspace.
    pub(crate) fn another(&self) -> Cql {
        connect(self.keyspace())
    }

    pub(crate) fn keyspace(&self) -> &str {
        self.cql.client().keyspace().name()
    }

    /// Runs a statement.
    pub(crate) fn run(&self, cql: &str) {
        if let Err(error) = self.tried(cql) {
            panic!("{cql}: {error}");
        }
    }

    /// The first row that a query gives.
    pub(crate) fn first<R>(&self, cql: &str) -> Option<R>
    where
        R: for<'f, 'm> DeserializeRow<'f, 'm> + Send + 'static,
    {
        let client = Arc::clone(self.cql.client());
        let statement = Statement::new(cql);
        let row = self.cql.wait(async move {
            let answer = client.session().query_unpaged(statement, ()).await;
            let answer = answer.map_err(|error| CqlError::statement("a test's query", error))?;
            let rows = answer.into_rows_result();
            let rows = rows.map_err(|error| CqlError::answer("a test's query", error))?;
            let row = rows.maybe_first_row::<R>();
            row.map_err(|error| CqlError::answer("a test's query", error))
        });
        row.unwrap()
    }

    /// Runs a statement that may fail.
    pub(crate) fn tried(&self, cql: &str) -> Result<(), CqlError> {
        let client = Arc::clone(self.cql.client());
        let mut statement = Statement::new(cql);
        // Keyspaces of other tests are made and dropped beside it, one after another.
        statement.set_request_timeout(Some(Duration::from_secs(180)));
        self.cql.wait(async move {
            let answer = client.session().query_unpaged(statement, ()).await;
            answer
                .map(drop)
                .map_err(|error| CqlError::statement("a test's statement", error))
        })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let drop_it = format!("DROP KEYSPACE IF EXISTS {}", self.keyspace());
        drop(self.tried(&drop_it));
    }
}

fn connect(keyspace: &str) -> Cql {
    let address =
        env::var("TILL_CQL").expect("TILL_CQL=HOST:PORT names a server; see tests/cql/run");
    let config = ScyllaConfig::new([address.as_str()], keyspace).unwrap();
    Cql::connect(&config).unwrap()
}

/// A keyspace of eight slots, and a store of it.
pub(crate) fn opened(name: &str) -> (World, ScyllaStore) {
    let world = World::new(name);
    let small = schema::SchemaRequest {
        replication: Some(1),
        slots: Some(8),
    };
    schema::apply(&world.cql, small).unwrap();
    let store = ScyllaStore::open(Arc::new(world.another())).unwrap();
    (world, store)
}
