//! Where answers come from: the engine that has a data folder open, or the folder itself.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use serde_json::Value;
use till_ops::{Question, Topic, query_string};
use till_runtime::{LockError, OfflineError};
use ureq::Agent;

use crate::Usage;
use crate::args::SourceArgs;
use crate::offline::Folder;
use crate::shared::Keyspace;

/// Longest wait for an engine's answer; a little longer than the engine gives itself.
const ANSWER_MAX: Duration = Duration::from_secs(40);

/// Longest search for whoever answers for a folder that changes hands meanwhile.
const LOOK_MAX: Duration = Duration::from_secs(10);

/// Time between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Largest answer that is taken: the stock of a large store.
const ANSWER_BYTES_MAX: u64 = 4 << 30;

/// Where answers come from.
#[derive(Debug)]
pub(crate) enum Source {
    /// A running engine, by the URL of its admin port.
    Running(Running),
    /// A data folder that no engine has open, nor can open while this is.
    Folder(PathBuf, Box<Folder>),
    /// The store that engines share.
    Shared(Box<Keyspace>),
}

/// A running engine.
#[derive(Debug)]
pub(crate) struct Running {
    agent: Agent,
    url: String,
}

impl Source {
    /// Opens the source that the arguments name.
    ///
    /// # Errors
    /// Returns an error when the data folder is not there, or cannot be had.
    pub(crate) fn open(args: &SourceArgs) -> anyhow::Result<Self> {
        if let Some(url) = &args.addr {
            return Ok(Self::Running(Running::at(url)));
        }
        if let Some(cluster) = args.shared.cluster() {
            return Ok(Self::Shared(Box::new(Keyspace::open(&cluster)?)));
        }
        let Some(dir) = &args.data else {
            return Err(Usage(
                "give --data DIR, --addr URL, or --scylla HOST:PORT with --keyspace NAME"
                    .to_owned(),
            )
            .into());
        };
        if !dir.is_dir() {
            bail!("there is no data folder {}", dir.display());
        }
        let began = Instant::now();
        let mut refused = None;
        loop {
            if let Some(engine) = running(dir) {
                return Ok(Self::Running(engine));
            }
            if let Some(error) = refused
                && began.elapsed() > LOOK_MAX
            {
                return Err(error);
            }
            // An engine may have come up, or ended, since the look.
            match Folder::open(dir) {
                Ok(folder) => return Ok(Self::Folder(dir.clone(), Box::new(folder))),
                Err(error) if is_held(&error) => refused = Some(error),
                Err(error) => return Err(error),
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Answers a question as one line of JSON.
    ///
    /// # Errors
    /// Returns [`Usage`] for a wrong parameter, else what kept the source from answering.
    pub(crate) fn ask(&self, topic: Topic, pairs: &[(String, String)]) -> anyhow::Result<String> {
        let question = question(topic, pairs)?;
        match self {
            Self::Running(engine) => {
                engine.get(&format!("/api/v1/{}?{}", topic.word(), query_string(pairs)))
            }
            Self::Folder(_, folder) => Ok(folder.answer(&question)?.into_json()),
            Self::Shared(keyspace) => Ok(keyspace.answer(&question)?.into_json()),
        }
    }

    /// Decides quarantined events again; gives (applied, still quarantined).
    ///
    /// # Errors
    /// Returns what kept the source from doing it.
    pub(crate) fn retry_quarantine(self) -> anyhow::Result<(u64, u64)> {
        match self {
            Self::Running(engine) => {
                let answer: Value =
                    serde_json::from_str(&engine.post("/api/v1/quarantine/retry")?)?;
                let number = |name: &str| answer.get(name).and_then(Value::as_u64);
                number("applied")
                    .zip(number("quarantined"))
                    .ok_or_else(|| anyhow!("the engine answered {answer}"))
            }
            Self::Folder(_, folder) => folder.retry_quarantine(),
            Self::Shared(_) => bail!(
                "only an engine can decide again: give the URL of the one that serves the store with --addr"
            ),
        }
    }

    /// The records that other engines handed off and that have no place.
    ///
    /// # Errors
    /// Returns what kept the source from answering.
    pub(crate) fn stranded(&self) -> anyhow::Result<Vec<Value>> {
        match self {
            Self::Running(engine) => {
                let text = engine.get("/api/v1/quarantine/stranded")?;
                let answer: Value = serde_json::from_str(&text)?;
                let rows = answer.get("rows").and_then(Value::as_array);
                rows.cloned()
                    .ok_or_else(|| anyhow!("the engine answered {answer}"))
            }
            // To one with rows of its own nothing is handed off.
            Self::Folder(..) => Ok(Vec::new()),
            Self::Shared(keyspace) => keyspace.stranded(),
        }
    }

    /// Lets one of them count; gives the epoch that it has then.
    ///
    /// # Errors
    /// Returns what kept the engine from doing it.
    pub(crate) fn release(self, record: &str) -> anyhow::Result<u64> {
        match self {
            Self::Running(engine) => {
                let text = engine.post(&format!("/api/v1/quarantine/release/{record}"))?;
                let answer: Value = serde_json::from_str(&text)?;
                let epoch = answer.get("epoch").and_then(Value::as_u64);
                epoch.ok_or_else(|| anyhow!("the engine answered {answer}"))
            }
            Self::Folder(..) => bail!("nothing is handed off to an engine with rows of its own"),
            Self::Shared(_) => bail!(
                "only an engine can release: give the URL of the one that serves the store with --addr"
            ),
        }
    }

    /// Whether answers come from the store that engines share, past every engine.
    pub(crate) const fn is_shared(&self) -> bool {
        matches!(self, Self::Shared(_))
    }

    /// In words, for the line about freshness.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Running(engine) => format!("the engine at {}", engine.url),
            Self::Folder(dir, _) => format!("the folder {} (no engine runs on it)", dir.display()),
            Self::Shared(_) => "the shared store".to_owned(),
        }
    }
}

/// A question as its words say.
///
/// # Errors
/// Returns [`Usage`] for a wrong parameter.
pub(crate) fn question(topic: Topic, pairs: &[(String, String)]) -> anyhow::Result<Question> {
    Ok(Question::parse(topic, pairs).map_err(|error| Usage(error.to_string()))?)
}

fn is_held(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref::<OfflineError>(),
        Some(OfflineError::Lock(LockError::Held { .. }))
    )
}

/// The engine that has the folder open, if one answers.
pub(crate) fn running(dir: &Path) -> Option<Running> {
    let text = std::fs::read_to_string(dir.join("engine.json")).ok()?;
    let named: Value = serde_json::from_str(&text).ok()?;
    let engine = Running::at(named.get("admin")?.as_str()?);
    let pid = named.get("pid")?.as_u64()?;
    // Another program may have the port by now; the engine says which process it is.
    let status: Value = serde_json::from_str(&engine.get("/api/v1/status").ok()?).ok()?;
    (status.get("pid")?.as_u64()? == pid).then_some(engine)
}

impl Running {
    /// An engine by the address of its admin port.
    pub(crate) fn at(url: &str) -> Self {
        let url = url.trim_end_matches('/');
        let url = if url.contains("://") {
            url.to_owned()
        } else {
            format!("http://{url}")
        };
        let agent = Agent::config_builder()
            .timeout_connect(Some(Duration::from_secs(5)))
            .timeout_global(Some(ANSWER_MAX))
            .http_status_as_error(false)
            .build()
            .into();
        Self { agent, url }
    }

    /// Gets a path.
    ///
    /// # Errors
    /// Returns what kept the engine from answering, in its own words where it gave any.
    pub(crate) fn get(&self, path: &str) -> anyhow::Result<String> {
        let answer = self.agent.get(format!("{}{path}", self.url)).call();
        self.text(answer)
    }

    /// Posts an empty body to a path.
    ///
    /// # Errors
    /// See [`Self::get`].
    pub(crate) fn post(&self, path: &str) -> anyhow::Result<String> {
        let answer = self.agent.post(format!("{}{path}", self.url)).send_empty();
        self.text(answer)
    }

    fn text(
        &self,
        answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> anyhow::Result<String> {
        let mut answer = answer.with_context(|| format!("no engine answers at {}", self.url))?;
        let status = answer.status();
        let text = answer
            .body_mut()
            .with_config()
            .limit(ANSWER_BYTES_MAX)
            .read_to_string()
            .with_context(|| format!("answer of {}", self.url))?;
        if status.is_success() {
            return Ok(text);
        }
        let answer_text: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        let message = answer_text
            .pointer("/error/message")
            .and_then(Value::as_str);
        let message = message.map_or_else(|| format!("HTTP {status}"), str::to_owned);
        if status.as_u16() == 400 {
            return Err(Usage(message).into());
        }
        bail!("the engine at {} says: {message}", self.url)
    }
}
