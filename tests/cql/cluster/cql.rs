//! The server as a person with a CQL shell sees it, and its nodes as processes.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use futures::TryStreamExt as _;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::deserialize::row::DeserializeRow;
use tokio::runtime::Runtime;

/// A session that shares nothing with the engines but the driver.
pub(crate) struct Cql {
    runtime: Runtime,
    session: Session,
}

impl Cql {
    /// Connects to nodes, each HOST:PORT, with commas between.
    pub(crate) fn connect(hosts: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let hosts: Vec<&str> = hosts.split(',').collect();
        let session = SessionBuilder::new().known_nodes(&hosts);
        let session = runtime.block_on(session.build());
        let session = session.context("connect by CQL")?;
        Ok(Self { runtime, session })
    }

    /// Runs a statement.
    pub(crate) fn run(&self, text: &str) -> Result<()> {
        let done = self.session.query_unpaged(text, ());
        self.runtime
            .block_on(done)
            .with_context(|| text.to_owned())?;
        Ok(())
    }

    /// Every row that a statement gives.
    pub(crate) fn rows<R>(&self, text: &str) -> Result<Vec<R>>
    where
        R: for<'f, 'm> DeserializeRow<'f, 'm> + 'static,
    {
        let reading = async {
            let pages = self.session.query_iter(text, ()).await?;
            let rows = pages.rows_stream::<R>()?;
            anyhow::Ok(rows.try_collect::<Vec<R>>().await?)
        };
        self.runtime
            .block_on(reading)
            .with_context(|| text.to_owned())
    }
}

/// Where the server is: TILL_CQL=HOST:PORT[,HOST:PORT...].
pub(crate) fn server() -> Result<String> {
    std::env::var("TILL_CQL").context("TILL_CQL=HOST:PORT names a server; see tests/cql/run")
}

/// The nodes of a server that tests may stop, from 1: TILL_CQL_DIR names the folder in which `tests/cql/cassandra` started them.
/// Whatever a test did to them, they run again when this is dropped.
pub(crate) struct Nodes {
    folder: PathBuf,
    frozen: Vec<u32>,
    dead: Vec<u32>,
}

impl Nodes {
    pub(crate) fn find() -> Result<Self> {
        let folder = std::env::var("TILL_CQL_DIR");
        let folder = folder.context("TILL_CQL_DIR names the folder of the server's nodes")?;
        Ok(Self {
            folder: PathBuf::from(folder),
            frozen: Vec::new(),
            dead: Vec::new(),
        })
    }

    /// Stops a node where it is (SIGSTOP).
    pub(crate) fn freeze(&mut self, node: u32) -> Result<()> {
        self.frozen.push(node);
        self.tell("pause", node)
    }

    /// Lets a frozen node go on (SIGCONT).
    pub(crate) fn thaw(&mut self, node: u32) -> Result<()> {
        self.tell("resume", node)?;
        self.frozen.retain(|one| *one != node);
        Ok(())
    }

    /// Ends a node as a power cut of its machine would (SIGKILL).
    pub(crate) fn kill(&mut self, node: u32) -> Result<()> {
        self.dead.push(node);
        self.tell("kill", node)
    }

    /// Starts a dead node again on its data, and waits until it answers.
    pub(crate) fn start(&mut self, node: u32) -> Result<()> {
        self.tell("up", node)?;
        self.dead.retain(|one| *one != node);
        Ok(())
    }

    fn tell(&self, word: &str, node: u32) -> Result<()> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("cql/cassandra");
        let status = Command::new(script)
            .arg(word)
            .arg(&self.folder)
            .arg(node.to_string())
            .status()
            .context("start tests/cql/cassandra")?;
        ensure!(status.success(), "cassandra {word} {node}: {status}");
        Ok(())
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        // The test has failed already where one of these does.
        for node in std::mem::take(&mut self.frozen) {
            drop(self.thaw(node));
        }
        for node in std::mem::take(&mut self.dead) {
            drop(self.start(node));
        }
    }
}
