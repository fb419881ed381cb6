//! A keyspace of a test's own, and the engines and devices that use it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;
use till_tests::{Engine, command, json_of, wait_until};

use crate::cql::{Cql, server};

/// Slots of every keyspace.
pub(crate) const SLOTS: usize = 16;
/// How long a silent engine keeps its slots.
const LEASE: Duration = Duration::from_secs(2);
/// Its slots are served elsewhere so long after that.
const TAKEOVER: Duration = Duration::from_secs(4);
/// Stores of every fleet: the fewest that leave no slot without a store, so that whoever has a slot has transactions.
const STORES: &str = "40";

/// A keyspace with its tables, dropped at the end, and a folder for data.
pub(crate) struct World {
    pub(crate) server: String,
    pub(crate) keyspace: String,
    pub(crate) cql: Cql,
    folder: TempDir,
}

/// What a fleet does.
#[derive(Clone, Copy)]
pub(crate) struct Workload {
    pub(crate) seconds: u32,
    pub(crate) rate: u32,
    pub(crate) seed: u32,
    /// SKUs of the chain.
    pub(crate) skus: u32,
}

impl Workload {
    /// A trade of some seconds, at a rate that a loaded machine keeps up with.
    pub(crate) const fn of(seconds: u32, seed: u32) -> Self {
        Self {
            seconds,
            rate: 300,
            seed,
            skus: 200,
        }
    }
}

impl World {
    /// The server at TILL_CQL, and a keyspace for the test of this name.
    pub(crate) fn new(test: &str) -> Result<Self> {
        let server = server()?;
        let cql = Cql::connect(&server)?;
        let keyspace = format!("till_{test}_{}", std::process::id());
        cql.run(&format!("DROP KEYSPACE IF EXISTS {keyspace}"))?;
        let slots = SLOTS.to_string();
        let words = ["schema", "apply", "--json", "--slots", &slots];
        let place = ["--scylla", &server, "--keyspace", &keyspace];
        // Nodes that are held up agree late on what tables there are; it can be repeated.
        let mut tries = 0;
        loop {
            tries += 1;
            match json_of("tillstream", &[&words[..], &place].concat()) {
                Ok((_, output)) if output.status.success() => break,
                Ok((status, _)) => bail!("schema apply: {status}"),
                Err(error) if tries == 3 => return Err(error),
                Err(error) => println!("schema apply, try {tries}: {error:#}"),
            }
        }
        Ok(Self {
            folder: tempfile::tempdir()?,
            server,
            keyspace,
            cql,
        })
    }

    /// The data folder of an engine.
    pub(crate) fn data(&self, number: usize) -> PathBuf {
        self.folder.path().join(format!("node{number}"))
    }

    /// Starts an engine on free ports; all but the first have the first one's identity.
    pub(crate) fn engine(&self, number: usize) -> Result<Engine> {
        self.engine_by(number, &self.server, &[])
    }

    /// Starts an engine that reaches the server at another address, with further arguments.
    pub(crate) fn engine_by(&self, number: usize, server: &str, more: &[&str]) -> Result<Engine> {
        let any = ("127.0.0.1:0".to_owned(), "127.0.0.1:0".to_owned());
        self.launch(number, server, &any, more)
    }

    /// Starts an engine again on its data folder, or what is left of it, at the ports that it had.
    pub(crate) fn engine_again(&self, number: usize, ports: &(String, String)) -> Result<Engine> {
        self.launch(number, &self.server, ports, &[])
    }

    fn launch(
        &self,
        number: usize,
        server: &str,
        (listen, admin): &(String, String),
        more: &[&str],
    ) -> Result<Engine> {
        let lease = format!("{}s", LEASE.as_secs());
        let identity = self.identity();
        let mut words = vec!["--dev", "--listen", listen, "--admin", admin];
        words.extend(["--store", "scylla", "--scylla", server]);
        words.extend(["--keyspace", &self.keyspace, "--lease", &lease]);
        if number > 0 {
            words.extend(["--identity", identity.to_str().context("a path")?]);
        }
        words.extend(more);
        Engine::launch(&self.data(number), &words)
    }

    fn identity(&self) -> PathBuf {
        self.data(0).join("pki/device.pem")
    }

    /// Address of each slot's owner; empty where there is none.
    pub(crate) fn owners(&self) -> Result<BTreeMap<i32, String>> {
        let text = format!("SELECT slot, address FROM {}.slots", self.keyspace);
        let rows = self.cql.rows::<(i32, Option<String>)>(&text)?;
        Ok(rows
            .into_iter()
            .map(|(slot, address)| (slot, address.unwrap_or_default()))
            .collect())
    }

    /// Waits until every slot has one of these engines, and each engine has a slot.
    pub(crate) fn shared_by(&self, engines: &[&Engine]) -> Result<()> {
        let addresses: Vec<String> = engines.iter().map(|one| one.quic.to_string()).collect();
        wait_until("these engines share the slots", || {
            let owners = self.owners()?;
            let has_some = |address: &String| owners.values().any(|owner| owner == address);
            let is_known = |owner: &String| addresses.contains(owner);
            Ok(owners.len() == SLOTS
                && owners.values().all(is_known)
                && addresses.iter().all(has_some))
        })
    }

    /// Waits until others have the slots of an engine that fell silent at `since`, and tells the time. Whether it is the promised
    /// one is proven in simulated time: with fewer cores than engines, server and devices, each waits for the others here.
    pub(crate) fn taken_from(&self, gone: &Engine, since: Instant) -> Result<()> {
        let address = gone.quic.to_string();
        self.taken_from_address(&address, since)
    }

    /// As [`Self::taken_from`], of an engine that is no more.
    pub(crate) fn taken_from_address(&self, gone: &str, since: Instant) -> Result<()> {
        wait_until("others have its slots", || {
            let owners = self.owners()?;
            let is_served = |owner: &String| !owner.is_empty() && owner != gone;
            Ok(owners.len() == SLOTS && owners.values().all(is_served))
        })?;
        let took = since.elapsed();
        let promised = LEASE + TAKEOVER;
        println!("its slots were taken after {took:?}; promised: {promised:?} with cores enough");
        Ok(())
    }

    /// What the commands answer from the shared store.
    pub(crate) fn query(&self, words: &[&str]) -> Result<Value> {
        let place = [
            "--json",
            "--scylla",
            &self.server,
            "--keyspace",
            &self.keyspace,
        ];
        let (answer, output) = json_of("tillstream", &[&["query"], words, &place].concat())?;
        ensure!(output.status.success(), "query {words:?}: {answer}");
        Ok(answer["rows"].clone())
    }

    /// Starts devices that know these engines; `asked` answer what the oracle asks.
    pub(crate) fn fleet(
        &self,
        known: &[&Engine],
        asked: &[&Engine],
        workload: Workload,
    ) -> Result<Fleet> {
        let joined = |texts: Vec<String>| texts.join(",");
        let addresses = joined(known.iter().map(|one| one.quic.to_string()).collect());
        let admins = joined(asked.iter().map(|one| one.admin.clone()).collect());
        let mut fleet = Command::new(command("tillload")?);
        fleet
            .args(["fleet", "--json", "--stores", STORES, "--terminals", "1"])
            .args(["--rate", &workload.rate.to_string()])
            .args(["--skus", &workload.skus.to_string()])
            .args(["--seed", &workload.seed.to_string()])
            .args(["--duration", &format!("{}s", workload.seconds)])
            .args(["--addr", &addresses, "--admin", &admins])
            .arg("--identity")
            .arg(self.identity());
        println!("a fleet with seed {}", workload.seed);
        let child = fleet
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .context("start the fleet")?;
        Ok(Fleet(Some(child)))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // A keyspace that stays disturbs nobody.
        let gone = format!("DROP KEYSPACE IF EXISTS {}", self.keyspace);
        drop(self.cql.run(&gone));
    }
}

/// Simulated devices as a process; killed when dropped.
pub(crate) struct Fleet(Option<Child>);

impl Fleet {
    /// Waits for the end of the trade. The oracle must find every event once.
    pub(crate) fn reconciles(mut self) -> Result<Value> {
        let child = self.0.take().context("a fleet ends once")?;
        let output = child.wait_with_output().context("wait for the fleet")?;
        let report: Value = serde_json::from_slice(&output.stdout).context("the fleet's report")?;
        ensure!(
            output.status.success() && report["reconciled"] == true,
            "the oracle found a difference: {report}"
        );
        Ok(report)
    }

    /// The devices are gone for good, with all that they had.
    pub(crate) fn kill(self) {
        drop(self);
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Where devices and people reach an engine, to start it there again.
pub(crate) fn ports(engine: &Engine) -> (String, String) {
    let admin = engine.admin.trim_start_matches("http://");
    (
        engine.quic.to_string(),
        admin.trim_end_matches('/').to_owned(),
    )
}

/// A figure of an engine's `/metrics`.
pub(crate) fn figure(engine: &Engine, name: &str) -> Result<f64> {
    let text = engine.get_text("/metrics")?;
    let line = text.lines().find_map(|line| {
        let rest = line.strip_prefix(name)?;
        rest.strip_prefix(' ')
    });
    let value = line.with_context(|| format!("no {name} in the metrics"))?;
    value
        .trim()
        .parse()
        .with_context(|| format!("{name} is {value}"))
}

/// Waits until an engine has acknowledged so many events in its epoch.
pub(crate) fn has_acked(engine: &Engine, events: f64) -> Result<()> {
    wait_until("devices trade with it", || {
        Ok(figure(engine, "tillstream_events_acked_total")? >= events)
    })
}
