//! A keyspace of its own for each test.

use std::env;
use std::fmt::Write as _;
use std::process;
use std::sync::Arc;
use std::time::Duration;

use scylla::deserialize::row::DeserializeRow;
use scylla::statement::Statement;
use till_scylla::{Cql, CqlError, ScyllaConfig, ScyllaStore, schema};
use till_storage::cluster::{Maintenance, SharedStore, rebuild};
use till_storage::memory::MemoryViews;
use till_storage::views::{WriteViews, each_batch};

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

    /// A store of its own on this keyspace: it knows nothing that another has read.
    pub(crate) fn store(&self) -> ScyllaStore {
        ScyllaStore::open(Arc::new(self.another())).unwrap()
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

/// A keyspace of so many slots.
pub(crate) fn applied(name: &str, slots: u32) -> World {
    let world = World::new(name);
    let request = schema::SchemaRequest {
        replication: Some(1),
        slots: Some(slots),
    };
    schema::apply(&world.cql, request).unwrap();
    world
}

/// A keyspace of eight slots, and a store of it.
pub(crate) fn opened(name: &str) -> (World, ScyllaStore) {
    let world = applied(name, 8);
    let store = world.store();
    (world, store)
}

/// All rows of a chain, but for what depends on where records lie.
pub(crate) fn rows_of(store: &dyn SharedStore) -> String {
    let mut out = String::new();
    each_batch(store.views().as_ref(), 10_000, &mut |mut batch| {
        batch.stores.iter_mut().for_each(|(_, row)| row.applied = 0);
        let waiting = batch.quarantine.iter_mut();
        waiting
            .flat_map(|(_, row)| row)
            .for_each(|row| row.position = 0);
        write!(out, "{batch:#?}").unwrap();
        Ok(())
    })
    .unwrap();
    out
}

/// Rebuilds a chain; every record must come into a row.
pub(crate) fn remake(store: &dyn Maintenance) {
    let rebuilt = rebuild(
        store,
        &mut |_| -> Result<Box<dyn WriteViews>, _> { Ok(Box::new(MemoryViews::new())) },
        &mut |_| {},
    );
    let rebuilt = rebuilt.unwrap();
    assert_eq!((rebuilt.slots, rebuilt.unapplied), (1, Vec::new()));
}
