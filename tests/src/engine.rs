//! A running engine, as a process of its own.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::{PATIENCE, command, pause};

/// A running engine. It is killed when dropped.
#[derive(Debug)]
pub struct Engine {
    child: Child,
    data: PathBuf,
    /// Where devices connect.
    pub quic: SocketAddr,
    /// Base URL of the admin port.
    pub admin: String,
    /// PEM file that is authorised for every terminal.
    pub identity: PathBuf,
}

impl Engine {
    /// Starts an engine on a data folder and waits until it accepts.
    ///
    /// # Errors
    /// When it does not come up; the message holds what it said.
    pub fn start(data: &Path) -> Result<Self> {
        Self::start_with(data, &["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
    }

    /// Starts an engine with further arguments.
    ///
    /// # Errors
    /// When it does not come up; the message holds what it said.
    pub fn start_with(data: &Path, arguments: &[&str]) -> Result<Self> {
        let mut all = vec!["--dev"];
        all.extend(arguments);
        Self::launch(data, &all)
    }

    /// Starts an engine with nothing but these arguments, the data folder and the file that says that it accepts.
    ///
    /// # Errors
    /// When it does not come up; the message holds what it said.
    pub fn launch(data: &Path, arguments: &[&str]) -> Result<Self> {
        std::fs::create_dir_all(data).context("make the data folder")?;
        let ready = data.join("ready.json");
        let log = data.join("engine.log");
        remove_if_there(&ready)?;
        let complaints = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)?;
        let mut child = Command::new(command("tillstream")?)
            .args(["serve", "--data"])
            .arg(data)
            .arg("--ready-file")
            .arg(&ready)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(complaints)
            .spawn()
            .context("start the engine")?;
        let told = wait_for_ready(&mut child, &ready).with_context(|| {
            format!(
                "the engine said:\n{}",
                std::fs::read_to_string(&log).unwrap_or_default()
            )
        });
        let told = match told {
            Ok(told) => told,
            Err(error) => {
                stop_child(&mut child);
                return Err(error);
            }
        };
        let text = |key: &str| {
            told.get(key)
                .and_then(Value::as_str)
                .with_context(|| format!("no {key} in {told}"))
        };
        Ok(Self {
            quic: text("quic")?.parse().context("address in the ready file")?,
            admin: text("admin")?.to_owned(),
            identity: PathBuf::from(text("identity")?),
            child,
            data: data.to_path_buf(),
        })
    }

    /// Ends the engine as a power cut would, without a chance to say goodbye.
    ///
    /// # Errors
    /// When the process cannot be killed.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill().context("kill -9")?;
        self.child.wait().context("wait for the killed engine")?;
        Ok(())
    }

    /// Asks the engine to drain and waits until it has.
    ///
    /// # Errors
    /// When it does not end in time or ends with an error.
    pub fn stop(mut self) -> Result<()> {
        self.signal("-TERM")?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                ensure!(
                    status.success(),
                    "the engine ended with {status}\n{}",
                    self.log()
                );
                return Ok(());
            }
            pause();
        }
        bail!("the engine did not drain in {PATIENCE:?}\n{}", self.log())
    }

    /// Stops the engine where it is (SIGSTOP), as a machine that swaps or a virtual one that is moved would.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub fn freeze(&self) -> Result<()> {
        self.signal("-STOP")
    }

    /// Lets a frozen engine go on (SIGCONT).
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub fn thaw(&self) -> Result<()> {
        self.signal("-CONT")
    }

    fn signal(&self, name: &str) -> Result<()> {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args([name, &id]).status()?;
        ensure!(sent.success(), "kill {name} {id}");
        Ok(())
    }

    /// What the engine said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.data.join("engine.log")).unwrap_or_default()
    }

    /// The engine's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A line of what the system says about its memory, in KiB: `VmRSS:` now, `VmHWM:` at most so far.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn kib(&self, name: &str) -> Result<u64> {
        let path = Path::new("/proc").join(self.pid().to_string());
        let status = std::fs::read_to_string(path.join("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.with_context(|| format!("no {name}"))?;
        let kib = kib.split_whitespace().next();
        Ok(kib.with_context(|| format!("{name} is empty"))?.parse()?)
    }

    /// Why the engine is not ready: each check that does not hold, with its reason. Empty when it is.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub fn not_ready(&self) -> Result<Vec<String>> {
        let url = format!("{}/readyz", self.admin.trim_end_matches('/'));
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build()
            .into();
        let answer = agent.get(&url).call();
        let mut answer = answer.with_context(|| format!("GET {url}"))?;
        let told: Value = answer.body_mut().read_json()?;
        let reasons = told.get("reasons").and_then(Value::as_array);
        let reasons = reasons.with_context(|| format!("no reasons in {told}"))?;
        let words = |reason: &Value, key: &str| {
            let word = reason.get(key).and_then(Value::as_str);
            word.unwrap_or_default().to_owned()
        };
        Ok(reasons
            .iter()
            .map(|one| format!("{}: {}", words(one, "name"), words(one, "reason")))
            .collect())
    }

    /// Asks the admin port for a JSON document.
    ///
    /// # Errors
    /// When the engine does not answer with 200 and JSON.
    pub fn get(&self, path: &str) -> Result<Value> {
        let text = self.get_text(path)?;
        serde_json::from_str(&text).with_context(|| format!("GET {path} is not JSON: {text}"))
    }

    /// Asks the admin port for a text.
    ///
    /// # Errors
    /// When the engine does not answer with 200.
    pub fn get_text(&self, path: &str) -> Result<String> {
        let url = format!("{}{path}", self.admin.trim_end_matches('/'));
        crate::get_text(&url)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        stop_child(&mut self.child);
    }
}

fn wait_for_ready(child: &mut Child, ready: &Path) -> Result<Value> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            bail!("the engine ended with {status} before it accepted");
        }
        match std::fs::read_to_string(ready) {
            Ok(text) => return serde_json::from_str(&text).context("ready file is not JSON"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => pause(),
            Err(error) => return Err(error).context("read the ready file"),
        }
    }
    bail!("the engine did not accept within {PATIENCE:?}")
}

fn remove_if_there(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("remove {}", path.display())),
    }
}

/// Best effort on the way out: a child that is gone already is what was wanted.
fn stop_child(child: &mut Child) {
    drop(child.kill());
    drop(child.wait());
}
